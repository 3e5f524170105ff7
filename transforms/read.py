"""Reading: `ImageRef`s → `EncodedBlock`s, from files, or from shards that hold many images each."""

import dataclasses
import hashlib
import itertools
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam

from transforms.concurrent import in_flight
from transforms.concurrent.do_in_flight import DoInFlight
from transforms.elements import counters, keys
from transforms.elements.formats import SHARD_FORMATS, check_input_format
from transforms.elements.records import EncodedBlock, EncodedImage, Failure, ImageRef, LeftOut, Member, StageSeconds
from transforms.elements.stage import FAILURES, LEFT_OUT, SECONDS, Stage, StageOutput, with_stage_outputs
from transforms.encoding import image_shards
from transforms.storage import locations, read_image
from transforms.storage.context import DEFAULT_STORAGE, Storage

STAGE = read_image.STAGE

# Limits on the images that one call reads from a disk, and on blocks of images in shards. A call takes as much time as
# reading a small file. A large image is a block of its own.
_BLOCK_IMAGES = 16
_BLOCK_BYTES = 1 << 20
# The size of an image at a URL, until it is read. The bound on what waits lets CONCURRENCY_MAX of them be in flight.
_URL_BYTES = 1 << 18


@dataclasses.dataclass(eq=False)
class ReadImages(Stage):
    """ImageRef → StageOutput of EncodedBlock.

    The images of shards that need not be read again are a second input: `{"refs": ImageRef, "done": (key of a shard,
    number of an image in it)}`.

    A shard that is broken in the middle yields the images before the break, and one failure under the shard's own key.
    A record with a valid length but a corrupt body fails alone.
    An object that has changed or disappeared since it was listed is a retryable failure with the error
    `ChangedSinceListed`.

    >>> from pathlib import Path
    >>> with beam.Pipeline(runner="FnApiRunner") as pipeline:
    ...     refs = pipeline | beam.Create([ImageRef(b"pipeline/samples/images/cat.jpg")])
    ...     _ = (refs | ReadImages()).main | beam.Map(lambda block: print(block.images[0].encoded[6:10]))
    b'JFIF'

    Attributes:
      input_format: one of INPUT_FORMATS.
      read_concurrency: how many files a worker process has in flight. Shards are streamed, one per thread of the
        runner. Files whose refs lack a size are read one after the other, except at URLs.
        `DescribeImages` adds sizes.
      storage: how buckets are reached.
      include_hidden: whether hidden members of tar files are images too, such as `._1.jpg`. Otherwise they are counted
        in the output `left_out`.

    Raises:
      ValueError: if an attribute is invalid.
    """

    input_format: str = "images"
    read_concurrency: int = in_flight.CONCURRENCY_DEFAULT
    storage: Storage = DEFAULT_STORAGE
    include_hidden: bool = False

    def __post_init__(self) -> None:
        check_input_format(self.input_format)
        in_flight.check_concurrency(self.read_concurrency)

    def expand(self, refs: beam.PCollection[ImageRef] | Mapping[str, beam.PCollection]) -> StageOutput[EncodedBlock]:
        if self.input_format not in SHARD_FORMATS:
            read_file = _ReadFile(self.storage, self.read_concurrency)
            return StageOutput.of(refs | "Read" >> with_stage_outputs(read_file, EncodedBlock))
        read = _ReadShard(self.storage, self.input_format, self.include_hidden)
        if isinstance(refs, Mapping):
            by_key = {"refs": refs["refs"] | "ByKey" >> beam.Map(_by_key), "done": refs["done"]}
            grouped = by_key | "Done" >> beam.CoGroupByKey()
            outputs = grouped | "ReadRest" >> with_stage_outputs(_ReadRest(read), EncodedBlock, counts_left_out=True)
        else:
            outputs = refs | "Read" >> with_stage_outputs(read, EncodedBlock, counts_left_out=True)
        return StageOutput.of(outputs, counts_left_out=True)


