"""transforms.encoding.parquet: the files as the readers of analysts read them, and as this project reads them again."""

import io
import json
import threading

import duckdb
import lance
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from transforms.elements.records import Embedding, ImageInfo, ImageRef
from transforms.encoding import parquet
from transforms.encoding.parquet import ParquetFormat
from transforms.encoding.stored_embeddings import Identity, StoredEmbedding
from transforms.models.spec import ModelFields

DIMENSION = 6
MODEL = ModelFields("a_model", "d" * 64, DIMENSION, facts='{"format": ""}')
VECTOR_TYPES = pytest.mark.parametrize("vector_type", ["float32", "float16"])
ODD_KEY = b"/caf\xe9 \xc3\xa9 \\xe9.jpg"


def embedding(i, key=None, dimension=DIMENSION, in_shard=b""):
    ref = ImageRef(key or b"/%d.jpg" % i, f"{i}-0", 3 * i, f"crc{i}==", in_shard=in_shard)
    vector = np.random.default_rng(i).standard_normal(dimension, np.float32)
    return Embedding(ImageInfo(ref, f"{i:064x}", "jpeg" if i % 2 else "png", i, 2 * i), vector)


EMBEDDINGS = [*map(embedding, range(199)), embedding(199, ODD_KEY)]


def written(embeddings=EMBEDDINGS, model=MODEL, vector_type="float32", batch=64):
    """Returns the content of a file."""
    content = io.BytesIO()
    part = ParquetFormat(model, vector_type).open(content)
    for start in range(0, len(embeddings), batch):
        part.append(embeddings[start : start + batch])
    part.finish()
    return content.getvalue()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "part.parquet"
    path.write_bytes(written())
    return path


@pytest.fixture
def small_groups(monkeypatch):
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 1)  # a row group for each batch


# As others read them.


@VECTOR_TYPES
def test_columns_and_metadata(vector_type):
    table = pq.read_table(io.BytesIO(written(vector_type=vector_type)))
    assert {field.name: str(field.type) for field in table.schema} == {
        **dict.fromkeys(("key", "sha256", "version", "format", "crc32c", "shard", "model", "model_digest"), "string"),
        **dict.fromkeys(("height", "width", "size"), "int64"),
        "embedding": f"fixed_size_list<element: {pa.type_for_alias(vector_type)} not null>[{DIMENSION}]",
    }
    assert not any(field.nullable for field in table.schema)
    metadata = {
        b"model": b"a_model",
        b"model_digest": b"d" * 64,
        b"dimension": b"6",
        b"model_facts": b'{"format": ""}',
    }
    assert {name: table.schema.metadata[name] for name in metadata} == metadata
    vectors = np.array(table["embedding"].to_pylist())
    expected = np.stack([each.vector for each in EMBEDDINGS]).astype(vector_type)
    np.testing.assert_array_equal(vectors, expected)
    assert table.drop_columns(["embedding"]).slice(3, 1).to_pylist() == [
        {
            "key": "/3.jpg",
            "sha256": f"{3:064x}",
            "version": "3-0",
            "format": "jpeg",
            "height": 3,
            "width": 6,
            "size": 9,
            "crc32c": "crc3==",
            "shard": "",
            "model": "a_model",
            "model_digest": "d" * 64,
        }
    ]


@VECTOR_TYPES
@pytest.mark.parametrize("reader", ["pandas", "duckdb", "polars", "lance"])
def test_libraries_of_analysts(tmp_path, reader, vector_type):
    path = tmp_path / "part.parquet"
    path.write_bytes(written(vector_type=vector_type))
    if reader == "pandas":
        frame = pd.read_parquet(path)
        keys, vectors = frame["key"].tolist(), np.stack(frame["embedding"])
    elif reader == "duckdb":
        rows = duckdb.sql(f"SELECT key, embedding::FLOAT[{DIMENSION}] FROM '{path}'").fetchall()
        keys, vectors = [key for key, _ in rows], np.array([vector for _, vector in rows])
    elif reader == "polars":
        frame = pl.read_parquet(path)
        assert frame.schema["embedding"] == pl.Array(getattr(pl, vector_type.capitalize()), DIMENSION)
        keys, vectors = frame["key"].to_list(), np.array(frame["embedding"].to_list())
    else:
        opened = pq.ParquetFile(path)
        dataset = lance.write_dataset(opened.iter_batches(), str(tmp_path / "l.lance"), schema=opened.schema_arrow)
        table = dataset.to_table()
        assert pa.types.is_fixed_size_list(table.schema.field("embedding").type)
        keys, vectors = table["key"].to_pylist(), np.array(table["embedding"].to_pylist())
    assert keys[:2] == ["/0.jpg", "/1.jpg"] and len(keys) == 200
    expected = np.stack([each.vector for each in EMBEDDINGS]).astype(vector_type)
    np.testing.assert_array_equal(vectors.astype(vector_type), expected)


