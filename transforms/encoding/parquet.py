"""Parquet files of embeddings: written by row groups in bounded memory, and read again by rows. No Beam.

The columns have the names of the BigQuery table, so that a file can be loaded into one and SQL needs no quotes. Vectors
are compressed by zstd, and are not split by bytes (BYTE_STREAM_SPLIT): this saves up to 9% more, but DuckDB does not
read it for float16.
"""

import bisect
import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.elements import keys
from transforms.elements.image_columns import columns_of
from transforms.elements.one_line import one_line
from transforms.elements.records import Embedding
from transforms.encoding import top_classes
from transforms.encoding.narrowing import narrowed
from transforms.encoding.stored_embeddings import Identity, StoredEmbedding, StoredVectors
from transforms.models.spec import ModelFields

SUFFIX = ".parquet"

# A row group is read at once, and is in memory while it is written. Range reads from a bucket are efficient at some
# tens of megabytes.
ROW_GROUP_BYTES = 32 * 2**20
# Our row groups have at most ROW_GROUP_BYTES and one batch more. This limits the memory that a reader of a broken file
# allocates, if the footer describes the pages correctly.
_MAX_GROUP_BYTES = 2**28
# The most bytes of a text in the footer of a file, and the most items of a list.
_MAX_TEXT_BYTES, _MAX_ITEMS = 2**22, 2**16

_VECTOR = "embedding"
_VECTOR_TYPES = {"float32": pa.float32(), "float16": pa.float16()}
_FACTS = {
    "key": pa.string(),
    "sha256": pa.string(),
    "version": pa.string(),
    "format": pa.string(),
    "height": pa.int64(),
    "width": pa.int64(),
    "size": pa.int64(),
    "crc32c": pa.string(),
    "shard": pa.string(),
}
_MODEL = {"model": pa.string(), "model_digest": pa.string()}
# Columns of few different values.
_IN_DICTIONARIES = ("format", "height", "width", "shard", *_MODEL)
# Files of earlier versions lack it.
_SHARD = "shard"
_IDENTITY = ("key", "version", "sha256", "size", "crc32c", "model_digest", _SHARD)
_RECORD = (*_FACTS, _VECTOR, *_MODEL)
# Rows that are decoded at once, without and with their vectors.
_IDENTITIES_PER_BATCH = 4096
_VECTORS_PER_BATCH = 256
# One of Arrow's threads frees what was read from a Python file, even after the rows are there. If Python ends then, the
# thread aborts the process: "terminate called without an active exception".
_USE_THREADS = False


def schema(model: ModelFields, vector_type: str) -> pa.Schema:
    """Returns the schema of a file, with the model in its metadata; `vector_type` is one of formats.VECTOR_TYPES."""
    fields = [pa.field(name, kind, nullable=False) for name, kind in _FACTS.items()]
    fields.append(pa.field(_VECTOR, _list(_VECTOR_TYPES[vector_type], model.dimension), nullable=False))
    fields += [pa.field(name, kind, nullable=False) for name, kind in _MODEL.items()]
    if model.labels:
        kinds = {"label_index": pa.int64(), "label_name": pa.string(), "label_score": pa.float32()}
        fields += [pa.field(name, _list(kind), nullable=False) for name, kind in kinds.items()]
    metadata = {"model": model.model_name, "model_digest": model.model_digest, "dimension": str(model.dimension)}
    if model.facts:
        metadata["model_facts"] = model.facts
    return pa.schema(fields, metadata)


def _list(kind: pa.DataType, size: int = -1) -> pa.DataType:
    """Returns the type of lists, all of the same size if one is given, without nulls in them."""
    return pa.list_(pa.field("element", kind, nullable=False), size)


@dataclasses.dataclass(frozen=True)
class ParquetFormat:
    """The format of a part that is a Parquet file. It is readable only once closed, because its footer comes last.

    Pages have checksums. Their headers and the footer have none, so the file is hashed too.

    Attributes:
      model: the fields of the model in each record.
      vector_type: one of formats.VECTOR_TYPES.
    """

    model: ModelFields
    vector_type: str = "float32"
    suffix: str = dataclasses.field(default=SUFFIX, init=False)
    has_tail: bool = dataclasses.field(default=False, init=False)
    is_hashed: bool = dataclasses.field(default=True, init=False)

    def open(self, file: BinaryIO) -> "ParquetPart":
        return ParquetPart(file, self.model, self.vector_type)


