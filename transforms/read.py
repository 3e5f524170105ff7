"""Reading: `ImageRef`s → `EncodedBlock`s, from files, TFRecords of tf.Examples, or tar shards in webdataset layout.

The key of an image in a shard is `<URI of the shard>#<member or record number>`, unless the record has its own.
"""

import dataclasses
import functools
import hashlib
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam

from transforms.concurrent import in_flight
from transforms.concurrent.do_in_flight import DoInFlight
from transforms.elements import counters, keys
from transforms.elements.formats import SHARD_FORMATS, check_input_format
from transforms.elements.records import EncodedBlock, EncodedImage, Failure, ImageRef, LeftOut, Member, StageSeconds
from transforms.elements.stage import FAILURES, LEFT_OUT, SECONDS, Stage, StageOutput, with_stage_outputs
from transforms.encoding import compressed, examples, tar, tfrecord
from transforms.storage import choice, left_out, local, locations, read_image, versioned

STAGE = read_image.STAGE

# Images that are read by one call from a disk, and blocks of images in shards. A call costs as much time as reading a
# small file does. A large image is a block of its own.
_BLOCK_IMAGES = 16
_BLOCK_BYTES = 1 << 20

# The members of a tar shard that are images. Webdataset's other members (.json, .cls, .txt) are not listed.
_TAR_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".pjpeg", ".pjp", ".mpo", ".png", ".apng", ".webp", ".gif"),
    *(".tif", ".tiff", ".bmp", ".dib", ".avif", ".avifs", ".heic", ".heics", ".heif", ".heifs", ".hif"),
)

# (left_out.HIDDEN or OTHER, kind of name) → members of shards that are not read.
PassedOver = Counter[tuple[str, str]]


def read_tfrecord(
    ref: ImageRef,
    billing_project: str | None = None,
    passed_over: PassedOver | None = None,
    include_hidden: bool = True,
) -> Iterator[EncodedImage | Failure]:
    """Yields the images of a file of tf.Examples, compressed or not, and a Failure for each record without an image.

    A record with a valid length but a corrupt body fails alone. None is hidden, because none has a name.

    Raises:
      OSError: if the file cannot be read, or has changed since it was listed.
      ValueError: if it is broken.
    """
    with versioned.opened(ref, billing_project) as file:
        records = tfrecord.records(compressed.expanded(file, tfrecord.is_framed), read_image.MAX_ENCODED_BYTES)
        keys_before: set[bytes] = set()
        numbered = ref.key + b"#"
        for number, record in enumerate(records):
            record_key = numbered + b"%d" % number
            try:
                if isinstance(record, tfrecord.BrokenRecord):
                    raise record
                own_key, encoded = examples.decode_image(record)
            except ValueError as error:
                yield Failure.of(record_key, STAGE, error)
            else:
                if own_key and own_key not in keys_before and not own_key.startswith(numbered):
                    keys_before.add(own_key)
                    record_key = own_key
                yield _member(record_key, ref, encoded)


def read_tar(
    ref: ImageRef,
    billing_project: str | None = None,
    passed_over: PassedOver | None = None,
    include_hidden: bool = True,
) -> Iterator[EncodedImage | Failure]:
    """Yields the images of a tar file, compressed or not, in order, without unpacking it to disk.

    A member is an image by its name. If it is a link or a device, or too large, it is a Failure. The second member of a
    name has its number in the file, counted from 0, at the end of its key.

    Args:
      ref: of the file.
      billing_project: the project that pays for requests to buckets with requester pays.
      passed_over: gets the number of members that are no images by name, or are hidden, by kind of name.
      include_hidden: whether hidden members are images too.

    Raises:
      OSError: if the file cannot be read, or has changed since it was listed.
      ValueError, tarfile.TarError: if it is broken.
    """
    with versioned.opened(ref, billing_project) as file:
        keys_before: set[bytes] = set()
        for number, (member, content) in enumerate(tar.members(compressed.expanded(file))):
            if member.isdir():
                continue
            if why := _why_passed_over(member.name, include_hidden):
                if passed_over is not None:
                    choice.count(passed_over, why)
                continue
            key = ref.key + b"#" + keys.of_uri(member.name)
            while key in keys_before:
                key += b"#%d" % number
            keys_before.add(key)
            try:
                if not member.isreg():
                    raise local.NotARegularFile(f"not a regular file: {_tar_kind(member)}")
                read_image.check_size(member.size)
                encoded = content()
            except (read_image.TooManyBytes, tar.TooManyParts, local.NotARegularFile) as error:
                yield Failure.of(key, STAGE, error)
            else:
                yield _member(key, ref, encoded)


def _why_passed_over(name: str, include_hidden: bool) -> tuple[str, str] | None:
    if not include_hidden and (kind := left_out.hidden_kind(name)):
        return left_out.HIDDEN, kind
    if name.lower().endswith(_TAR_SUFFIXES):
        return None
    extension = left_out.extension(name)
    return left_out.OTHER, f".{extension}" if extension else "no extension"


def _tar_kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return f"a link to {member.linkname!r}, and a tar file is read from front to end"
    return "a named pipe or a device"


def _member(key: bytes, shard: ImageRef, encoded: bytes) -> EncodedImage:
    ref = ImageRef(key, shard.version, len(encoded), versioned.crc32c(encoded), in_shard=shard.key)
    return EncodedImage(ref, encoded)


_SHARD_READERS: dict[str, Callable[..., Iterator[EncodedImage | Failure]]] = {
    "tfrecord": read_tfrecord,
    "tar": read_tar,
}


