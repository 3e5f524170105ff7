"""Running a small pipeline in this process, and what comes out of it as lists."""

import collections
import uuid
from collections.abc import Callable
from typing import Any

import apache_beam as beam
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline

from transforms.elements import counters

# By a token of the pipeline and the name of the collection: what a test hands over is pickled, this module is not.
_kept: dict[tuple[str, str], list[Any]] = collections.defaultdict(list)


def collect(
    build: Callable[[beam.Pipeline], Any],
) -> tuple[dict[str, list[Any]], dict[str, int]]:
    """Returns the elements of each collection that `build` makes of a pipeline, by its name, and the counters.

    Args:
      build: pipeline → collections by name: a dict, or a NamedTuple as stages give it.
    """
    token = uuid.uuid4().hex
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        outputs = build(pipeline)
        outputs = outputs if isinstance(outputs, dict) else outputs._asdict()
        for name, collection in outputs.items():
            _ = collection | f"Keep {name}" >> beam.Map(_keep, token, name)
    return {name: _kept.pop((token, name), []) for name in outputs}, counters.of_job(pipeline.result)


def _keep(element: Any, token: str, name: str) -> None:
    _kept[token, name].append(element)