class ParquetPart:
    """Embeddings being written to an open file. It holds one row group in memory."""

    def __init__(self, file: BinaryIO, model: ModelFields, vector_type: str):
        self._model = model
        self._schema = schema(model, vector_type)
        self._batches: list[pa.RecordBatch] = []
        self._bytes = 0
        self._writer = pq.ParquetWriter(
            file,
            self._schema,
            compression="zstd",
            use_dictionary=list(_IN_DICTIONARIES),
            write_statistics=[*_FACTS, *_MODEL],
            write_page_checksum=True,
        )

    def append(self, embeddings: Sequence[Embedding]) -> None:
        """Adds embeddings, and writes a row group if they fill one.

        Raises:
          ValueError: if a vector has a number outside the range of float16.
          OSError: if the row group cannot be written.
        """
        batch = _encode(embeddings, self._model, self._schema)
        self._batches.append(batch)
        self._bytes += batch.nbytes
        if self._bytes >= ROW_GROUP_BYTES:
            self._write()

    def finish(self) -> None:
        """Writes the rest, and the footer. Raises OSError."""
        self._write()
        self._try(self._writer.close)

    def _write(self) -> None:
        if self._batches:
            table = pa.Table.from_batches(self._batches, self._schema)
            self._batches, self._bytes = [], 0
            self._try(self._writer.write_table, table, len(table))

    def _try(self, write: Any, *arguments: Any) -> None:
        try:
            write(*arguments)
        except BaseException:
            self._writer.is_open = False  # or it would write to the file again when it is garbage-collected
            raise


def _encode(embeddings: Sequence[Embedding], model: ModelFields, columns: pa.Schema) -> pa.RecordBatch:
    vectors = np.stack([embedding.vector for embedding in embeddings])
    infos = [embedding.info for embedding in embeddings]
    vector_type = columns.field(_VECTOR).type
    numbers = vectors if vector_type.value_type == pa.float32() else narrowed(vectors, [info.ref.key for info in infos])
    facts = list(map(columns_of, infos))
    values: dict[str, Any] = {
        **{name: [of_image[name] for of_image in facts] for name in _FACTS},
        _VECTOR: pa.FixedSizeListArray.from_arrays(pa.array(numbers.reshape(-1)), type=vector_type),
        "model": [model.model_name] * len(infos),
        "model_digest": [model.model_digest] * len(infos),
    }
    if model.labels:
        best, scores = top_classes.ranked(vectors, model.labels, are_probabilities=model.gives_probabilities)
        values |= {
            "label_index": best.tolist(),
            "label_name": [[model.classes[index] for index in row] for row in best],
            "label_score": scores.tolist(),
        }
    return pa.RecordBatch.from_pydict(values, columns)


def identities(file: BinaryIO, vector_type: str = "float32") -> Iterator[list[Identity]]:
    """Yields the identities of the embeddings of a file, in order, in batches. It reads no vectors.

    A reader of the `vector_type` float32 gets no embeddings in float16.

    Raises:
      ValueError: if it is no file of embeddings.
    """
    opened = _opened(file, _IDENTITY)
    if _suffices(opened, vector_type):
        for columns in _batches(opened, _IDENTITY, _IDENTITIES_PER_BATCH):
            yield _identities(columns)


def whole_identities(file: BinaryIO, vector_type: str = "float32") -> Iterator[list[Identity]]:
    """Yields the same as `identities` for a file that may be unfinished, up to the first unreadable row group.

    It reads the vectors too, so that `embeddings` can read each embedding whose identity it yields. A file without its
    footer has none.
    """
    try:
        opened = _opened(file, _RECORD)
        for group in range(opened.num_row_groups if _suffices(opened, vector_type) else 0):
            yield _identities(_group(opened, group))
    except ValueError:
        return


def embeddings(file: BinaryIO, rows: Sequence[int]) -> Iterator[StoredEmbedding | Exception]:
    """Yields the embeddings of some rows, or the error in place of those that cannot be read.

    `rows` are numbers of the file's rows, ascending.
    """
    try:
        opened = _opened(file, _RECORD)
    except (OSError, ValueError) as error:
        yield from (error for _ in rows)
        return
    first, read = 0, 0
    for group in range(opened.num_row_groups):
        after = first + opened.metadata.row_group(group).num_rows
        end = bisect.bisect_left(rows, after)
        if end > read:
            yield from _stored(opened, group, [row - first for row in rows[read:end]])
        first, read = after, end
    yield from (ValueError(f"no row {row:,}: expected fewer than {first:,}") for row in rows[read:])


def vectors(file: BinaryIO) -> Iterator[StoredVectors]:
    """Yields the vectors of a file, in order. Raises ValueError if it is no file of embeddings."""
    names = ("key", _VECTOR, "model", "model_digest", _SHARD)
    for columns in _batches(_opened(file, names), names, _VECTORS_PER_BATCH):
        models = zip(columns["model"].to_pylist(), columns["model_digest"].to_pylist(), strict=True)
        own_keys = list(map(keys.of_text, columns["key"].to_pylist()))
        yield StoredVectors(own_keys, _matrix(columns[_VECTOR]), list(models), _shards(columns, len(own_keys)))


def _stored(opened: pq.ParquetFile, group: int, rows: list[int]) -> list[StoredEmbedding | Exception]:
    try:
        columns = {name: column.take(pa.array(rows)) for name, column in _group(opened, group).items()}
        facts = zip(*(columns[name].to_pylist() for name in ("format", "height", "width")), strict=True)
        return list(map(Identity.with_vector, _identities(columns), facts, _matrix(columns[_VECTOR])))
    except (OSError, ValueError) as error:
        return [error] * len(rows)


