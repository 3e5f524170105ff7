"""The sample of a complete run from its files: for a page that could not be written when the run ended."""

import heapq
import json
from collections.abc import Iterator
from typing import Any

from pipeline.report import sampling
from pipeline.report.page.sampled_images import MAX_SAMPLE
from pipeline.report.run_report import RunReport
from transforms import failures
from transforms.elements.records import Failure
from transforms.encoding import record_files
from transforms.output import layout
from transforms.storage import files


def collected(output: str, report: RunReport) -> sampling.Collected:
    """Returns what CollectSample would have returned for a run, without pictures.

    Raises:
      OSError, ValueError: if a file of the run cannot be read, or is broken.
    """
    kinds: dict[str, list[tuple[Any, ...]]] = {}
    for elements in (_vectors(output, report), _failures(output, report)):
        for kind, element in elements:
            smallest = kinds.setdefault(kind, [])
            smallest.append(element)
            if len(smallest) >= 2 * MAX_SAMPLE:
                kinds[kind] = heapq.nsmallest(MAX_SAMPLE, smallest)
    return {kind: heapq.nsmallest(MAX_SAMPLE, elements) for kind, elements in kinds.items()}


def _vectors(output: str, report: RunReport) -> Iterator[tuple[str, tuple[Any, ...]]]:
    directory = layout.vectors(output, report.run_id)
    for file in files.match(layout.shards(directory, f".{report.output_formats[0]}")):
        with files.open_stored(file.path) as stored:
            for of_keys, matrix, *_ in record_files.vectors(file.path, stored):
                for key, vector in zip(of_keys, matrix, strict=True):
                    yield sampling.of_vector(key, vector.tobytes())


def _failures(output: str, report: RunReport) -> Iterator[tuple[str, tuple[Any, ...]]]:
    names = "stage", "error", "message", "retryable"
    for file in files.match(layout.shards(layout.failures(output, report.run_id), layout.FAILURE_SUFFIX)):
        with files.open_stored(file.path) as stored:
            for line in stored:
                key, *_ = failures.of_json(line)
                facts = json.loads(line)
                yield sampling.of_failure(Failure(key, *(facts.get(name, "") for name in names)))
