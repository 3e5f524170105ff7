"""Records → files `part-SSSSS-of-NNNNN` in one directory. A file gets its final name once all files are complete.

Each bundle writes parts under random names. When every part is closed, the parts are counted, numbered and named. So no
record crosses a shuffle. A bundle that runs twice leaves a stray part but no duplicate record. A reader that sees
`part-00003-of-00007` knows how many files to expect.

A runner that loses a worker may repeat any step with other parts, even after some were named. So a part keeps its first
name until the run is finished. Files of earlier attempts under final names are removed once all new files have theirs.
"""

import dataclasses
import functools
import posixpath
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

from transforms.elements.records import Shard, StageSeconds
from transforms.elements.run_id import check_run_id
from transforms.elements.stage import SECONDS, Stage, WriteOutput
from transforms.output import layout
from transforms.output.parts import Check, Format, Label, PartWriter
from transforms.storage import files

STAGE = "write"

# A part is closed at this size, so that even a bundle with half of the input writes files of a handy size.
MAX_SHARD_BYTES = 256 * 2**20
# A part in a bucket is closed at this age, so that a job that is killed loses no more than that.
MAX_SHARD_SECONDS = 60.0

# Naming an object in a bucket is a request of some 50 ms.
_NAMING_AT_ONCE = 32


def check_run(output: str, run_id: str) -> None:
    """Raises ValueError if `output` is empty, or a run cannot have the name `run_id`."""
    if not output:
        raise ValueError(f"output={output!r}: expected a directory, local or in cloud storage")
    try:
        check_run_id(run_id)
    except ValueError as error:
        raise ValueError(f"run_id={error}") from error


@dataclasses.dataclass(eq=False)
class WriteParts(Stage):
    """Records of one type, in a tuple of collections → WriteOutput, whose shards have no final names yet.

    The collections are not merged, because the local runner holds merged collections in memory. Each is written where
    it is made.

    Attributes:
      directory: the directory of the shards. The parts lie in a directory of its own below it.
      part_format: of the files.
      labels: the label of each collection's parts; () for parts without labels.
      max_bytes: a part is closed at this size.
      max_seconds: a part that is readable only once closed is closed at this age.
      check: see PartWriter.

    Raises:
      ValueError: if an attribute is invalid.
    """

    directory: str
    part_format: Format
    labels: tuple[Label, ...] = ()
    max_bytes: int = MAX_SHARD_BYTES
    max_seconds: float = MAX_SHARD_SECONDS
    check: Check | None = None

    def __post_init__(self) -> None:
        if not self.directory:
            raise ValueError(f"directory={self.directory!r}: expected a path, local or in cloud storage")
        if not self.part_format.suffix.startswith("."):
            raise ValueError(f"suffix={self.part_format.suffix!r}: expected a dot and letters, such as .tfrecord")
        if self.max_bytes < 1:
            raise ValueError(f"max_bytes={self.max_bytes!r}: expected a number of bytes from 1")
        if self.max_seconds <= 0:
            raise ValueError(f"max_seconds={self.max_seconds!r}: expected a number of seconds above 0")

    def expand(self, collections: tuple[beam.PCollection, ...]) -> WriteOutput:
        labels = self.labels or (None,) * len(collections)
        written = [
            records
            | f"WriteParts{i}"
            >> beam.ParDo(_WriteParts(self, label))
            .with_output_types(Shard, **{SECONDS: StageSeconds})
            .with_outputs(SECONDS, main="parts")
            for i, (records, label) in enumerate(zip(collections, labels, strict=True))
        ]
        parts = [outputs["parts"] for outputs in written] | "Parts" >> beam.Flatten()
        seconds = [outputs[SECONDS] for outputs in written] | "Seconds" >> beam.Flatten()
        return WriteOutput(parts, seconds)


class _WriteParts(beam.DoFn):
    def __init__(self, settings: WriteParts, label: Label | None):
        # A PartWriter does not travel to workers. Its arguments do.
        self._open = functools.partial(
            PartWriter,
            layout.parts(settings.directory),
            label,
            settings.part_format,
            settings.max_bytes,
            settings.max_seconds,
            settings.check,
        )

    def start_bundle(self) -> None:
        self._writer = self._open()

    def process(self, record: Any) -> Iterable[Shard]:
        self._writer.add(record)
        yield from self._outputs()

    def finish_bundle(self) -> Iterable[Any]:
        self._writer.close()
        for output in self._outputs():
            if isinstance(output, beam.pvalue.TaggedOutput):
                yield beam.pvalue.TaggedOutput(output.tag, GlobalWindows.windowed_value(output.value))
            else:
                yield GlobalWindows.windowed_value(output)

    def _outputs(self) -> Iterable[Any]:
        closed, seconds = self._writer.take()
        if seconds:
            yield beam.pvalue.TaggedOutput(SECONDS, StageSeconds.of(STAGE, seconds))
        yield from closed


