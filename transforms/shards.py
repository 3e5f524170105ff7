"""Records → files `part-SSSSS-of-NNNNN` in one directory. A file gets its final name once all files are complete.

Each bundle writes parts under random names. When every part is closed, the parts are counted, numbered and named. So no
record crosses a shuffle. A bundle that runs twice leaves a stray part but no duplicate record. A reader that sees
`part-00003-of-00007` knows how many files to expect.

A runner that loses a worker may repeat any step with other parts, even after some were named. So a part keeps its first
name until all parts have their final ones. Files of earlier attempts under final names are removed at the end. The
files of an earlier run in the same directory also stay until all new parts are complete.
"""

import dataclasses
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

from transforms.records import Shard, StageSeconds
from transforms.run_id import check_run_id
from transforms.stage import SECONDS, Stage, WriteOutput
from transforms.storage import files

STAGE = "write"

# A part is closed at this size, so that even a bundle with half of the input writes files of a handy size.
MAX_SHARD_BYTES = 256 * 2**20

_BATCH = 64
_PARTS = ".parts"
_NO_SHARD = Shard("", 0)


def check_run(output: str, run_id: str) -> None:
    """Raises ValueError if `output` is empty, or a run cannot have the name `run_id`."""
    if not output:
        raise ValueError(f"output={output!r}: expected a directory, local or in cloud storage")
    try:
        check_run_id(run_id)
    except ValueError as error:
        raise ValueError(f"run_id={error}") from error


@dataclasses.dataclass(eq=False)
class WriteShards(Stage):
    """Records of one type, in a tuple of collections → WriteOutput.

    The collections are not merged, because the local runner holds merged collections in memory. Each is written where
    it is made.

    >>> import pathlib, tempfile
    >>> directory = tempfile.mkdtemp()
    >>> write = WriteShards(directory, ".txt", lambda names: [name.encode() for name in names])
    >>> with beam.Pipeline(runner="FnApiRunner") as pipeline:
    ...     _ = (pipeline | beam.Create(["a"]),) | write
    >>> pathlib.Path(directory, "part-00000-of-00001.txt").read_text()
    'a'

    Attributes:
      directory: holds nothing but these files.
      suffix: of their names, with the dot.
      encode: a batch of records → their bytes, one item per record, framed as the file needs them.
      max_shard_bytes: a part is closed at this size.
      before_naming: called once all parts are complete, before a file gets or loses a final name. If a runner repeats a
        step, it is called again.

    Raises:
      ValueError: if an attribute is invalid.
    """

    directory: str
    suffix: str
    encode: Callable[[Sequence[Any]], Sequence[bytes]]
    max_shard_bytes: int = MAX_SHARD_BYTES
    before_naming: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        if not self.directory:
            raise ValueError(f"directory={self.directory!r}: expected a path, local or in cloud storage")
        if not self.suffix.startswith("."):
            raise ValueError(f"suffix={self.suffix!r}: expected a dot and letters, such as .tfrecord")
        if self.max_shard_bytes < 1:
            raise ValueError(f"max_shard_bytes={self.max_shard_bytes!r}: expected a number of bytes from 1")

    def expand(self, collections: tuple[beam.PCollection, ...]) -> WriteOutput:
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
        # Makes RemoveStrays run even if nothing was published now, because an earlier attempt may have published files.
        no_shard = published.pipeline | "None" >> beam.Create([_NO_SHARD]).with_output_types(Shard)
        shards = (
            [published, no_shard]
            | "PublishedOrNone" >> beam.Flatten()
            | "AllPublished" >> _Together()
            | "RemoveStrays"
            >> beam.FlatMap(_remove_strays, self.directory, self.before_naming).with_output_types(Shard)
        )
        seconds = [outputs[SECONDS] for outputs in written] | "Seconds" >> beam.Flatten()
        return WriteOutput(shards, seconds)

    @property
    def _parts(self) -> str:
        return f"{self.directory}/{_PARTS}"


class _Together(beam.PTransform):
    """Shard → one list of all of them, or no element if there are none."""

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
        yield beam.pvalue.TaggedOutput(SECONDS, StageSeconds.of(STAGE, time.perf_counter() - start))
        if self._bytes >= self._max_shard_bytes:
            yield from self._close()

    def _close(self) -> Iterable[Any]:
        if self._file is None:
            return
        start = time.perf_counter()
        self._file.close()  # raises if cloud storage has not taken all bytes
        self._file = None
        yield beam.pvalue.TaggedOutput(SECONDS, StageSeconds.of(STAGE, time.perf_counter() - start))
        yield Shard(self._path, self._records)


def number(parts: Sequence[Shard], directory: str, suffix: str) -> Iterable[tuple[str, Shard]]:
    """Yields each part's path with the shard that it becomes. The numbers do not depend on the order of the parts."""
    for i, part in enumerate(sorted(parts, key=lambda part: part.path)):
        yield part.path, Shard(f"{directory}/part-{i:05d}-of-{len(parts):05d}{suffix}", part.records)


def are_all(directory: str, shards: int) -> bool:
    """Returns whether a directory holds exactly `shards` shards, all of one attempt, and no unnamed part."""
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
        before_naming()  # without any part, nothing has called it yet
    shards = [shard for shard in published if shard != _NO_SHARD]
    published_paths = {shard.path for shard in shards}
    for file in files.match(f"{directory}/part-*-of-*"):
        if file.path not in published_paths:
            files.remove_file(file.path)
    files.remove(f"{directory}/{_PARTS}")
    return shards