@dataclasses.dataclass(eq=False)
class ReadImages(Stage):
    """ImageRef → StageOutput of EncodedBlock.

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
        runner. Files whose refs lack a size are read one after the other. `DescribeImages` adds sizes.
      billing_project: the project that pays for requests to buckets with requester pays.
      done: (key of a shard, number of an image in it) of each image in shards to pass over; None for none.
      include_hidden: whether hidden members of tar files are images too, such as `._1.jpg`. Otherwise they are counted
        in the output `left_out`.

    Raises:
      ValueError: if an attribute is invalid.
    """

    input_format: str = "images"
    read_concurrency: int = in_flight.CONCURRENCY_DEFAULT
    billing_project: str | None = None
    done: beam.PCollection[tuple[bytes, int]] | None = None
    include_hidden: bool = False

    def __post_init__(self) -> None:
        check_input_format(self.input_format)
        in_flight.check_concurrency(self.read_concurrency)

    def expand(self, refs: beam.PCollection[ImageRef]) -> StageOutput[EncodedBlock]:
        if self.input_format not in SHARD_FORMATS:
            read_file = _ReadFile(self.read_concurrency, self.billing_project)
            return StageOutput.of(refs | "Read" >> with_stage_outputs(read_file, EncodedBlock))
        read = _ReadShard(self.input_format, self.billing_project, self.include_hidden)
        if self.done:
            by_key = {
                "refs": refs | "ByKey" >> beam.Map(_by_key),
                "done": self.done,
            } | "Done" >> beam.CoGroupByKey()
            outputs = by_key | "ReadRest" >> with_stage_outputs(_ReadRest(read), EncodedBlock, counts_left_out=True)
        else:
            outputs = refs | "Read" >> with_stage_outputs(read, EncodedBlock, counts_left_out=True)
        return StageOutput.of(outputs, counts_left_out=True)


class _ReadFile(DoInFlight):
    """One call reads several files from a disk, or one file from elsewhere."""

    def __init__(self, read_concurrency: int, billing_project: str | None):
        super().__init__(STAGE, read_concurrency)
        self._billing_project = billing_project

    def start_bundle(self) -> None:
        super().start_bundle()
        self._refs: list[ImageRef] = []
        self._bytes = 0
        self._at: tuple[Any, Any] = (None, None)

    def process(
        self, ref: ImageRef, timestamp: Any = beam.DoFn.TimestampParam, window: Any = beam.DoFn.WindowParam
    ) -> Iterator[Any]:
        if self._refs and window != self._at[1]:
            yield from self._start()
        self._refs.append(ref)
        self._bytes += self._size(ref)
        self._at = timestamp, window
        is_full = len(self._refs) == _BLOCK_IMAGES or self._bytes >= _BLOCK_BYTES
        if is_full or not locations.is_local(keys.uri(ref.key)):
            yield from self._start()

    def finish_bundle(self) -> Iterator[Any]:
        if self._refs:
            yield from self._start()
        yield from super().finish_bundle()

    def _start(self) -> Iterator[Any]:
        refs, self._refs, self._bytes = self._refs, [], 0
        return super().process(refs, *self._at)

    def call(self, refs: Sequence[ImageRef]) -> list[EncodedImage | Failure]:
        return [read_image.read_or_failure(ref, self._billing_project) for ref in refs]

    def size(self, refs: Sequence[ImageRef]) -> int:
        return sum(map(self._size, refs))

    def _size(self, ref: ImageRef) -> int:
        return ref.size if ref.size >= 0 else read_image.MAX_ENCODED_BYTES

    def items(self, images: Sequence[EncodedImage | Failure]) -> int:
        return len(images)

    def outputs(self, images: Sequence[EncodedImage | Failure]) -> Iterator[Any]:
        return _outputs(images)


class _ReadShard(beam.DoFn):
    def __init__(self, input_format: str, billing_project: str | None, include_hidden: bool):
        self._reader = functools.partial(_SHARD_READERS[input_format], billing_project=billing_project)
        self._include_hidden = include_hidden

    def process(self, ref: ImageRef) -> Iterable[EncodedBlock]:
        return self.read(ref, done=())

    def read(self, ref: ImageRef, done: Collection[int]) -> Iterable[EncodedBlock]:
        passed_by: PassedOver = Counter()
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

    def images(self, ref: ImageRef, passed_by: PassedOver) -> Iterator[EncodedImage | Failure]:
        try:
            yield from self._reader(ref, passed_over=passed_by, include_hidden=self._include_hidden)
        except (OSError, ValueError, MemoryError, tarfile.TarError) as error:
            yield read_image.failure(ref, error)


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
    billing_project: str | None = None

    def __post_init__(self) -> None:
        in_flight.check_concurrency(self.read_concurrency)

    def expand(self, refs: beam.PCollection[ImageRef]) -> StageOutput[tuple[str, ImageRef]]:
        digest = _DigestFile(self.read_concurrency, self.billing_project)
        return StageOutput.of(refs | "Digest" >> with_stage_outputs(digest, tuple[str, ImageRef]))


class _DigestFile(_ReadFile):
    def call(self, refs: Sequence[ImageRef]) -> list[Any]:
        return [_digest(image) for image in super().call(refs)]

    def outputs(self, digests: Sequence[Any]) -> Iterator[Any]:
        for digest in digests:
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
    billing_project: str | None = None
    include_hidden: bool = False

    def __post_init__(self) -> None:
        if self.input_format not in SHARD_FORMATS:
            raise ValueError(f"input_format={self.input_format!r}: expected one of {', '.join(SHARD_FORMATS)}")

    def expand(self, refs: beam.PCollection[ImageRef]) -> beam.PCollection[Member]:
        read = _ReadShard(self.input_format, self.billing_project, self.include_hidden)
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
