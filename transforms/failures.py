"""Failures of all stages: gathered and counted, then written as JSON lines, one failure a line."""

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence

import apache_beam as beam

from transforms import counters
from transforms.records import Failure, uri
from transforms.shards import WriteShards


@dataclasses.dataclass(eq=False)
class GatherFailures(beam.PTransform):
    """Failure of each stage, in several collections → all of them in one, counted."""

    def expand(self, stages: tuple[beam.PCollection[Failure], ...]) -> beam.PCollection[Failure]:
        return stages | "All" >> beam.Flatten() | "Count" >> beam.Map(_counted).with_output_types(Failure)


@dataclasses.dataclass(eq=False)
class WriteFailures(beam.PTransform):
    """Failure → Shard, and `StageSeconds` under their tag; writes `<output>/failures/<run_id>/part-….jsonl`.

    Where nothing failed there is no file.

    Attributes: see WriteTFRecords.
    """

    output: str
    run_id: str
    before_naming: Callable[[], None] | None = None

    def expand(self, failures: beam.PCollection[Failure]) -> dict[str, beam.PCollection]:
        encode = functools.partial(_encode, run_id=self.run_id)
        place = directory(self.output, self.run_id)
        return (failures,) | "Write" >> WriteShards(place, ".jsonl", encode, before_naming=self.before_naming)


def directory(output: str, run_id: str) -> str:
    """Returns where the failures of a run lie."""
    return f"{output}/failures/{run_id}"


def to_json(failure: Failure, run_id: str) -> str:
    """Returns a failure as one line of JSON.

    A key that is not UTF-8 has its odd bytes as lone surrogates (PEP 383), which JSON's escapes carry: in Python
    `json.loads(line)["key"].encode("utf-8", "surrogateescape")` gives the key back.
    """
    fields = dataclasses.asdict(failure) | {"key": uri(failure.key), "run_id": run_id}
    return json.dumps(fields, ensure_ascii=True)


def _encode(failures: Sequence[Failure], run_id: str) -> list[bytes]:
    return [f"{to_json(failure, run_id)}\n".encode() for failure in failures]


def _counted(failure: Failure) -> Failure:
    counters.inc(counters.IMAGES_FAILED)
    counters.inc(counters.failed(failure.stage))
    return failure