def test_a_classifier_has_its_best_classes():
    model = ModelFields("c", "d" * 64, 3, ("cat", "dog", "eel"), top_classes=2, gives_probabilities=True)
    vector = np.array([0.2, 0.7, 0.1], np.float32)
    (row,) = pq.read_table(io.BytesIO(written([Embedding(EMBEDDINGS[0].info, vector)], model))).to_pylist()
    assert (row["label_index"], row["label_name"]) == ([1, 0], ["dog", "cat"])
    assert row["label_score"] == pytest.approx([0.7, 0.2])


def test_row_groups_are_closed_at_a_size(monkeypatch):
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 64 * 1000 * 4)
    rows = [embedding(i, dimension=1000) for i in range(150)]
    metadata = pq.ParquetFile(io.BytesIO(written(rows, MODEL._replace(dimension=1000)))).metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [64, 64, 22]


def test_every_column_is_compressed(path):
    metadata = pq.ParquetFile(path).metadata
    columns = [metadata.row_group(0).column(i) for i in range(metadata.num_columns)]
    assert {column.compression for column in columns} == {"ZSTD"}


def test_without_a_record_a_file_has_a_schema():
    assert pq.read_table(io.BytesIO(written([]))).schema.names[0] == "key"


def test_a_number_that_float16_does_not_reach():
    large = Embedding(EMBEDDINGS[1].info, np.array([1, 2, 3, 70_000, 5, 6], np.float32))
    with pytest.raises(ValueError, match=r"'/1.jpg' has a number beyond 65,504, the largest float16: expected"):
        written([EMBEDDINGS[0], large], vector_type="float16")
    written([large])


class _Full(io.BytesIO):
    def write(self, content):
        if self.tell() > 100:
            raise OSError(28, "No space left on device")
        return super().write(content)


def test_a_full_disk_is_an_error_once(capfd):
    part = ParquetFormat(MODEL).open(_Full())
    part.append(EMBEDDINGS)
    with pytest.raises(OSError, match="No space left on device"):
        part.finish()
    del part
    assert capfd.readouterr().err == ""


# As this project reads them.


def identity(each):
    ref = each.info.ref
    return Identity(ref.key, ref.version, each.info.sha256, ref.size, ref.crc32c, "d" * 64, ref.in_shard)


READERS = pytest.mark.parametrize(
    "read", [parquet.identities, parquet.whole_identities], ids=["complete", "perhaps unfinished"]
)


@READERS
def test_identities_in_order(small_groups, read):
    batches = list(read(io.BytesIO(written())))
    assert [own for batch in batches for own in batch] == list(map(identity, EMBEDDINGS))


@READERS
def test_a_file_of_an_earlier_version_does_not_tell_of_shards(read):
    table = pq.read_table(io.BytesIO(written())).drop_columns(["shard"])
    content = io.BytesIO()
    pq.write_table(table, content)
    (batch,) = read(content)
    assert batch == [identity(each)._replace(shard=None) for each in EMBEDDINGS]
    (stored,) = parquet.embeddings(content, [3])
    assert stored.embedding.info == EMBEDDINGS[3].info
    assert sum(len(keys) for keys, _, _, shards in parquet.vectors(content) if set(shards) == {None}) == len(EMBEDDINGS)


@READERS
def test_images_in_shards(read):
    each = embedding(3, in_shard=b"/s\xe9.tar")
    ((own,),) = read(io.BytesIO(written([each])))
    assert own == identity(each) and own.shard == b"/s\xe9.tar" and not own.is_file


@READERS
def test_vectors_in_float16_are_none_in_float32(read):
    content = io.BytesIO(written(vector_type="float16"))
    assert list(read(content)) == [] and len(list(read(content, "float16"))) > 0
    assert len(list(read(io.BytesIO(written()), "float16"))) > 0


@VECTOR_TYPES
def test_rows_of_several_groups(small_groups, vector_type):
    content = io.BytesIO(written(vector_type=vector_type))
    rows = [0, 5, 63, 64, 130, 199]
    for row, stored in zip(rows, parquet.embeddings(content, rows), strict=True):
        assert (stored.embedding.info, stored.model_digest) == (EMBEDDINGS[row].info, "d" * 64)
        assert stored.embedding.vector.dtype == np.float32
        expected = EMBEDDINGS[row].vector.astype(vector_type)
        np.testing.assert_array_equal(stored.embedding.vector, expected)
    (_, missing) = parquet.embeddings(content, [199, 200])
    assert str(missing) == "no row 200: expected fewer than 200"


