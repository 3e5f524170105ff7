"""The file `schema.pbtxt`, read without the code that wrote it: what it says of a record's features."""

import re

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from pipeline.commands.verify.record_file import (
    BYTES,
    FLOAT,
    INT,
    LABELS,
    NARROW_VECTOR,
    SCALARS,
    SHARD,
    VECTOR,
    Columns,
)

MAX_BYTES = 2**20
_SHARD_FEATURE = re.compile(rb'feature \{\n  name: "' + SHARD.encode() + rb'"\n(?:  .*\n)*\}\n')
_TYPES = {schema_pb2.FeatureType.BYTES: BYTES, schema_pb2.FeatureType.FLOAT: FLOAT, schema_pb2.FeatureType.INT: INT}

# The features of a record if no schema states their number.
COLUMNS: Columns = {
    **{name: (kind, 1) for name, kind in SCALARS.items()},
    SHARD: (BYTES, 1),
    VECTOR: (FLOAT, None),
}


def columns(content: bytes) -> Columns:
    """Returns name → (type, number of values) of each feature that a schema names. Vectors in float16 are floats too.

    Raises:
      ValueError: if it is no schema, or not one of records of this project.
    """
    try:
        schema = text_format.Parse(content.decode(), schema_pb2.Schema())
    except (text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a schema: {error}") from error
    described: dict[str, tuple[str, int | None]] = {}
    for feature in schema.feature:
        if feature.name in described:
            raise ValueError(f"the feature {feature.name} is described twice")
        if feature.name == SHARD:
            described[SHARD] = _shard(feature)
            continue
        sizes = [dim.size for dim in feature.shape.dim]
        if not feature.HasField("shape") or len(sizes) > 1:
            raise ValueError(f"the feature {feature.name} has no shape, or one of several dimensions")
        if feature.presence.min_fraction != 1:
            raise ValueError(f"the feature {feature.name} is not one of every record")
        described[feature.name] = _TYPES.get(feature.type, ""), sizes[0] if sizes else 1
    if described.get(NARROW_VECTOR) == (BYTES, 1) and VECTOR not in described:
        del described[NARROW_VECTOR]
        described[VECTOR] = FLOAT, None
    labels = LABELS if LABELS.keys() & described.keys() else {}
    for name, kind in (SCALARS | {VECTOR: FLOAT} | labels).items():
        if name not in described:
            raise ValueError(f"the feature {name} is missing")
        if described[name][0] != kind or (name in SCALARS and described[name][1] != 1):
            raise ValueError(f"the feature {name} is {described[name]}, expected {kind}")
    if len({described[name][1] for name in labels}) > 1:
        raise ValueError("the features of classes differ in their number")
    return described


def before_shard(content: bytes) -> bytes:
    """Returns the schema without `image/shard`. Reports of earlier versions have the digest of this form."""
    return _SHARD_FEATURE.sub(b"", content)


def _shard(feature: schema_pb2.Feature) -> tuple[str, int]:
    if (_TYPES.get(feature.type), feature.value_count.min, feature.value_count.max) != (BYTES, 1, 1):
        raise ValueError(f"the feature {SHARD} is not one text")
    return BYTES, 1
