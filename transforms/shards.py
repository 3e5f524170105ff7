"""Records → files `part-SSSSS-of-NNNNN` in one directory, each under its name only when all are complete.

Bundles write parts under names of their own; when every part is closed they are counted, numbered and named. So no
record crosses a shuffle, a bundle that runs twice leaves a stray part and no double record, and a reader that sees
`part-00003-of-00007` knows what it waits for.

A runner that loses a worker may do any of it again, with other parts, even after some were named. So a part keeps its
first name until all have their final one, and final names that are not of the last attempt go with the parts. In the
same way the files of an earlier run in the same directory stay until all new parts are complete, and then give way.
"""

import dataclasses
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

from transforms.records import SECONDS, Shard, StageSeconds
from transforms.storage import files

STAGE = "write"

# A part is closed at this size, so that a bundle which holds half of the input still makes files of a handy size.
MAX_SHARD_BYTES = 256 * 2**20

_BATCH = 64
_PARTS = ".parts"
_NONE = Shard("", 0)


@dataclasses.dataclass(eq=False)
class WriteShards(beam.PTransform):
    """Records of any one type, in one collection or several → Shard, and `StageSeconds` under their tag.

    Several are never merged: each is written where it is made, since the local runner would hold what it merges.

    Attributes:
      directory: where the files go; nothing else may lie there.
      suffix: what their names end in, the dot included.
      encode: a batch of records → their bytes, one item a record, framed as the file needs them.
      before_naming: called once all parts are complete, before a file gets a final name or loses one; more than once
        where a runner repeats itself.
    """

    directory: str
    suffix: str
    encode: Callable[[Sequence[Any]], Sequence[bytes]]
    max_shard_bytes: int = MAX_SHARD_BYTES
    before_naming: Callable[[], None] | None = None

    def expand(self, collections: tuple[beam.PCollection, ...]) -> dict[str, beam.PCollection]:
        write = _WriteParts(self._parts, self.suffix, self.encode, self.max_shard_bytes)
        written = [
            records | f"WriteParts{i}" >> beam.ParDo(write).with_outputs(SECONDS, main="parts")
            for i, records in enumerate(collections)
        ]
        published = (
            [outputs["parts"] for outputs in written]
            | "Parts" >> beam.Flatten()
            | "AllParts" >> _Together()
            | "Number" >> beam.FlatMap(_number, self.directory, self.suffix, self.before_naming)
            | "Spread" >> beam.Reshuffle()
            | "Publish" >> beam.MapTuple(_publish).with_output_types(Shard)
        )
        # There to clean up where nothing is published, and an earlier attempt did publish.
        none = published.pipeline | "None" >> beam.Create([_NONE]).with_output_types(Shard)
        shards = (
            [published, none]
            | "PublishedOrNone" >> beam.Flatten()
            | "AllPublished" >> _Together()
            | "RemoveStrays"
            >> beam.FlatMap(_remove_strays, self.directory, self.before_naming).with_output_types(Shard)
        )
        return {"shards": shards, SECONDS: [outputs[SECONDS] for outputs in written] | "Seconds" >> beam.Flatten()}

    @property
    def _parts(self) -> str:
        return f"{self.directory}/{_PARTS}"


class _Together(beam.PTransform):
    """Shard → a list of all; where there is none, nothing."""

    def expand(self, shards: beam.PCollection[Shard]) -> beam.PCollection[list[Shard]]:
        return (
            shards
            | "Key" >> beam.Map(_keyed).with_output_types(tuple[bool, Shard])
            | "Group" >> beam.GroupByKey()
            | "List" >> beam.MapTuple(_listed)
        )


class _WriteParts(beam.DoFn):
    def __init__(
        self, directory: str, suffix: str, encode: Callable[[Sequence[Any]], Sequence[bytes]], max_shard_bytes: int
    ):
        self._directory = directory
        self._suffix = suffix
        self._encode = encode
        self._max_shard_bytes = max_shard_bytes

    def start_bundle(self) -> None:
        self._batch: list[Any] = []
        self._file: BinaryIO | None = None

    def process(self, record: Any) -> Iterable[Shard]:
        self._batch.append(record)
        if len(self._batch) == _BATCH:
            yield from self._write_batch()

    def finish_bundle(self) -> Iterable[Any]:
        for output in [*(self._write_batch() if self._batch else ()), *self._close()]:
            if isinstance(output, beam.pvalue.TaggedOutput):
                yield beam.pvalue.TaggedOutput(output.tag, GlobalWindows.windowed_value(output.value))
            else:
                yield GlobalWindows.windowed_value(output)

    def _write_batch(self) -> Iterable[Any]:
        start = time.perf_counter()
        if self._file is None:
            self._path = f"{self._directory}/{uuid.uuid4().hex}{self._suffix}"
            self._file, self._bytes, self._records = files.create(self._path), 0, 0
        encoded = self._encode(self._batch)
        self._file.writelines(encoded)
        self._bytes += sum(map(len, encoded))
        self._records += len(encoded)
        self._batch = []
        yield beam.pvalue.TaggedOutput(SECONDS, StageSeconds(STAGE, time.perf_counter() - start))
        if self._bytes >= self._max_shard_bytes:
            yield from self._close()

    def _close(self) -> Iterable[Any]:
        if self._file is None:
            return
        start = time.perf_counter()
        self._file.close()  # what a cloud has not taken by now raises here
        self._file = None
        yield beam.pvalue.TaggedOutput(SECONDS, StageSeconds(STAGE, time.perf_counter() - start))
        yield Shard(self._path, self._records)


def number(parts: Sequence[Shard], directory: str, suffix: str) -> Iterable[tuple[str, Shard]]:
    """Yields each part's path with the shard that it becomes; the same parts in any order get the same numbers."""
    for i, part in enumerate(sorted(parts, key=lambda part: part.path)):
        yield part.path, Shard(f"{directory}/part-{i:05d}-of-{len(parts):05d}{suffix}", part.records)


def are_all(directory: str, shards: int) -> bool:
    """Returns whether a directory holds so many shards, all of one attempt, and no part that waits for its name."""
    paths = [file.path for file in files.match(f"{directory}/part-*")]
    numbered = [path for path in paths if f"-of-{shards:05d}." in path]
    return len(paths) == len(numbered) == shards and not files.match(f"{directory}/{_PARTS}/*", limit=1)


def _number(
    parts: list[Shard], directory: str, suffix: str, before_naming: Callable[[], None] | None
) -> Iterable[tuple[str, Shard]]:
    if before_naming:
        before_naming()
    return number(parts, directory, suffix)


def _keyed(shard: Shard) -> tuple[bool, Shard]:
    return True, shard


def _listed(_: bool, shards: Iterable[Shard]) -> list[Shard]:
    return list(shards)


def _publish(part: str, shard: Shard) -> Shard:
    files.name(part, shard.path)
    return shard


def _remove_strays(
    published: list[Shard], directory: str, before_naming: Callable[[], None] | None = None
) -> list[Shard]:
    if before_naming:
        before_naming()  # where there is no part, nothing was named
    shards = [shard for shard in published if shard != _NONE]
    named = {shard.path for shard in shards}
    for file in files.match(f"{directory}/part-*-of-*"):
        if file.path not in named:
            files.remove_file(file.path)
    files.remove(f"{directory}/{_PARTS}")
    return shards