def broken_page(column="embedding.list.element"):
    """Returns the content of a file with one changed byte, in a page of the second row group."""
    content = bytearray(written())
    group = pq.ParquetFile(io.BytesIO(bytes(content))).metadata.row_group(1)
    chunk = next(group.column(i) for i in range(group.num_columns) if group.column(i).path_in_schema == column)
    content[chunk.data_page_offset + chunk.total_compressed_size - 5] ^= 1
    return io.BytesIO(bytes(content))


def test_a_broken_page_costs_its_row_group(small_groups):
    first, second, third = parquet.embeddings(broken_page(), [63, 64, 128])
    assert isinstance(second, ValueError) and "CRC checksum verification failed" in str(second)
    assert [stored.embedding.info.ref.key for stored in (first, third)] == [b"/63.jpg", b"/128.jpg"]
    with pytest.raises(ValueError, match=r"a broken Parquet file: .*CRC checksum"):
        list(parquet.vectors(broken_page()))
    with pytest.raises(ValueError, match=r"a broken Parquet file: .*CRC checksum"):
        list(parquet.identities(broken_page("key")))
    (only,) = parquet.embeddings(io.BytesIO(b"no file"), [3])
    assert isinstance(only, ValueError)


def test_a_file_that_may_be_unfinished_is_good_up_to_its_first_broken_row_group(small_groups):
    """The identities of the second row group can be read. Their vectors cannot, so they are not good."""
    good = [own for batch in parquet.whole_identities(broken_page()) for own in batch]
    assert good == list(map(identity, EMBEDDINGS[:64]))
    assert all(isinstance(each, StoredEmbedding) for each in parquet.embeddings(broken_page(), range(64)))


@pytest.mark.parametrize("size", [0, 1, 4, 100, -4, -1])
def test_a_file_without_its_end_has_no_records(size):
    broken = written()[:size]
    assert list(parquet.whole_identities(io.BytesIO(broken))) == []
    with pytest.raises(ValueError, match="not a Parquet file, or broken: "):
        list(parquet.identities(io.BytesIO(broken)))


def test_a_row_group_is_read_only_where_its_size_is_that_of_one(monkeypatch):
    file = io.BytesIO(written())
    monkeypatch.setattr(parquet, "_MAX_GROUP_BYTES", 20_000)
    with pytest.raises(ValueError, match="row group 0 takes .* bytes for 200 rows: expected 20,000 bytes at most"):
        list(parquet.identities(file))
    assert list(parquet.whole_identities(file)) == []
    (only,) = parquet.embeddings(file, [0])
    assert isinstance(only, ValueError)


def test_a_long_text_in_the_end_of_a_file():
    content = io.BytesIO()
    table = pq.read_table(io.BytesIO(written()))
    pq.write_table(table.replace_schema_metadata({"model": "m" * 2**23}), content)
    with pytest.raises(ValueError, match="not a Parquet file, or broken: .*size limit"):
        list(parquet.identities(content))


def test_an_error_of_the_storage_is_none_of_the_file():
    class Unreachable(io.BytesIO):
        def read(self, size=-1):
            raise ConnectionResetError(104, "Connection reset by peer")

    for read in (parquet.identities, parquet.whole_identities, parquet.vectors):
        with pytest.raises(ConnectionResetError):
            list(read(Unreachable(written())))


@pytest.mark.parametrize(
    "table",
    [{"key": ["a"]}, {"key": [b"a"], "embedding": [[1.0]]}, {"embedding": [[1.0]]}],
    ids=lambda table: json.dumps(list(table)),
)
def test_a_parquet_file_of_something_else(table):
    content = io.BytesIO()
    pq.write_table(pa.table(table), content)
    with pytest.raises(ValueError, match="expected the column '.*' of embeddings, not of type "):
        list(parquet.identities(content))


@pytest.mark.parametrize(
    "read",
    [
        parquet.identities,
        parquet.whole_identities,
        parquet.vectors,
        lambda file: parquet.embeddings(file, range(len(EMBEDDINGS))),
    ],
    ids=["identities", "whole_identities", "vectors", "embeddings"],
)
def test_no_other_thread_frees_what_was_read(small_groups, read):
    # One that frees an object of Python's while Python ends would take the whole process along.
    threads = set()

    class Read(bytes):
        def __del__(self):
            threads.add(threading.get_ident())

    class File(io.BytesIO):
        def read(self, *size):
            return Read(super().read(*size))

    content = written()
    for _ in range(10):  # so that another thread is through with one of them
        assert list(read(File(content)))
    assert threads == {threading.get_ident()}


