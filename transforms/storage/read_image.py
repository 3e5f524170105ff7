"""Reading one image: an `ImageRef` → an `EncodedImage`. No Beam, except for filesystems that only Beam knows."""

import dataclasses
import tarfile

from transforms import keys
from transforms.records import EncodedImage, Failure, ImageRef
from transforms.storage import versioned

STAGE = "read"

# The most bytes of one encoded image that a worker reads into memory. It is far above the size of any photograph, and
# limits the objects that strangers put into a bucket.
MAX_ENCODED_BYTES = 256 * 2**20


class TooManyBytes(ValueError):
    """An object larger than MAX_ENCODED_BYTES."""


def read(ref: ImageRef, billing_project: str | None = None) -> EncodedImage:
    """Reads one file. If the ref has no version, the filesystem is asked for it first.

    Raises:
      OSError: if the file cannot be read, or has changed since it was listed.
      ValueError: if it is too large.
    """
    ref = versioned.described(ref, billing_project)
    check_size(ref.size)
    encoded, crc32c = versioned.read(ref, billing_project, MAX_ENCODED_BYTES)
    return EncodedImage(dataclasses.replace(ref, size=len(encoded), crc32c=crc32c), encoded)


def read_or_failure(ref: ImageRef, billing_project: str | None = None) -> EncodedImage | Failure:
    """Reads one file, or returns why it cannot be read."""
    try:
        return read(ref, billing_project)
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
    return Failure.of(ref.key, STAGE, error, retryable=not isinstance(error, (ValueError, tarfile.TarError)))
