"""Failures of all stages: gathered and counted, then written as JSON, one failure per line."""

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence

import apache_beam as beam

from transforms.elements import counters, keys
from transforms.elements.records import Failure
from transforms.elements.stage import Stage, WriteOutput
from transforms.output import layout
from transforms.output.parts import Check, Framed, Label
from transforms.output.shards import MAX_SHARD_SECONDS, WriteParts, WriteShards, check_run


@dataclasses.dataclass(eq=False)
class GatherFailures(Stage):
    """Failures of several stages, a tuple of collections → one collection of them, counted and marked.

    >>> failure = Failure.of(b"a.jpg", "read", OSError("no route to host"))
    >>> with beam.Pipeline(runner="FnApiRunner") as pipeline:
    ...     of_read, of_decode = (pipeline | stage >> beam.Create([failure]) for stage in ("Read", "Decode"))
    ...     _ = (of_read, of_decode) | GatherFailures() | beam.Map(lambda failure: print(failure.error))
    OSError
    OSError

    Attributes:
      are_files: whether the images were listed as files, and not in shards.
    """

    are_files: bool = True

    def expand(self, stages: tuple[beam.PCollection[Failure], ...]) -> beam.PCollection[Failure]:
        count = beam.Map(_counted, self.are_files).with_output_types(Failure)
        return stages | "All" >> beam.Flatten() | "Count" >> count


@dataclasses.dataclass(eq=False)
class WriteFailures(Stage):
    """Failure → WriteOutput; writes `<output>/failures/<run_id>/part-….jsonl`, or no file if nothing failed.

    >>> import pathlib, tempfile
    >>> output = tempfile.mkdtemp()
    >>> with beam.Pipeline(runner="FnApiRunner") as pipeline:
    ...     failures = pipeline | beam.Create([Failure.of(b"a.jpg", "read", OSError("gone"))])
    ...     _ = failures | WriteFailures(output, "first")
    >>> line = pathlib.Path(output, "failures/first/part-00000-of-00001.jsonl").read_text()
    >>> print(line[: line.index(', "retryable"')])
    {"key": "a.jpg", "stage": "read", "error": "OSError", "message": "gone"

    Attributes:
      output: a directory, local or in cloud storage.
      run_id: names the run.
      before_naming: see WriteShards.

    Raises:
      ValueError: if an attribute is invalid.
    """

    output: str
    run_id: str
    before_naming: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        check_run(self.output, self.run_id)

    def expand(self, failures: beam.PCollection[Failure]) -> WriteOutput:
        return (failures,) | "Write" >> WriteShards(write_parts(self.output, self.run_id), self.before_naming)


def write_parts(
    output: str,
    run_id: str,
    labels: tuple[Label, ...] = (),
    max_seconds: float = MAX_SHARD_SECONDS,
    check: Check | None = None,
) -> WriteParts:
    """Returns the transform that writes the parts of a run's failures, without naming them. See WriteParts."""
    lines = Framed(layout.FAILURE_SUFFIX, functools.partial(_encode, run_id=run_id), is_hashed=True)
    return WriteParts(layout.failures(output, run_id), lines, labels, max_seconds=max_seconds, check=check)


def to_json(failure: Failure, run_id: str) -> str:
    """Returns a failure as one line of JSON.

    In a key that is not valid UTF-8, the other bytes become lone surrogates (PEP 383), which JSON escapes. In Python
    `json.loads(line)["key"].encode("utf-8", "surrogateescape")` returns the key.
    """
    fields = dataclasses.asdict(failure) | {"key": keys.uri(failure.key), "run_id": run_id}
    return json.dumps(fields, ensure_ascii=True)


def of_json(line: bytes) -> tuple[bytes, bool, bool]:
    """Returns the key of a failure, whether it is retryable, and whether it says that the key is that of a file.

    Raises:
      ValueError: for what `to_json` does not write.
    """
    try:
        facts = json.loads(line)
        key, retryable, is_file = facts["key"], facts["retryable"], facts.get("is_file") is True
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    except (KeyError, TypeError) as error:
        raise ValueError("no failure") from error
    if not isinstance(key, str) or not isinstance(retryable, bool) or not line.endswith(b"\n"):
        raise ValueError("no failure, or cut off")
    return keys.of_uri(key), retryable, is_file


def _encode(failures: Sequence[Failure], run_id: str) -> list[bytes]:
    return [f"{to_json(failure, run_id)}\n".encode() for failure in failures]


def _counted(failure: Failure, is_file: bool) -> Failure:
    counters.inc(counters.IMAGES_FAILED)
    counters.inc(counters.failed(failure.stage))
    return dataclasses.replace(failure, is_file=is_file)
