"""Files of embeddings, read without the code that wrote them: TFRecord framing, tf.Examples, and their features.

The format of the file: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details. That of a
record: https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/example/example.proto.
"""

import base64
import binascii
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import google_crc32c
import numpy as np
import numpy.typing as npt
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

# Far above any embedding. It limits the memory that a broken or hostile file takes.
MAX_RECORD_BYTES = 64 * 2**20

BYTES, FLOAT, INT = "bytes", "float", "int"
# Name → (type, number of values) of every feature of a record. The number is None where it is not known.
Columns = Mapping[str, tuple[str, int | None]]

# The features that every record has one value of.
SCALARS = {
    "image/key": BYTES,
    "image/sha256": BYTES,
    "image/version": BYTES,
    "image/format": BYTES,
    "image/height": INT,
    "image/width": INT,
    "image/size": INT,
    "image/crc32c": BYTES,
    "model/name": BYTES,
    "model/digest": BYTES,
}
# A feature of one value, which records of earlier versions lack.
SHARD = "image/shard"
VECTOR = "embedding"
# A record in float16 has this feature in place of the vector: one text with the little-endian components.
NARROW_VECTOR = "embedding/float16"
LABELS = {"label/index": INT, "label/name": BYTES, "label/score": FLOAT}

_LENGTH, _CRC = struct.Struct("<Q"), struct.Struct("<I")
_SHA256 = re.compile(rb"[0-9a-f]{64}")


class Frame(NamedTuple):
    """A record as it lies in a file: the byte where it begins, and its bytes, or what is wrong with them."""

    offset: int
    record: bytes = b""
    problem: str = ""


def frames(file: BinaryIO) -> Iterator[Frame]:
    """Yields the records of a file opened for reading.

    A record with a valid length but a corrupt body fails alone. After a corrupt length, the rest of the file cannot be
    divided into records: that frame is the last.
    """
    offset = 0
    while head := file.read(_LENGTH.size + _CRC.size):
        if len(head) < _LENGTH.size + _CRC.size:
            yield Frame(offset, problem="the file ends in the middle of a record")
            return
        if not _matches(head[: _LENGTH.size], head[_LENGTH.size :]):
            yield Frame(offset, problem="the checksum of a record's length does not match: nothing from here is read")
            return
        (size,) = _LENGTH.unpack_from(head)
        if size > MAX_RECORD_BYTES:
            yield Frame(
                offset, problem=f"a record of {size:,} bytes, more than any embedding: nothing from here is read"
            )
            return
        record, crc = file.read(size), file.read(_CRC.size)
        if len(record) < size or len(crc) < _CRC.size:
            yield Frame(offset, problem="the file ends in the middle of a record")
            return
        if _matches(record, crc):
            yield Frame(offset, record)
        else:
            yield Frame(offset, problem="the checksum of a record's bytes does not match")
        offset += len(head) + size + len(crc)


def _matches(data: bytes, stored: bytes) -> bool:
    (masked,) = _CRC.unpack(stored)
    rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
    crc: int = google_crc32c.value(data)
    return ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF == crc


def _example_message() -> Any:
    """Returns the class of tf.train.Example, declared anew, because TensorFlow takes seconds to import."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="example", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto

    def message(name: str, *fields: tuple[str, int, Any, Any, str]) -> Any:
        added = file.message_type.add(name=name)
        for name_of_field, number, label, kind, type_name in fields:
            added.field.add(name=name_of_field, number=number, label=label, type=kind, type_name=type_name or None)
        return added

    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    message("BytesList", ("value", 1, many, field.TYPE_BYTES, ""))
    message("FloatList", ("value", 1, many, field.TYPE_FLOAT, ""))
    message("Int64List", ("value", 1, many, field.TYPE_INT64, ""))
    kinds = ((BYTES, 1, ".example.BytesList"), (FLOAT, 2, ".example.FloatList"), (INT, 3, ".example.Int64List"))
    feature = message("Feature", *((name, number, one, field.TYPE_MESSAGE, of) for name, number, of in kinds))
    feature.oneof_decl.add(name="kind")
    for alternative in feature.field:
        alternative.oneof_index = 0
    features = message("Features", ("feature", 1, many, field.TYPE_MESSAGE, ".example.Features.FeatureEntry"))
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=one, type=field.TYPE_STRING)
    entry.field.add(name="value", number=2, label=one, type=field.TYPE_MESSAGE, type_name=".example.Feature")
    message("Example", ("features", 1, one, field.TYPE_MESSAGE, ".example.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("example.Example"))


_Example = _example_message()


class Feature(NamedTuple):
    """A feature's type, one of BYTES, FLOAT and INT, or "" without any, and its values. Floats are a float32 array."""

    kind: str
    values: Any


