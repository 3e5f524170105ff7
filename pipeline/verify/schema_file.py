"""The file `schema.pbtxt`, read without the code that wrote it: what it says of a record's features."""

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from pipeline.verify.record_file import BYTES, FLOAT, INT, LABELS, NARROW_VECTOR, SCALARS, VECTOR

MAX_BYTES = 2**20
_TYPES = {schema_pb2.FeatureType.BYTES: BYTES, schema_pb2.FeatureType.FLOAT: FLOAT, schema_pb2.FeatureType.INT: INT}

# The features of a record where no schema tells their number.
COLUMNS: dict[str, tuple[str, int | None]] = {
    **{name: (kind, 1) for name, kind in SCALARS.items()},
    VECTOR: (FLOAT, None),
}


def columns(content: bytes) -> dict[str, tuple[str, int | None]]:
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