@dataclasses.dataclass(eq=False)
class WriteShards(Stage):
    """Records of one type, in a tuple of collections → WriteOutput.

    >>> import pathlib, tempfile
    >>> from transforms.output.parts import Framed
    >>> directory = tempfile.mkdtemp()
    >>> text = Framed(".txt", lambda names: [name.encode() for name in names])
    >>> write = WriteShards(WriteParts(directory, text))
    >>> with beam.Pipeline(runner="FnApiRunner") as pipeline:
    ...     _ = (pipeline | beam.Create(["a"]),) | write
    >>> pathlib.Path(directory, "part-00000-of-00001.txt").read_text()
    'a'

    Attributes:
      write: writes the parts.
      before_naming: called once all parts are complete, before a file gets or loses a final name. If a runner repeats a
        step, it is called again.
    """

    write: WriteParts
    before_naming: Callable[[], None] | None = None

    def expand(self, collections: tuple[beam.PCollection, ...]) -> WriteOutput:
        written = collections | "Write" >> self.write
        name = beam.FlatMap(
            _name_and_clean,
            self.write.directory,
            self.before_naming,
            parts=beam.pvalue.AsList(written.shards),
        )
        shards = written.shards.pipeline | "Once" >> beam.Impulse() | "Name" >> name.with_output_types(Shard)
        return WriteOutput(shards, written.seconds)


def name_parts(parts: Sequence[Shard], directory: str, check: Callable[[], object] | None = None) -> list[Shard]:
    """Gives complete parts their final names, and removes all other files with such names. Parts keep their own too.

    Parts may be of several formats. Each format has numbers of its own. Repeating this changes nothing, even if the
    parts were removed in between.

    Args:
      parts: complete ones.
      directory: of the final names.
      check: called before other files are removed. If it raises an error, they stay. A file that replaces one of them
        after the check stays too.

    Raises:
      OSError: if a part cannot be named.
    """
    numbered = list(number(parts, directory))
    with ThreadPoolExecutor(_NAMING_AT_ONCE) as threads:
        list(threads.map(lambda named: files.name(named[0], named[1].path), numbered))
    shards = [shard for _, shard in numbered]
    own = {shard.path for shard in shards}
    others = [file.path for file in files.match(layout.shards(directory, "-of-*")) if file.path not in own]
    states = {path: files.state(path) for path in others}
    if check:
        check()
    for path, state in states.items():
        if state:
            files.remove_in_state(path, state)
    return shards


def number(parts: Sequence[Shard], directory: str) -> Iterable[tuple[str, Shard]]:
    """Yields each part's path with the shard that it becomes. The numbers do not depend on the order of the parts."""
    totals = Counter(suffix(part.path) for part in parts)
    numbers: Counter[str] = Counter()
    for part in sorted(parts, key=lambda part: part.path):
        own = suffix(part.path)
        path = layout.shard(directory, numbers[own], totals[own], own)
        numbers[own] += 1
        yield part.path, dataclasses.replace(part, path=path)


def suffix(path: str) -> str:
    """Returns the suffix of a path, with the dot: the format of a part."""
    return posixpath.splitext(path)[1]


def are_all(directory: str, shards: int) -> bool:
    """Returns whether a directory holds exactly `shards` shards, all of one attempt, and no unnamed part."""
    paths = [file.path for file in files.match(layout.shards(directory))]
    totals = Counter(suffix(path) for path in paths)
    are_numbered = all(f"-of-{totals[suffix(path)]:05d}." in path for path in paths)
    return len(paths) == shards and are_numbered and not unnamed(directory, limit=1)


def unnamed(directory: str, limit: int | None = None) -> list[str]:
    """Returns the paths of the parts in a directory of shards."""
    return [file.path for file in files.match(f"{layout.parts(directory)}/*", limit)]


def rename_parts(paths: Sequence[str]) -> None:
    """Gives parts with labels new names under the same label, so that a process with the old names cannot name them."""

    def rename(path: str) -> None:
        try:
            files.rename(path, f"{posixpath.dirname(path)}/{Label.of(path)}{uuid.uuid4().hex}{suffix(path)}")
        except OSError:
            if files.match(path):  # else its writer has taken it back
                raise

    with ThreadPoolExecutor(_NAMING_AT_ONCE) as threads:
        list(threads.map(rename, paths))


def remove_parts(directory: str, *, after: str | None = None) -> None:
    """Removes the parts from a directory of shards, except those of attempts that began after the attempt `after`."""
    gone = [path for path in unnamed(directory) if not (after and (label := Label.of(path)) and label.attempt > after)]
    files.remove_all(gone, layout.parts(directory))


def _name_and_clean(
    _: bytes, directory: str, before_naming: Callable[[], None] | None, parts: Sequence[Shard]
) -> list[Shard]:
    if before_naming:
        before_naming()
    shards = name_parts(parts, directory)
    remove_parts(directory)
    return shards