class _ReadFile(DoInFlight):
    """One call reads several files from a disk, or one object. The images of several calls go on together."""

    def __init__(self, storage: Storage, read_concurrency: int):
        super().__init__(STAGE, read_concurrency)
        self._storage = storage

    def start_bundle(self) -> None:
        super().start_bundle()
        self._refs: list[ImageRef] = []
        self._bytes = 0
        self._at: tuple[Any, Any] = (None, None)

    def process(
        self, ref: ImageRef, timestamp: Any = beam.DoFn.TimestampParam, window: Any = beam.DoFn.WindowParam
    ) -> Iterator[Any]:
        is_url = locations.is_http(keys.uri(ref.key))
        if self._refs and (window != self._at[1] or is_url):
            yield from self._start()
        self._refs.append(ref)
        self._bytes += self._size(ref)
        self._at = timestamp, window
        is_full = len(self._refs) == _BLOCK_IMAGES or self._bytes >= _BLOCK_BYTES
        if is_full or is_url:
            yield from self._start()

    def finish_bundle(self) -> Iterator[Any]:
        if self._refs:
            yield from self._start()
        yield from super().finish_bundle()

    def _start(self) -> Iterator[Any]:
        refs, self._refs, self._bytes = self._refs, [], 0
        return super().process(refs, *self._at)

    def parts(self, refs: Sequence[ImageRef]) -> Sequence[Sequence[ImageRef]]:
        are_local = all(locations.is_local(keys.uri(ref.key)) for ref in refs)
        return [refs] if are_local else [[ref] for ref in refs]

    def call(self, refs: Sequence[ImageRef]) -> list[Any]:
        return [read_image.read_or_failure(self._storage, ref) for ref in refs]

    def size(self, refs: Sequence[ImageRef]) -> int:
        return sum(map(self._size, refs))

    def group(self, refs: Sequence[ImageRef]) -> str:
        return locations.host(keys.uri(refs[0].key))

    def _size(self, ref: ImageRef) -> int:
        if ref.size >= 0:
            return ref.size
        return _URL_BYTES if locations.is_http(keys.uri(ref.key)) else read_image.MAX_ENCODED_BYTES

    def items(self, results: Sequence[Sequence[Any]]) -> int:
        return sum(map(len, results))

    def outputs(self, results: Sequence[Sequence[Any]]) -> Iterator[Any]:
        return _outputs(list(itertools.chain(*results)))


class _ReadShard(beam.DoFn):
    def __init__(self, storage: Storage, input_format: str, include_hidden: bool):
        self._storage = storage
        self._input_format = input_format
        self._include_hidden = include_hidden

    def process(self, ref: ImageRef) -> Iterable[EncodedBlock]:
        return self.read(ref, done=())

    def read(self, ref: ImageRef, done: Collection[int]) -> Iterable[EncodedBlock]:
        passed_by: image_shards.PassedOver = Counter()
        images = enumerate(self.images(ref, passed_by))
        while True:
            start = time.perf_counter()
            block, passed_over = _next_block(images, done)
            if not block and not passed_over:
                for (why, kind), number in passed_by.items():
                    yield beam.pvalue.TaggedOutput(LEFT_OUT, LeftOut(why, kind, number))
                return
            seconds = time.perf_counter() - start
            items = len(block) + passed_over
            yield beam.pvalue.TaggedOutput(SECONDS, StageSeconds.of(STAGE, seconds, items=items))
            counters.inc(counters.IMAGES_LISTED, len(block))
            yield from _outputs(block)

    def images(self, ref: ImageRef, passed_by: image_shards.PassedOver) -> Iterator[EncodedImage | Failure]:
        return image_shards.read_or_failure(self._storage, ref, self._input_format, passed_by, self._include_hidden)


class _ReadRest(beam.DoFn):
    """(key of a shard, the refs and the numbers that are done) → the other images in it."""

    def __init__(self, read: _ReadShard):
        self._read = read

    def process(self, group: tuple[bytes, dict[str, Iterable[Any]]]) -> Iterable[EncodedBlock]:
        _, same_shard = group
        done = set(same_shard["done"])
        for ref in same_shard["refs"]:
            yield from self._read.read(ref, done)


