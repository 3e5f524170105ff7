"""Parquet files of embeddings, read without the code that wrote them: their columns, metadata, page checksums and rows.

The format: https://parquet.apache.org/docs/file-format/.
"""

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.commands.verify.record_file import BYTES, FLOAT, INT, LABELS, SHARD, VECTOR, Expected, Feature
from transforms.elements import keys
from transforms.elements.one_line import one_line

_KEY = "image/key"
# Columns of keys as text.
_KEYS = (_KEY, SHARD)
# Feature of a record → column.
_COLUMNS = {
    _KEY: "key",
    **{f"image/{name}": name for name in ("sha256", "version", "format", "height", "width", "size", "crc32c")},
    SHARD: "shard",
    VECTOR: VECTOR,
    "model/name": "model",
    "model/digest": "model_digest",
    **{name: name.replace("/", "_") for name in LABELS},
}
_KINDS = {BYTES: pa.string(), INT: pa.int64(), FLOAT: pa.float32()}
_FLOATS = {"float32": pa.float32(), "float16": pa.float16()}
# Bounds the memory: a row group may be as large as its file.
_ROWS_AT_ONCE = 256
# The errors of a broken file: one of Arrow's, a RuntimeError into which pyarrow turns other C++ errors, a ValueError of
# Python for a value, or an OSError if the file cannot be read.
_BROKEN = (pa.ArrowException, RuntimeError, ValueError, OSError)


class Row(NamedTuple):
    """A row: its number in the file, and the features of its record or what is wrong, with this row or from here on."""

    number: int
    features: Mapping[str, Feature]
    problem: str = ""


def rows(file: BinaryIO, expected: Expected, vector_type: str) -> Iterator[Row]:
    """Yields the rows of a file opened for reading.

    Where a page does not match its checksum, the rest of its row group is not read. If the columns are not as expected,
    one row says so for the file. `vector_type` is `float32` or `float16`.
    """
    try:
        opened = pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=False)
        problems = list(_problems(opened.schema_arrow, expected, vector_type))
    except _BROKEN as error:
        yield Row(0, {}, f"not a Parquet file, or broken: {one_line(error)}")
        return
    if problems:
        yield Row(0, {}, "; ".join(problems))
        return
    first = 0
    for group in range(opened.num_row_groups):
        read = 0
        try:
            for batch in opened.iter_batches(_ROWS_AT_ONCE, row_groups=[group]):
                for number, features in enumerate(_features(batch, expected), first + read):
                    yield Row(number, features)
                read += len(batch)
        except _BROKEN as error:
            yield Row(first + read, {}, f"broken from here to the end of its row group: {one_line(error)}")
        first += opened.metadata.row_group(group).num_rows


def _problems(schema: pa.Schema, expected: Expected, vector_type: str) -> Iterator[str]:
    """Yields the differences between the columns and the metadata of a file, and those that a run writes."""
    stored = {field.name: field for field in schema}
    names = {_COLUMNS.get(name, name): name for name in expected.columns}
    if _COLUMNS[SHARD] not in stored:
        names.pop(_COLUMNS[SHARD], None)
    for column in sorted(stored.keys() ^ names.keys()):
        yield f"the column {column} {'is not of a record' if column in stored else 'is missing'}"
    for column in stored.keys() & names.keys():
        kind, field = expected.columns[names[column]][0], stored[column]
        if not _is(field.type, names[column], kind, vector_type) or field.nullable:
            yield f"the column {column} is of type {field}, expected {vector_type if column == VECTOR else kind}"
    count = expected.columns[VECTOR][1]
    metadata = schema.metadata or {}
    for name, value in (
        (b"model", expected.model_name),
        (b"model_digest", expected.model_digest),
        (b"dimension", b"%d" % count if count is not None else None),
    ):
        if name not in metadata or (value is not None and metadata[name] != value):
            yield f"its metadata has {name.decode()} {metadata.get(name)!r}, expected {value!r}"


def _is(kind: pa.DataType, name: str, expected: str, vector_type: str) -> bool:
    if name == VECTOR:
        return pa.types.is_fixed_size_list(kind) and kind.value_type == _FLOATS[vector_type]
    if name in LABELS:
        return pa.types.is_list(kind) and kind.value_type == _KINDS[expected]
    return bool(kind == _KINDS[expected])


def _features(batch: pa.RecordBatch, expected: Expected) -> Iterator[dict[str, Feature]]:
    """Yields the features of each row of a batch, as they would be in a tf.Example."""
    columns = {
        name: (kind, _values(batch.column(_COLUMNS[name]), name, kind))
        for name, (kind, _) in expected.columns.items()
        if name != SHARD or _COLUMNS[SHARD] in batch.schema.names
    }
    for row in range(len(batch)):
        yield {name: Feature(kind, values[row]) for name, (kind, values) in columns.items()}


def _values(column: pa.Array, name: str, kind: str) -> Any:
    """Returns the values of each row, as a list or an array of lists."""
    if name == VECTOR:
        flat = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
        return flat.reshape(len(column), -1)
    values = column.to_pylist()
    lists = values if name in LABELS else [[value] for value in values]
    if kind != BYTES:
        return lists
    if name in _KEYS:
        return [[keys.of_text(key)] for key in values]
    return [[text.encode() for text in texts] for texts in lists]
