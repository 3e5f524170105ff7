"""Shards of images: TFRecords of tf.Examples, or tar files in webdataset's layout → their images, in order. No Beam.

The key of an image in a shard is `<URI of the shard>#<member or record number>`, unless the record has its own.
"""

import tarfile
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

from transforms.elements import keys
from transforms.elements.records import EncodedImage, Failure, ImageRef
from transforms.encoding import compressed, examples, tar, tfrecord
from transforms.storage import choice, left_out, local, read_image, versioned
from transforms.storage.context import Storage
from transforms.storage.read_image import STAGE

# The members of a tar shard that are images. Webdataset's other members (.json, .cls, .txt) are not listed.
_TAR_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".pjpeg", ".pjp", ".mpo", ".png", ".apng", ".webp", ".gif"),
    *(".tif", ".tiff", ".bmp", ".dib", ".avif", ".avifs", ".heic", ".heics", ".heif", ".heifs", ".hif"),
)

# (left_out.HIDDEN or OTHER, kind of name) → members of shards that are not read.
PassedOver = Counter[tuple[str, str]]


def read(
    storage: Storage,
    ref: ImageRef,
    input_format: str,
    passed_over: PassedOver | None = None,
    include_hidden: bool = True,
) -> Iterator[EncodedImage | Failure]:
    """Yields the images of a shard, compressed or not, and a Failure for each that cannot be read.

    A record with a valid length but a corrupt body fails alone.

    A tar file is not unpacked to disk. The name of a member says whether it is an image. If such a member is a link, a
    device or too large, it is a Failure. If a name occurs again, the key of that member ends in its number in the file,
    counted from 0.

    Args:
      storage: how buckets are reached.
      ref: of the file.
      input_format: one of SHARD_FORMATS.
      passed_over: gets the number of members that are no images by name, or are hidden, by kind of name.
      include_hidden: whether hidden members are images too. Records have no names, so none is hidden.

    Raises:
      OSError: if the file cannot be read, or has changed since it was listed.
      ValueError, tarfile.TarError: if it is broken.
    """
    with versioned.opened(storage, ref) as file:
        if input_format == "tfrecord":
            yield from _in_tfrecord(ref, file)
        else:
            yield from _in_tar(ref, file, Counter() if passed_over is None else passed_over, include_hidden)


def read_or_failure(
    storage: Storage, ref: ImageRef, input_format: str, passed_over: PassedOver, include_hidden: bool
) -> Iterator[EncodedImage | Failure]:
    """Yields what `read` yields. An error ends the shard with a Failure under its key."""
    try:
        yield from read(storage, ref, input_format, passed_over, include_hidden)
    except (OSError, ValueError, MemoryError, tarfile.TarError) as error:
        yield read_image.failure(ref, error)


def _in_tfrecord(ref: ImageRef, file: BinaryIO) -> Iterator[EncodedImage | Failure]:
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
            yield _image(record_key, ref, encoded)


def _in_tar(
    ref: ImageRef, file: BinaryIO, passed_over: PassedOver, include_hidden: bool
) -> Iterator[EncodedImage | Failure]:
    keys_before: set[bytes] = set()
    for number, (member, content) in enumerate(tar.members(compressed.expanded(file))):
        if member.isdir():
            continue
        if why := _why_passed_over(member.name, include_hidden):
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
            yield _image(key, ref, encoded)


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


def _image(key: bytes, shard: ImageRef, encoded: bytes) -> EncodedImage:
    ref = ImageRef(key, shard.version, len(encoded), versioned.crc32c(encoded), in_shard=shard.key)
    return EncodedImage(ref, encoded)