@VECTOR_TYPES
def test_all_vectors(small_groups, vector_type):
    keys, matrices, models, _ = zip(*parquet.vectors(io.BytesIO(written(vector_type=vector_type))), strict=True)
    assert [key for batch in keys for key in batch] == [each.info.ref.key for each in EMBEDDINGS]
    matrix = np.concatenate(matrices)
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, np.stack([each.vector for each in EMBEDDINGS]).astype(vector_type))
    assert {model for batch in models for model in batch} == {("a_model", "d" * 64)}


def test_a_row_group_of_equal_numbers_is_as_large_as_it_becomes_in_memory(monkeypatch):
    """Its pages take hardly any bytes, and its own word is about its pages."""
    info = EMBEDDINGS[1].info
    rows = [Embedding(info, np.zeros(DIMENSION, np.float32))] * 2000
    content = io.BytesIO()
    pq.write_table(pq.read_table(io.BytesIO(written(rows))), content, row_group_size=2000, use_dictionary=True)
    in_memory = 2000 * DIMENSION * 4
    assert pq.ParquetFile(content).metadata.row_group(0).total_byte_size < in_memory / 2
    monkeypatch.setattr(parquet, "_MAX_GROUP_BYTES", in_memory)
    assert sum(map(len, parquet.identities(content))) == 2000
    monkeypatch.setattr(parquet, "_MAX_GROUP_BYTES", in_memory - 1)
    with pytest.raises(ValueError, match="row group 0 takes 48,000 bytes for 2,000 rows"):
        list(parquet.identities(content))


def columns_of(content):
    metadata = pq.ParquetFile(io.BytesIO(content)).metadata
    columns = (metadata.row_group(0).column(i) for i in range(metadata.num_columns))
    return {column.path_in_schema.partition(".")[0]: column for column in columns}


def test_vectors_have_no_statistics_and_names_have_some():
    assert {name for name, column in columns_of(written()).items() if column.statistics is None} == {"embedding"}


def test_columns_of_few_different_values_are_in_dictionaries_and_others_are_not():
    columns = columns_of(written())
    in_dictionaries = {name for name, column in columns.items() if "RLE_DICTIONARY" in column.encodings}
    assert in_dictionaries >= {"format", "height", "width", "model", "model_digest"}
    assert not in_dictionaries & {"key", "sha256", "version", "size", "crc32c", "embedding"}


@pytest.mark.parametrize("batch", [32, 64])
def test_a_row_group_begins_anew_after_one_that_is_full(monkeypatch, batch):
    one = parquet._encode(EMBEDDINGS[:64], MODEL, parquet.schema(MODEL, "float32")).nbytes
    halves = sum(
        parquet._encode(EMBEDDINGS[i : i + 32], MODEL, parquet.schema(MODEL, "float32")).nbytes for i in (0, 32)
    )
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", one if batch == 64 else halves)
    same = [EMBEDDINGS[i % 64] for i in range(200)]
    metadata = pq.ParquetFile(io.BytesIO(written(same, batch=batch))).metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [64, 64, 64, 8]


def test_a_key_that_is_no_text_costs_its_row_group():
    table = pq.read_table(io.BytesIO(written()))
    keys = pa.array([b"/caf\xe9.jpg"] * len(table), pa.binary())
    texts = pa.Array.from_buffers(pa.string(), len(keys), keys.buffers())  # not checked
    content = io.BytesIO()
    pq.write_table(table.set_column(0, table.schema.field("key"), texts), content)
    assert list(parquet.whole_identities(content)) == []
    (only,) = parquet.embeddings(content, [3])
    assert isinstance(only, ValueError) and "UTF" in str(only)


def test_a_long_list_in_the_end_of_a_file():
    content = io.BytesIO()
    table = pq.read_table(io.BytesIO(written(EMBEDDINGS[:2])))
    pq.write_table(table.replace_schema_metadata({str(i): "" for i in range(2**16 + 1)}), content)
    with pytest.raises(ValueError, match="not a Parquet file, or broken: .*size limit"):
        list(parquet.identities(content))


def test_a_row_group_that_has_fewer_rows_than_the_end_of_the_file_says(monkeypatch):
    content = bytearray(written(EMBEDDINGS[:100]))
    end = content.rindex(b"PAR1") - 4
    start = end - int.from_bytes(content[end : end + 4], "little")
    found = []
    for at in range(start, end - 1):  # the numbers of rows and of values are varints of 200
        if content[at : at + 2] == b"\xc8\x01":
            lying = content.copy()
            lying[at] = 0xCA  # 101
            try:
                stored = list(parquet.embeddings(io.BytesIO(lying), [0, 99]))
            except ValueError:
                continue
            found += [str(each) for each in stored if isinstance(each, ValueError)]
    assert any("row group 0 has 100 rows: expected 101, as the end of the file says" in each for each in found)