@dataclasses.dataclass(eq=False)
class DigestImages(Stage):
    """ImageRef of a file → StageOutput of (SHA-256 of its bytes in hex, ImageRef with size and checksum).

    >>> from pathlib import Path
    >>> with beam.Pipeline(runner="FnApiRunner") as pipeline:
    ...     refs = pipeline | beam.Create([ImageRef(b"pipeline/samples/images/cat.jpg")])
    ...     _ = (refs | DigestImages()).main | beam.Map(lambda digest: print(len(digest[0]), digest[1].size))
    64 25529

    Attributes: see ReadImages.

    Raises:
      ValueError: if an attribute is invalid.
    """

    read_concurrency: int = in_flight.CONCURRENCY_DEFAULT
    storage: Storage = DEFAULT_STORAGE

    def __post_init__(self) -> None:
        in_flight.check_concurrency(self.read_concurrency)

    def expand(self, refs: beam.PCollection[ImageRef]) -> StageOutput[tuple[str, ImageRef]]:
        digest = _DigestFile(self.storage, self.read_concurrency)
        return StageOutput.of(refs | "Digest" >> with_stage_outputs(digest, tuple[str, ImageRef]))


class _DigestFile(_ReadFile):
    def call(self, refs: Sequence[ImageRef]) -> list[Any]:
        return [_digest(image) for image in super().call(refs)]

    def outputs(self, results: Sequence[Sequence[Any]]) -> Iterator[Any]:
        for digest in itertools.chain(*results):
            yield beam.pvalue.TaggedOutput(FAILURES, digest) if isinstance(digest, Failure) else digest


def _digest(image: EncodedImage | Failure) -> tuple[str, ImageRef] | Failure:
    if isinstance(image, Failure):
        return image
    return hashlib.sha256(image.encoded).hexdigest(), dataclasses.replace(image.ref, has_copies=False)


@dataclasses.dataclass(eq=False)
class ListMembers(beam.PTransform):
    """ImageRef of a shard → Member.

    Reads each shard whole. Images that cannot be read are left out. They are numbered as ReadImages numbers them, which
    depends on `include_hidden`.

    Attributes: see ReadImages.

    Raises:
      ValueError: if `input_format` is not one of SHARD_FORMATS.
    """

    input_format: str
    storage: Storage = DEFAULT_STORAGE
    include_hidden: bool = False

    def __post_init__(self) -> None:
        if self.input_format not in SHARD_FORMATS:
            raise ValueError(f"input_format={self.input_format!r}: expected one of {', '.join(SHARD_FORMATS)}")

    def expand(self, refs: beam.PCollection[ImageRef]) -> beam.PCollection[Member]:
        read = _ReadShard(self.storage, self.input_format, self.include_hidden)
        members = beam.FlatMap(_members, read)
        return refs | "Members" >> members.with_output_types(Member)


def _members(ref: ImageRef, read: _ReadShard) -> Iterator[Member]:
    for number, image in enumerate(read.images(ref, Counter())):
        if isinstance(image, EncodedImage):
            yield Member(image.ref, number)


def _by_key(ref: ImageRef) -> tuple[bytes, ImageRef]:
    return ref.key, ref


def _next_block(
    images: Iterator[tuple[int, EncodedImage | Failure]], done: Collection[int]
) -> tuple[list[EncodedImage | Failure], int]:
    """Returns the next images of a shard, and the number of images before and between them that are done."""
    block: list[EncodedImage | Failure] = []
    passed_over = block_bytes = 0
    for number, image in images:
        if number in done:
            passed_over += 1
            continue
        block.append(image)
        if isinstance(image, EncodedImage):
            block_bytes += len(image.encoded)
        if len(block) == _BLOCK_IMAGES or block_bytes >= _BLOCK_BYTES:
            break
    return block, passed_over


def _outputs(images: Sequence[EncodedImage | Failure]) -> Iterator[Any]:
    read = tuple(image for image in images if isinstance(image, EncodedImage))
    for image in images:
        if isinstance(image, Failure):
            yield beam.pvalue.TaggedOutput(FAILURES, image)
    if read:
        counters.inc(counters.IMAGES_READ, len(read))
        counters.inc(counters.BYTES_READ, sum(len(image.encoded) for image in read))
        yield EncodedBlock(read)
