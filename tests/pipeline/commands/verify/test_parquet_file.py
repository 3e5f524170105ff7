"""pipeline.commands.verify.parquet_file: it reads what the writer writes, and notices whatever is done to it."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.commands.verify import parquet_file, record_file, schema_file
from pipeline.commands.verify.record_file import Expected
from tests.helpers import outputs
from transforms.encoding import examples, parquet
from transforms.models.spec import ModelFields

COLUMNS = schema_file.columns(examples.schema_text(outputs.MODEL.fields()).encode())
EXPECTED = Expected(COLUMNS, b"tiny", b"d" * 64)
ODD_KEY = b"/caf\xe9.jpg"
EMBEDDINGS = [outputs.embedding(ODD_KEY, 0), *(outputs.embedding(b"/%d" % i, i) for i in range(1, 600))]


def rows(content, expected=EXPECTED, vector_type="float32"):
    return list(parquet_file.rows(io.BytesIO(content), expected, vector_type))


def problems(table, expected=EXPECTED, vector_type="float32"):
    content = io.BytesIO()
    pq.write_table(table, content)
    (row,) = rows(content.getvalue(), expected, vector_type)
    return row.problem


@pytest.mark.parametrize("vector_type", ["float32", "float16"])
def test_rows_of_the_writer(vector_type):
    content = outputs.encoded(EMBEDDINGS, outputs.MODEL, "parquet", vector_type)
    read = rows(content, vector_type=vector_type)
    assert [(row.number, row.problem) for row in read] == [(i, "") for i in range(600)]
    for row, each in zip(read, EMBEDDINGS, strict=True):
        record = record_file.checked(row.features, EXPECTED)
        assert (record.key, record.sha256.decode(), record.image.size) == (
            each.info.ref.key,
            each.info.sha256,
            each.info.ref.size,
        )
        np.testing.assert_array_equal(record.vector, each.vector.astype(vector_type))


def test_rows_without_a_report():
    content = outputs.encoded(EMBEDDINGS, outputs.MODEL, "parquet")
    assert {row.problem for row in rows(content, Expected(schema_file.COLUMNS))} == {""}


def test_best_classes_are_read_again():
    model = ModelFields("c", "d" * 64, 4, ("cat", "dog", "eel", "fox"), top_classes=2)
    content = io.BytesIO()
    part = parquet.ParquetFormat(model).open(content)
    part.append(EMBEDDINGS[:3])
    part.finish()
    columns = schema_file.columns(examples.schema_text(model).encode())
    for row in rows(content.getvalue(), Expected(columns, b"c", b"d" * 64)):
        assert record_file.checked(row.features, Expected(columns)).model_digest == b"d" * 64
        assert len(row.features["label/name"].values) == 2


def test_a_broken_page_costs_the_rest_of_its_row_group(monkeypatch):
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 1)
    content = io.BytesIO()
    part = parquet.ParquetFormat(outputs.MODEL.fields()).open(content)
    for start in range(0, 600, 200):
        part.append(EMBEDDINGS[start : start + 200])
    part.finish()
    broken = bytearray(content.getvalue())
    group = pq.ParquetFile(content).metadata.row_group(1)
    vectors = next(group.column(i) for i in range(11) if group.column(i).path_in_schema.startswith("embedding"))
    broken[vectors.data_page_offset + vectors.total_compressed_size - 5] ^= 1
    read = rows(bytes(broken))
    (bad,) = (row for row in read if row.problem)
    assert "broken from here to the end of its row group" in bad.problem and "CRC checksum" in bad.problem
    assert bad.number == 200
    assert [row.number for row in read if not row.problem] == [*range(200), *range(400, 600)]


@pytest.mark.parametrize("content", [b"", b"PAR1" * 99, b"text"], ids=["empty", "magic", "text"])
def test_what_is_no_parquet_file(content):
    (row,) = rows(content)
    assert row.problem.startswith("not a Parquet file, or broken: ")


def test_columns_that_are_not_of_a_record():
    table = pq.read_table(io.BytesIO(outputs.encoded(EMBEDDINGS, outputs.MODEL, "parquet")))
    assert problems(table.drop_columns(["height"])) == "the column height is missing"
    assert problems(table.append_column("more", pa.nulls(600))) == "the column more is not of a record"
    floats = table.set_column(4, pa.field("height", pa.float64(), nullable=False), pa.array([1.0] * 600))
    assert "the column height is of type" in problems(floats)
    nullable = table.cast(pa.schema([field.with_nullable(field.name == "key") for field in table.schema]))
    assert "the column key is of type" in problems(nullable.replace_schema_metadata(table.schema.metadata))
    assert "the column embedding is of type" in problems(table, vector_type="float16")


@pytest.mark.parametrize(
    ("name", "value"), [("model", b"other"), ("model_digest", b"e" * 64), ("dimension", b"5")], ids=str
)
def test_metadata_that_differs_from_the_report(name, value):
    table = pq.read_table(io.BytesIO(outputs.encoded(EMBEDDINGS, outputs.MODEL, "parquet")))
    metadata = dict(table.schema.metadata)
    assert f"its metadata has {name} {value!r}" in problems(
        table.replace_schema_metadata(metadata | {name.encode(): value}), Expected({**COLUMNS}, b"tiny", b"d" * 64)
    )
    del metadata[name.encode()]
    assert f"its metadata has {name} None" in problems(table.replace_schema_metadata(metadata))
