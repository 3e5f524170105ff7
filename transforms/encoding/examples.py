"""Embeddings and images as serialized tf.Examples, by tfx-bsl and Arrow, with the schema that describes them. No Beam.

For an embedding of 1536 floats, tfx-bsl's encoder takes 7 µs. Building a tf.train.Example in Python takes 355 µs.
"""

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.coders import example_coder

from transforms.elements.records import Embedding
from transforms.encoding import top_classes
from transforms.encoding.narrowing import narrowed
from transforms.encoding.stored_embeddings import Identity, StoredVectors
from transforms.models.spec import ModelFields

_BYTES, _INT, _FLOAT = schema_pb2.FeatureType.BYTES, schema_pb2.FeatureType.INT, schema_pb2.FeatureType.FLOAT

# The scalar features of a record, in their order, with their types.
_SCALARS = {
    "image/key": _BYTES,
    "image/sha256": _BYTES,
    "image/version": _BYTES,
    "image/format": _BYTES,
    "image/height": _INT,
    "image/width": _INT,
    "image/size": _INT,
    "image/crc32c": _BYTES,
    "model/name": _BYTES,
    "model/digest": _BYTES,
}
# Records of earlier versions lack it.
_SHARD = "image/shard"
_VECTOR = "embedding"
# Replaces the vector in records in float16, because a tf.Example has no such list: its bytes, little-endian.
_NARROW_VECTOR = "embedding/float16"

# Further features of a classifier's record: its best classes, best first.
_LABELS = {"label/index": _INT, "label/name": _BYTES, "label/score": _FLOAT}


def schema(model: ModelFields, vector_type: str = "float32") -> schema_pb2.Schema:
    """Returns the TensorFlow Metadata schema of the records; `vector_type` is one of formats.VECTOR_TYPES."""
    records = schema_pb2.Schema()
    vector = {_VECTOR: _FLOAT} if vector_type == "float32" else {_NARROW_VECTOR: _BYTES}
    features = {**_SCALARS, _SHARD: _BYTES, **vector, **(_LABELS if model.labels else {})}
    for name, feature_type in features.items():
        feature = records.feature.add(name=name, type=feature_type)
        if name == _SHARD:
            feature.value_count.min = feature.value_count.max = 1
            continue
        feature.presence.min_fraction = 1.0
        feature.presence.min_count = 1
        if name == _VECTOR:
            feature.shape.dim.add(size=model.dimension)
        elif name in _LABELS:
            feature.shape.dim.add(size=model.labels)
        else:
            feature.shape.SetInParent()
        if name == _NARROW_VECTOR:  # the shape is that of one text
            feature.annotation.comment.append(_of_vectors(model.dimension, vector_type))
    return records


def _of_vectors(dimension: int, vector_type: str) -> str:
    return f"vectors of {dimension} dimensions{'' if vector_type == 'float32' else f' in {vector_type}'}"


def schema_text(model: ModelFields, vector_type: str = "float32") -> str:
    """Returns the schema in the text format of `schema.pbtxt`."""
    return text_format.MessageToString(schema(model, vector_type))


def shapes(text: str) -> str:
    """Describes the records of a `schema.pbtxt` in words. Raises ValueError if it is not a schema of this module."""
    try:
        records = text_format.Parse(text, schema_pb2.Schema())
        sizes = {feature.name: feature.shape.dim[0].size for feature in records.feature if feature.shape.dim}
        classes = f" and {sizes['label/index']} classes" if "label/index" in sizes else ""
        narrow = [text for each in records.feature if each.name == _NARROW_VECTOR for text in each.annotation.comment]
        return f"{narrow[0] if narrow else _of_vectors(sizes[_VECTOR], 'float32')}{classes}"
    except (text_format.ParseError, KeyError) as error:
        raise ValueError(f"expected a schema with the feature {_VECTOR!r}: {error}") from error


