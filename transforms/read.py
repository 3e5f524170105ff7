"""Reading: `ImageRef`s → `EncodedImage`s, from files, TFRecords of tf.Examples, or tar shards in webdataset layout.

An image inside a shard has the key `<URI of the shard>#<member or record number>`, unless the record brings its own.
"""

import dataclasses
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator

import apache_beam as beam

from transforms import counters, examples, storage, tfrecord
from transforms.formats import INPUT_FORMATS, SHARD_FORMATS
from transforms.records import FAILURES, SECONDS, EncodedImage, Failure, ImageRef, StageSeconds, key, uri

STAGE = "read"

# The most bytes of one encoded image that a worker takes into memory: a bound on what strangers put into a bucket, far
# above any photograph.
MAX_ENCODED_BYTES = 256 * 2**20

# What webdataset calls an image, and what this project decodes: other members of a sample (.json, .cls, .txt) are not
# images, so they are not listed.
_TAR_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".avif", ".heic", ".heif")


class TooManyBytes(ValueError):
    """An object larger than MAX_ENCODED_BYTES."""


def read_file(ref: ImageRef) -> Iterator[EncodedImage | Failure]:
    """Yields the one image that a file is.

    Raises:
      OSError: if it cannot be read; ValueError: if it is too large.
    """
    path = uri(ref.key)
    size, stored_version = ref.size, ref.version
    if not stored_version:
        metadata = storage.metadata(path)
        size, stored_version = metadata.size_in_bytes, storage.version(metadata)
    _check_size(size)
    yield EncodedImage(ref.key, stored_version, storage.read(path))


def read_tfrecord(ref: ImageRef) -> Iterator[EncodedImage | Failure]:
    """Yields the images of a file of tf.Examples, and a Failure for each record that holds none.

    Raises:
      OSError: if the file cannot be read; ValueError: where it is broken.
    """
    with storage.open_stored(uri(ref.key)) as file:
        for number, record in enumerate(tfrecord.read(file, MAX_ENCODED_BYTES)):
            record_key = ref.key + b"#%d" % number
            try:
                own_key, encoded = examples.decode_image(record)
            except ValueError as error:
                yield Failure.of(record_key, STAGE, error)
            else:
                yield EncodedImage(own_key or record_key, ref.version, encoded)


def read_tar(ref: ImageRef) -> Iterator[EncodedImage | Failure]:
    """Yields the images of a tar file, compressed or not, in order, without unpacking it to disk.

    Raises:
      OSError: if the file cannot be read; tarfile.TarError: where it is broken.
    """
    with (
        storage.open_stored(uri(ref.key)) as file,
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
            yield EncodedImage(member_key, ref.version, content.read() if content else b"")


def _check_size(size: int) -> None:
    if size > MAX_ENCODED_BYTES:
        raise TooManyBytes(f"{size} bytes: expected an image of at most {MAX_ENCODED_BYTES}")


_READERS: dict[str, Callable[[ImageRef], Iterator[EncodedImage | Failure]]] = {
    "images": read_file,
    "list": read_file,
    "tfrecord": read_tfrecord,
    "tar": read_tar,
}


@dataclasses.dataclass(eq=False)
class ReadImages(beam.PTransform):
    """ImageRef → EncodedImage, and `Failure`s and `StageSeconds` under their tags.

    A shard that breaks in the middle gives the images before the break, and one failure under the shard's own key.
    """

    input_format: str

    def __post_init__(self) -> None:
        if self.input_format not in _READERS:
            raise ValueError(f"input_format={self.input_format!r}: expected one of {', '.join(INPUT_FORMATS)}")

    def expand(self, refs: beam.PCollection[ImageRef]) -> beam.pvalue.DoOutputsTuple:
        return refs | "Read" >> beam.ParDo(_Read(self.input_format)).with_outputs(FAILURES, SECONDS, main="images")


class _Read(beam.DoFn):
    def __init__(self, input_format: str):
        self._input_format = input_format

    def process(self, ref: ImageRef) -> Iterable[EncodedImage]:
        found = self._read(ref)
        while True:
            start = time.perf_counter()
            image = next(found, None)
            if image is None:
                return
            yield beam.pvalue.TaggedOutput(SECONDS, StageSeconds(STAGE, time.perf_counter() - start))
            if self._input_format in SHARD_FORMATS:
                counters.inc(counters.IMAGES_LISTED)
            if isinstance(image, Failure):
                yield beam.pvalue.TaggedOutput(FAILURES, image)
            else:
                counters.inc(counters.IMAGES_READ)
                counters.inc(counters.BYTES_READ, len(image.encoded))
                yield image

    def _read(self, ref: ImageRef) -> Iterator[EncodedImage | Failure]:
        try:
            yield from _READERS[self._input_format](ref)
        except Exception as error:  # noqa: BLE001 - each storage client has errors of its own, all of them this object's
            yield Failure.of(ref.key, STAGE, error, retryable=not isinstance(error, (ValueError, tarfile.TarError)))