def features(record: bytes) -> dict[str, Feature]:
    """Returns the features of a serialized tf.Example by name. Raises ValueError if it is none."""
    try:
        example = _Example.FromString(record)
    except DecodeError as error:
        raise ValueError("not a tf.Example") from error
    parsed = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind") or ""
        values = getattr(feature, kind).value if kind else ()
        parsed[name] = Feature(kind, _floats(feature.float, len(values)) if kind == FLOAT else values)
    narrow = parsed.get(NARROW_VECTOR)
    if narrow and VECTOR not in parsed and narrow.kind == BYTES and len(narrow.values) == 1:
        if len(narrow.values[0]) % 2:
            raise ValueError(f"{NARROW_VECTOR} has {len(narrow.values[0])} bytes, expected two for each component")
        del parsed[NARROW_VECTOR]
        parsed[VECTOR] = Feature(FLOAT, np.frombuffer(narrow.values[0], "<f2").astype(np.float32))
    return parsed


def _floats(message: Any, count: int) -> npt.NDArray[np.float32]:
    """Returns the values of a FloatList, from the end of its serialized form. One by one is twenty times slower."""
    serialized = message.SerializeToString()
    return np.frombuffer(serialized, "<f4", count, offset=len(serialized) - 4 * count)


class Record(NamedTuple):
    """What a record says of an image; `vector` is float32 (dimension,)."""

    key: bytes
    version: bytes
    sha256: bytes
    model_digest: bytes
    vector: npt.NDArray[np.float32]
    image: "ImageFacts"


class ImageFacts(NamedTuple):
    """What a record says of the bytes and pixels of an image, besides the SHA-256; `crc32c` is in base64."""

    format: bytes
    height: int
    width: int
    size: int
    crc32c: bytes


class Expected(NamedTuple):
    """What all records of a run have in common, as far as it is known.

    Attributes:
      columns: the features.
      model_name, model_digest: None where the run's report is not readable.
    """

    columns: Columns
    model_name: bytes | None = None
    model_digest: bytes | None = None


def parse(record: bytes, expected: Expected) -> Record:
    """Returns the content of a serialized record. Raises ValueError with everything that is wrong with it."""
    return checked(features(record), expected)


def checked(parsed: Mapping[str, Feature], expected: Expected) -> Record:
    """Returns the content of a record with these features. Raises ValueError with everything that is wrong with it."""
    problems = list(_problems(parsed, expected))
    if problems:
        key = parsed.get("image/key", Feature("", ()))
        named = f"{_text(key.values[0])}: " if key.kind == BYTES and len(key.values) == 1 else ""
        raise ValueError(f"{named}{'; '.join(problems)}")
    return Record(
        key=parsed["image/key"].values[0],
        version=parsed["image/version"].values[0],
        sha256=parsed["image/sha256"].values[0],
        model_digest=parsed["model/digest"].values[0],
        vector=np.asarray(parsed[VECTOR].values),
        image=ImageFacts(*(parsed[f"image/{name}"].values[0] for name in ImageFacts._fields)),
    )


def _problems(parsed: Mapping[str, Feature], expected: Expected) -> Iterator[str]:
    ill_formed = False
    for name, (kind, count) in expected.columns.items():
        feature = parsed.get(name)
        if feature is None and name == SHARD:
            continue
        if feature is None:
            ill_formed = True
            yield f"no feature {name}"
        elif feature.kind != kind or not (len(feature.values) == count if count is not None else len(feature.values)):
            ill_formed = True
            yield f"{name} has {len(feature.values)} values of type {feature.kind or 'none'}, expected {count} {kind}"
    for name in parsed.keys() - expected.columns.keys():
        yield f"a feature {name} that the schema does not have"
    if not ill_formed:
        yield from _invalid_values({name: feature.values for name, feature in parsed.items()}, expected)


def _invalid_values(values: Mapping[str, Sequence[Any]], expected: Expected) -> Iterator[str]:
    if not np.isfinite(values[VECTOR]).all():
        yield "its vector is not finite"
    if not values["image/key"][0]:
        yield "image/key is empty"
    for name in ("image/sha256", "model/digest"):
        if not _SHA256.fullmatch(values[name][0]):
            yield f"{name} is {_text(values[name][0])}, expected 64 hex digits"
    if not _is_crc32c(values["image/crc32c"][0]):
        yield f"image/crc32c is {_text(values['image/crc32c'][0])}, expected 4 bytes in base64"
    for name in ("image/height", "image/width", "image/size"):
        if values[name][0] < 1:
            yield f"{name} is {values[name][0]}"
    for name, common in (("model/name", expected.model_name), ("model/digest", expected.model_digest)):
        if common is not None and values[name][0] != common:
            yield f"{name} is {_text(values[name][0])}, and {_text(common)} in the report"


def _is_crc32c(encoded: bytes) -> bool:
    try:
        return len(base64.b64decode(encoded, validate=True)) == _CRC.size
    except binascii.Error:
        return False


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