def encode_embeddings(embeddings: Sequence[Embedding], model: ModelFields, vector_type: str = "float32") -> list[bytes]:
    """Returns one serialized tf.Example for each embedding. All vectors have the dimension of the model.

    Raises:
      ValueError: if a vector has a number outside the range of float16.
    """
    count = len(embeddings)
    vectors = np.stack([embedding.vector for embedding in embeddings])
    infos = [embedding.info for embedding in embeddings]
    columns = {
        "image/key": pa.array([info.ref.key for info in infos], pa.binary()),
        "image/sha256": pa.array([info.sha256.encode() for info in infos], pa.binary()),
        "image/version": pa.array([info.ref.version.encode() for info in infos], pa.binary()),
        "image/format": pa.array([info.format.encode() for info in infos], pa.binary()),
        "image/height": pa.array([info.height for info in infos], pa.int64()),
        "image/width": pa.array([info.width for info in infos], pa.int64()),
        "image/size": pa.array([info.ref.size for info in infos], pa.int64()),
        "image/crc32c": pa.array([info.ref.crc32c.encode() for info in infos], pa.binary()),
        _SHARD: pa.array([info.ref.in_shard for info in infos], pa.binary()),
        "model/name": pa.array([model.model_name.encode()] * count, pa.binary()),
        "model/digest": pa.array([model.model_digest.encode()] * count, pa.binary()),
    }
    if vector_type == "float32":
        columns[_VECTOR] = pa.array(vectors.reshape(-1), pa.float32())
    else:
        rows = narrowed(vectors, [info.ref.key for info in infos]).astype("<f2")
        columns[_NARROW_VECTOR] = pa.array([row.tobytes() for row in rows], pa.binary())
    if model.labels:
        best, scores = top_classes.ranked(vectors, model.labels, are_probabilities=model.gives_probabilities)
        columns |= {
            "label/index": pa.array(best.reshape(-1), pa.int64()),
            "label/name": pa.array([model.classes[index].encode() for index in best.reshape(-1)], pa.binary()),
            "label/score": pa.array(scores.reshape(-1), pa.float32()),
        }
    lists = [
        pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32) * (len(values) // count), values)
        for values in columns.values()
    ]
    batch = pa.RecordBatch.from_arrays(lists, list(columns))
    serialized: list[bytes] = _encoder(model, vector_type).encode(batch)
    return serialized


def decode_image(serialized: bytes) -> tuple[bytes | None, bytes]:
    """Returns `image/key`, or None if it is absent, and `image/encoded` of a serialized tf.Example.

    Raises:
      ValueError: if it is not a tf.Example, or has no `image/encoded`.
    """
    batch = _decode([serialized], "image/key", "image/encoded")
    features = {name: batch.column(i)[0].as_py() for i, name in enumerate(batch.schema.names)}
    encoded = features.get("image/encoded")
    if not encoded:
        raise ValueError("expected the feature 'image/encoded' in the tf.Example")
    key = features.get("image/key")
    return (key[0] if key else None), encoded[0]


def decode_embeddings(serialized: Sequence[bytes]) -> StoredVectors:
    """Returns the vectors, models and shards of serialized embeddings.

    Raises:
      ValueError: if one is not an embedding, or their dimensions differ.
    """
    if not serialized:
        return StoredVectors([], np.zeros((0, 0), np.float32), [], [])
    vector = _VECTOR if vector_type(serialized[0]) == "float32" else _NARROW_VECTOR
    columns = _columns(serialized, "image/key", "model/name", "model/digest", _SHARD, vector)
    flat = columns[vector].to_numpy() if vector == _VECTOR else _widened(columns[vector].to_pylist())
    models = list(zip(_texts(columns["model/name"]), _texts(columns["model/digest"]), strict=True))
    matrix = flat.reshape(len(serialized), -1)
    return StoredVectors(columns["image/key"].to_pylist(), matrix, models, columns[_SHARD].to_pylist())


def _widened(vectors: Sequence[bytes]) -> npt.NDArray[np.float32]:
    if len(set(map(len, vectors))) > 1 or len(vectors[0]) % 2 or not vectors[0]:
        raise ValueError(f"expected the feature {_NARROW_VECTOR!r} in each tf.Example, two bytes for each component")
    return np.frombuffer(b"".join(vectors), "<f2").astype(np.float32)