def _opened(file: BinaryIO, names: Sequence[str]) -> pq.ParquetFile:
    with _explained("not a Parquet file, or broken"):
        opened = pq.ParquetFile(
            file,
            page_checksum_verification=True,
            pre_buffer=False,
            thrift_string_size_limit=_MAX_TEXT_BYTES,
            thrift_container_size_limit=_MAX_ITEMS,
        )
    kinds = {**_FACTS, **_MODEL}
    stored = {field.name: field.type for field in opened.schema_arrow}
    for name in (*_present(opened, names), _VECTOR):
        kind = stored.get(name)
        if not (kind == kinds[name] if name in kinds else _is_vector(kind)):
            raise ValueError(f"expected the column {name!r} of embeddings, not of type {kind}")
    with _explained("a broken Parquet file"):
        _check_sizes(opened)
    return opened


def _present(opened: pq.ParquetFile, names: Sequence[str]) -> list[str]:
    """Returns the names, without the column that files of earlier versions lack if this file lacks it."""
    has_shard = _SHARD in opened.schema_arrow.names
    return [name for name in names if has_shard or name != _SHARD]


def _is_vector(kind: pa.DataType | None) -> bool:
    return isinstance(kind, pa.FixedSizeListType) and kind.value_type in _VECTOR_TYPES.values()


def _check_sizes(opened: pq.ParquetFile) -> None:
    """Raises ValueError if a row group is larger than those that this module writes.

    It does not ask for the sizes of columns, because pyarrow 25 ends the process if a footer contradicts itself.
    """
    row_bytes = 4 * opened.schema_arrow.field(_VECTOR).type.list_size
    for number in range(opened.num_row_groups):
        group = opened.metadata.row_group(number)
        # Equal numbers take hardly any bytes in a page, but their full size in memory.
        size = max(group.total_byte_size, group.num_rows * row_bytes)
        if size > _MAX_GROUP_BYTES or not 0 <= group.num_rows <= _MAX_GROUP_BYTES:
            raise ValueError(
                f"row group {number:,} takes {size:,} bytes for {group.num_rows:,} rows: "
                f"expected {_MAX_GROUP_BYTES:,} bytes at most"
            )


def _suffices(opened: pq.ParquetFile, vector_type: str) -> bool:
    return vector_type != "float32" or opened.schema_arrow.field(_VECTOR).type.value_type == pa.float32()


def _batches(opened: pq.ParquetFile, names: Sequence[str], rows: int) -> Iterator[dict[str, pa.Array]]:
    """Yields the named columns of `rows` rows at a time."""
    with _explained("a broken Parquet file"):
        present = _present(opened, names)
        for batch in opened.iter_batches(rows, columns=present, use_threads=_USE_THREADS):
            yield {name: batch.column(name) for name in present}


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turns Arrow's errors over the content of a file into ValueError.

    Some are a RuntimeError, into which pyarrow turns errors in C++. Some are an OSError without an errno.
    """
    try:
        yield
    except (pa.ArrowException, RuntimeError) as error:
        raise ValueError(f"{what}: {one_line(error)}") from error
    except OSError as error:
        if type(error) is not OSError or error.errno is not None:
            raise
        raise ValueError(f"{what}: {one_line(error)}") from error


def _group(opened: pq.ParquetFile, group: int) -> dict[str, pa.Array]:
    """Returns the columns of a record in one row group."""
    with _explained("a broken Parquet file"):
        present = _present(opened, _RECORD)
        table = opened.read_row_group(group, columns=present, use_threads=_USE_THREADS)
        table.validate(full=True)  # texts are UTF-8
        rows = opened.metadata.row_group(group).num_rows
        if len(table) != rows:
            raise ValueError(
                f"row group {group:,} has {len(table):,} rows: expected {rows:,}, as the end of the file says"
            )
        return {name: table[name].combine_chunks() for name in present}


def _identities(columns: dict[str, pa.Array]) -> list[Identity]:
    decoded = {name: columns[name].to_pylist() for name in _IDENTITY if name in columns}
    decoded["key"] = list(map(keys.of_text, decoded["key"]))
    decoded[_SHARD] = _shards(columns, len(decoded["key"]))
    return [Identity(*values) for values in zip(*(decoded[name] for name in _IDENTITY), strict=True)]


def _shards(columns: dict[str, pa.Array], rows: int) -> list[bytes | None]:
    texts = columns[_SHARD].to_pylist() if _SHARD in columns else [None] * rows
    return [None if text is None else keys.of_text(text) for text in texts]


def _matrix(column: pa.Array) -> npt.NDArray[np.float32]:
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return flat.astype(np.float32, copy=False).reshape(len(column), column.type.list_size)
