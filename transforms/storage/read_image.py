"""Reading one image: an `ImageRef` → an `EncodedImage`. No Beam, except for filesystems that only Beam knows."""

import dataclasses
import gzip
import io
import zlib

from transforms.elements import keys
from transforms.elements.records import EncodedImage, Failure, ImageRef
from transforms.storage import locations, versioned
from transforms.storage.context import Storage

STAGE = "read"

# The most bytes of one encoded image that a worker reads into memory. It is far above the size of any photograph, and
# limits the objects that strangers put into a bucket.
MAX_ENCODED_BYTES = 256 * 2**20


_GZIP = b"\x1f\x8b\x08"
# A gzip file may unpack to this many bytes, or to this many times its size. Images hardly shrink, and a reader of
# several files reserves memory by their stored sizes.
_FREE_BYTES = 16 * 2**20
_MAX_RATIO = 100


class TooManyBytes(ValueError):
    """An object larger than MAX_ENCODED_BYTES."""


class BrokenGzip(ValueError):
    """A packed image that cannot be unpacked."""


def read(storage: Storage, ref: ImageRef) -> EncodedImage:
    """Reads one file. If the ref has no version, it asks the filesystem for one first.

    It unpacks gzip files: `gsutil cp -Z` stores images so, with `Content-Encoding: gzip`. Version, size and checksum
    are those of the stored bytes.

    A URL is read as it is now, and its version is that of the bytes.

    Raises:
      OSError: if the file cannot be read, or has changed since it was listed.
      ValueError: if it is too large, packed or unpacked, or cannot be unpacked.
    """
    if locations.is_http(path := keys.uri(ref.key)):
        from transforms.storage import https  # libcurl

        stored, version = https.read(storage, path, MAX_ENCODED_BYTES)
        ref, crc32c = dataclasses.replace(ref, version=version), versioned.crc32c(stored)
    else:
        ref = versioned.described(storage, ref)
        check_size(ref.size)
        stored, crc32c = versioned.read(storage, ref, MAX_ENCODED_BYTES)
    encoded = _unpacked(stored) if stored.startswith(_GZIP) else stored
    return EncodedImage(dataclasses.replace(ref, size=len(stored), crc32c=crc32c), encoded)


def _unpacked(stored: bytes) -> bytes:
    limit = min(MAX_ENCODED_BYTES, max(_FREE_BYTES, _MAX_RATIO * len(stored)))
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(stored)) as file:
            encoded = file.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BrokenGzip(f"an image packed by gzip that cannot be unpacked: {error}") from error
    if len(encoded) > limit:
        raise TooManyBytes(f"{len(stored)} bytes packed by gzip: expected an image of at most {limit} bytes in them")
    return encoded


def read_or_failure(storage: Storage, ref: ImageRef) -> EncodedImage | Failure:
    """Reads one file, or returns why it cannot be read."""
    try:
        return read(storage, ref)
    except (OSError, ValueError, MemoryError) as error:
        return failure(ref, error)


def check_size(size: int) -> None:
    """Raises TooManyBytes for more bytes than an image may have."""
    if size > MAX_ENCODED_BYTES:
        raise TooManyBytes(f"{size} bytes: expected an image of at most {MAX_ENCODED_BYTES}")


def failure(ref: ImageRef, error: Exception) -> Failure:
    """Returns the failure of a file that cannot be read."""
    if isinstance(error, MemoryError):  # its own text is empty, and another worker or time may have more
        error = MemoryError(f"too little memory to read {keys.text(ref.key)}: expected room for {ref.size} bytes")
    return Failure.of(ref.key, STAGE, error)
