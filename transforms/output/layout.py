"""All paths below an output, each defined once.

    <output>/schema.pbtxt
    <output>/embeddings/<run_id>/part-SSSSS-of-NNNNN.tfrecord, .parquet
    <output>/failures/<run_id>/part-SSSSS-of-NNNNN.jsonl
    <output>/runs/<run_id>.json, .html, .statistics, .unfinished

The parts of unfinished files lie in `.parts` below the directory of the final files. With "" as output, paths are
relative to it. With "*" as run_id, they are patterns for all runs.
"""

import re
from collections.abc import Callable

from transforms.elements.formats import OUTPUT_FORMATS

# An output and a run → a path.
PathOf = Callable[[str, str], str]

SCHEMA = "schema.pbtxt"
VECTOR_SUFFIXES = tuple(f".{output_format}" for output_format in OUTPUT_FORMATS)
FAILURE_SUFFIX = ".jsonl"

# No two runs share one of these files, whatever their names: each suffix has exactly one dot.
_REPORT, _PAGE, _STATISTICS, _CLAIM = ".json", ".html", ".statistics", ".unfinished"
# The name of a file that `files.write` fills beside its final name. The first group is the name of the run.
_BEING_WRITTEN = re.compile(r"\.(.+)\.(?:json|html|statistics)\.[0-9a-f]{32}", re.DOTALL)


def schema(output: str) -> str:
    """Returns the path of the schema of all TFRecords."""
    return _below(output, SCHEMA)


def vectors(output: str, run_id: str) -> str:
    """Returns the directory of a run's vectors."""
    return _below(output, f"embeddings/{run_id}")


def failures(output: str, run_id: str) -> str:
    """Returns the directory of a run's failures."""
    return _below(output, f"failures/{run_id}")


def shards(directory: str, suffix: str = "") -> str:
    """Returns the pattern of the files with final names in a directory of vectors or failures."""
    return f"{directory}/part-*{suffix}"


def shard(directory: str, number: int, total: int, suffix: str) -> str:
    """Returns the final name of a file; `number` counts the `total` files with this suffix from 0."""
    return f"{directory}/part-{number:05d}-of-{total:05d}{suffix}"


def parts(directory: str) -> str:
    """Returns the directory of the parts of vectors or failures, whose final names are in `directory`."""
    return f"{directory}/.parts"


def runs(output: str) -> str:
    """Returns the directory of the files that each run has once."""
    return _below(output, "runs")


def report(output: str, run_id: str) -> str:
    """Returns the path of a run's report."""
    return f"{runs(output)}/{run_id}{_REPORT}"


def page(output: str, run_id: str) -> str:
    """Returns the path of a run's page."""
    return f"{runs(output)}/{run_id}{_PAGE}"


def statistics(output: str, run_id: str) -> str:
    """Returns the path of the statistics in a run's page."""
    return f"{runs(output)}/{run_id}{_STATISTICS}"


# The files of a page, in the order of writing: if the last one exists, so do the others.
OF_PAGE: tuple[PathOf, ...] = statistics, page


def claim(output: str, run_id: str) -> str:
    """Returns the path of the claim to a run."""
    return f"{runs(output)}/{run_id}{_CLAIM}"


def run_id(path: str) -> str:
    """Returns the run of a file in `runs`, from its path.

    >>> run_id("gs://bucket/vectors/runs/night.2.json")
    'night.2'
    """
    return path.rpartition("/")[2].rpartition(".")[0]


def run_being_written(name: str) -> str | None:
    """Returns the run of a hidden file that becomes a report, a page or statistics; None for another file's name."""
    of_run = _BEING_WRITTEN.fullmatch(name)
    return of_run[1] if of_run else None


def run_of_vectors(directory: str) -> tuple[str, str]:
    """Returns the output and the run of a directory of vectors; ("", "") if it does not lie as `vectors` puts it."""
    output, _, run = directory.rpartition("/embeddings/")
    return (output, run) if output and "/" not in run else ("", "")


def _below(output: str, path: str) -> str:
    return f"{output}/{path}" if output else path