def vector_type(serialized: bytes) -> str:
    """Returns the type in which a serialized embedding has its vector. Raises ValueError if it is no tf.Example."""
    (column,) = _decode([serialized], _NARROW_VECTOR).columns
    return "float32" if column.null_count else "float16"


def decode_identities(serialized: Sequence[bytes]) -> list[Identity]:
    """Returns the identities of serialized embeddings. Raises ValueError if one is not an embedding."""
    if not serialized:
        return []
    names = ("image/key", "image/version", "image/sha256", "image/size", "image/crc32c", "model/digest", _SHARD)
    columns = _columns(serialized, *names)
    decoded = (
        columns[name].to_pylist() if name in ("image/key", "image/size", _SHARD) else _texts(columns[name])
        for name in names
    )
    return [Identity(*values) for values in zip(*decoded, strict=True)]


def decode_facts(serialized: Sequence[bytes]) -> list[tuple[str, int, int]]:
    """Returns (format, height, width) of the images of serialized embeddings. Raises ValueError if one is none."""
    if not serialized:
        return []
    columns = _columns(serialized, "image/format", "image/height", "image/width")
    formats, heights, widths = (columns[name] for name in ("image/format", "image/height", "image/width"))
    return list(zip(_texts(formats), heights.to_pylist(), widths.to_pylist(), strict=True))


def _columns(serialized: Sequence[bytes], *names: str) -> dict[str, pa.Array]:
    """Returns the named features of embeddings as flat arrays: one value per record, or one vector.

    The shard of a record that has none is null.
    """
    batch = _decode(serialized, *names)
    columns = {}
    for i, name in enumerate(batch.schema.names):
        lists = batch.column(i)
        if name == _SHARD and lists.null_count:
            columns[name] = _one_or_none(lists)
            continue
        length, rest = divmod(len(lists.flatten()), len(serialized))
        if rest or not length or set(np.diff(lists.offsets)) != {length} or (name != _VECTOR and length > 1):
            raise ValueError(f"expected the feature {name!r} in each tf.Example, in the shape that embeddings have")
        columns[name] = lists.flatten()
    return columns


def _one_or_none(lists: pa.ListArray) -> pa.Array:
    values = lists.to_pylist()
    if any(value is not None and len(value) != 1 for value in values):
        raise ValueError(f"expected at most one value of the feature {_SHARD!r} in each tf.Example")
    return pa.array([value and value[0] for value in values], pa.binary())


def _texts(column: pa.Array) -> list[str]:
    return [value.decode() for value in column.to_pylist()]


# tfx-bsl's coders hold state while they work, and release the GIL. So each thread has its own.
_of_thread = threading.local()


def _encoder(model: ModelFields, vector_type: str) -> example_coder.RecordBatchToExamplesEncoder:
    return _coder((model, vector_type), lambda: example_coder.RecordBatchToExamplesEncoder(schema(model, vector_type)))


def _decode(serialized: Sequence[bytes], *names: str) -> pa.RecordBatch:
    """Returns only the named features. Raises ValueError if a record is not a tf.Example."""

    def decoder() -> example_coder.ExamplesToRecordBatchDecoder:
        columns = schema_pb2.Schema()
        for name in names:
            columns.feature.add(name=name, type=_FLOAT if name == _VECTOR else _SCALARS.get(name, _BYTES))
        return example_coder.ExamplesToRecordBatchDecoder(columns.SerializeToString())

    try:
        return _coder(names, decoder).DecodeBatch(list(serialized))
    except RuntimeError as error:
        del _of_thread.coders[names]  # its next call would continue in the middle of these records
        raise ValueError(f"expected serialized tf.Examples: {error}") from error


def _coder(key: Hashable, make: Callable[[], Any]) -> Any:
    """Returns this thread's coder for `key`, made at the first call."""
    coders = _of_thread.__dict__.setdefault("coders", {})
    if key not in coders:
        coders[key] = make()
    return coders[key]
