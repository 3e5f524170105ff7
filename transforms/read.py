"""Reading: `ImageRef`s → `EncodedImage`s, from files, TFRecords of tf.Examples, or tar shards in webdataset layout.

An image inside a shard has the key `<URI of the shard>#<member or record number>`, unless the record brings its own.
"""

import dataclasses
import functools
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apache_beam as beam

from transforms import counters
from transforms.concurrent import in_flight
from transforms.concurrent.do_in_flight import DoInFlight
from transforms.encoding import examples, tfrecord
from transforms.formats import INPUT_FORMATS, SHARD_FORMATS
from transforms.records import FAILURES, SECONDS, EncodedImage, Failure, ImageRef, StageSeconds, key
from transforms.storage import gcs, versioned

STAGE = "read"

# The most bytes of one encoded image that a worker takes into memory: a bound on what strangers put into a bucket, far
# above any photograph.
MAX_ENCODED_BYTES = 256 * 2**20

# What webdataset calls an image, and what this project decodes: other members of a sample (.json, .cls, .txt) are not
# images, so they are not listed.
_TAR_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".avif", ".heic", ".heif")


class TooManyBytes(ValueError):
    """An object larger than MAX_ENCODED_BYTES."""


def read_file(ref: ImageRef, billing_project: str | None = None) -> EncodedImage:
    """Returns the image that a file is; asks for the version first where the ref has none.

    Raises:
      OSError: if it cannot be read, or is not what was listed; ValueError: if it is too large.
    """
    ref = versioned.described(ref, billing_project)
    _check_size(ref.size)
    encoded, crc32c = versioned.read(ref, billing_project)
    return EncodedImage(ref.key, ref.version, encoded, crc32c, ref.has_copies)


def read_tfrecord(ref: ImageRef, billing_project: str | None = None) -> Iterator[EncodedImage | Failure]:
    """Yields the images of a file of tf.Examples, and a Failure for each record that holds none.

    Raises:
      OSError: if the file cannot be read, or is not what was listed; ValueError: where it is broken.
    """
    with versioned.opened(ref, billing_project) as file:
        for number, record in enumerate(tfrecord.read(file, MAX_ENCODED_BYTES)):
            record_key = ref.key + b"#%d" % number
            try:
                own_key, encoded = examples.decode_image(record)
            except ValueError as error:
                yield Failure.of(record_key, STAGE, error)
            else:
                yield EncodedImage(own_key or record_key, ref.version, encoded, gcs.crc32c(encoded))


def read_tar(ref: ImageRef, billing_project: str | None = None) -> Iterator[EncodedImage | Failure]:
    """Yields the images of a tar file, compressed or not, in order, without unpacking it to disk.

    Raises:
      OSError: if the file cannot be read, or is not what was listed; tarfile.TarError: where it is broken.
    """
    with (
        versioned.opened(ref, billing_project) as file,
        tarfile.open(fileobj=file, mode="r|*", encoding="utf-8", errors="surrogateescape") as shard,
    ):
        for member in shard:
            if not member.isfile() or not member.name.lower().endswith(_TAR_SUFFIXES):
                continue
            member_key = ref.key + b"#" + key(member.name)
            try:
                _check_size(member.size)
            except TooManyBytes as error:
                yield Failure.of(member_key, STAGE, error)
                continue
            content = shard.extractfile(member)
            encoded = content.read() if content else b""
            yield EncodedImage(member_key, ref.version, encoded, gcs.crc32c(encoded))


def _check_size(size: int) -> None:
    if size > MAX_ENCODED_BYTES:
        raise TooManyBytes(f"{size} bytes: expected an image of at most {MAX_ENCODED_BYTES}")


_SHARD_READERS: dict[str, Callable[..., Iterator[EncodedImage | Failure]]] = {
    "tfrecord": read_tfrecord,
    "tar": read_tar,
}


@dataclasses.dataclass(eq=False)
class ReadImages(beam.PTransform):
    """ImageRef → EncodedImage, and `Failure`s and `StageSeconds` under their tags.

    A shard that breaks in the middle gives the images before the break, and one failure under the shard's own key. What
    is gone, or is not what was listed, is a retryable failure with the error `ChangedSinceListed`.

    Attributes:
      input_format: one of INPUT_FORMATS.
      read_concurrency: how many files a worker process has in flight; shards are streamed, one a thread of the runner.
        Files without a size in their ref are read one after the other: `DescribeImages` gives sizes.
      billing_project: who pays for requests to buckets whose owner does not.
    """

    input_format: str
    read_concurrency: int = in_flight.CONCURRENCY_DEFAULT
    billing_project: str | None = None

    def __post_init__(self) -> None:
        if self.input_format not in INPUT_FORMATS:
            raise ValueError(f"input_format={self.input_format!r}: expected one of {', '.join(INPUT_FORMATS)}")
        in_flight.check_concurrency(self.read_concurrency)

    def expand(self, refs: beam.PCollection[ImageRef]) -> beam.pvalue.DoOutputsTuple:
        if self.input_format in SHARD_FORMATS:
            read = beam.ParDo(_ReadShard(self.input_format, self.billing_project))
        else:
            read = beam.ParDo(_ReadFile(self.read_concurrency, self.billing_project))
        return refs | "Read" >> read.with_outputs(FAILURES, SECONDS, main="images")


class _ReadFile(DoInFlight):
    def __init__(self, read_concurrency: int, billing_project: str | None):
        super().__init__(STAGE, read_concurrency)
        self._billing_project = billing_project

    def call(self, ref: ImageRef) -> EncodedImage | Failure:
        try:
            return read_file(ref, self._billing_project)
        except Exception as error:  # noqa: BLE001 - each storage client has errors of its own, all of them this object's
            return _failure(ref, error)

    def size(self, ref: ImageRef) -> int:
        return ref.size if ref.size >= 0 else MAX_ENCODED_BYTES

    def outputs(self, image: EncodedImage | Failure) -> Iterator[Any]:
        yield _output(image)


class _ReadShard(beam.DoFn):
    def __init__(self, input_format: str, billing_project: str | None):
        self._read = functools.partial(_SHARD_READERS[input_format], billing_project=billing_project)

    def process(self, ref: ImageRef) -> Iterable[EncodedImage]:
        found = self._images(ref)
        while True:
            start = time.perf_counter()
            image = next(found, None)
            if image is None:
                return
            yield beam.pvalue.TaggedOutput(SECONDS, StageSeconds(STAGE, time.perf_counter() - start))
            counters.inc(counters.IMAGES_LISTED)
            yield _output(image)

    def _images(self, ref: ImageRef) -> Iterator[EncodedImage | Failure]:
        try:
            yield from self._read(ref)
        except Exception as error:  # noqa: BLE001 - each storage client has errors of its own, all of them this object's
            yield _failure(ref, error)


def _failure(ref: ImageRef, error: Exception) -> Failure:
    return Failure.of(ref.key, STAGE, error, retryable=not isinstance(error, (ValueError, tarfile.TarError)))


def _output(image: EncodedImage | Failure) -> Any:
    if isinstance(image, Failure):
        return beam.pvalue.TaggedOutput(FAILURES, image)
    counters.inc(counters.IMAGES_READ)
    counters.inc(counters.BYTES_READ, len(image.encoded))
    return image
