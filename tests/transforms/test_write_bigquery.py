"""transforms.write_bigquery: rows as the columns say, through Avro and load jobs without loss."""

import dataclasses
import datetime
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import apache_beam as beam
import fastavro
import numpy as np
import pytest
from apache_beam.io.gcp.bigquery_tools import AvroRowWriter
from google.cloud import bigquery, storage

from tests.helpers.collecting import collect
from transforms.elements.records import Embedding, Failure, ImageInfo, ImageRef, Known
from transforms.models.spec import ModelFields
from transforms.write_bigquery import (
    EMBEDDING_COLUMNS,
    FAILURE_COLUMNS,
    GONE_COLUMNS,
    RunColumns,
    WriteBigQuery,
    embedding_row,
    failure_row,
    gone_row,
)

ROOT = Path(__file__).parents[2]
BEGAN_AT = datetime.datetime(2026, 3, 29, 1, 30, 0, 123456, datetime.UTC)
RUN = RunColumns("nightly-1", BEGAN_AT, ModelFields("a model", "d" * 64, 6))
# Single precision's smallest, largest and roughest, which double precision holds exactly.
VECTOR = np.array([0.1, -0.0, 1e-45, 3.4028235e38, 1 / 3, -2.5], np.float32)
EMBEDDING = Embedding(
    ImageInfo(ImageRef(b"gs://b/a.jpg", "7", 2**33, "AAAAAA==", True), "ab" * 32, "jpeg", 480, 640), VECTOR
)
FAILURE = Failure(b"/caf\xe9.jpg", "read", "OSError", 'no "such"\nfile ü', True)
GONE = Known(b"/caf\xe9.jpg", "10-1.5", "ab" * 32, 10, "AAAAAA==", 1.0)

ROWS = pytest.mark.parametrize(
    ("row", "columns"),
    [
        (embedding_row(EMBEDDING, RUN), EMBEDDING_COLUMNS),
        (failure_row(FAILURE, RUN), FAILURE_COLUMNS),
        (gone_row(GONE, RUN), GONE_COLUMNS),
    ],
    ids=["embeddings", "failures", "gone"],
)

_TYPES = {"STRING": str, "INTEGER": int, "BOOLEAN": bool, "FLOAT": float, "TIMESTAMP": datetime.datetime}


@ROWS
def test_a_row_has_each_column_in_its_type(row, columns):
    assert list(row) == [column["name"] for column in columns]
    for column in columns:
        value = row[column["name"]]
        assert column["mode"] in ("REQUIRED", "REPEATED", "NULLABLE") and column["description"]
        for each in value if column["mode"] == "REPEATED" else [value]:
            assert type(each) is _TYPES[column["type"]], column["name"]


def test_the_columns_are_those_of_the_contract():
    assert " ".join(column["name"] for column in EMBEDDING_COLUMNS) == (
        "key sha256 version format height width size crc32c shard embedding model model_digest run_id embedded_at"
    )
    assert " ".join(column["name"] for column in FAILURE_COLUMNS) == (
        "key stage error message retryable is_file run_id failed_at"
    )


def test_the_values_of_a_row():
    assert embedding_row(EMBEDDING, RUN) == {
        "key": "gs://b/a.jpg",
        "sha256": "ab" * 32,
        "version": "7",
        "format": "jpeg",
        "height": 480,
        "width": 640,
        "size": 2**33,
        "crc32c": "AAAAAA==",
        "shard": "",
        "embedding": [float(x) for x in VECTOR],
        "model": "a model",
        "model_digest": "d" * 64,
        "run_id": "nightly-1",
        "embedded_at": BEGAN_AT,
    }
    assert failure_row(FAILURE, RUN) == {
        "key": "/caf\\xe9.jpg",
        "stage": "read",
        "error": "OSError",
        "message": 'no "such"\nfile ü',
        "retryable": True,
        "is_file": False,
        "run_id": "nightly-1",
        "failed_at": BEGAN_AT,
    }
    assert gone_row(GONE, RUN) == {"key": "/caf\\xe9.jpg", "version": "10-1.5", "model_digest": "d" * 64}


def through_avro(rows, columns):
    file = io.BytesIO()
    file.close = lambda: None  # the writer closes it
    writer = AvroRowWriter(file, {"fields": list(columns)})
    for row in rows:
        writer.write(row)
    writer.close()
    file.seek(0)
    return list(fastavro.reader(file))


@ROWS
def test_beams_avro_files_hold_each_value(row, columns):
    assert through_avro([row, row], columns) == [row, row]


def test_avro_keeps_what_the_quality_gate_is_to_see():
    odd = Embedding(EMBEDDING.info, np.array([np.nan, np.inf, -np.inf], np.float32))
    (row,) = through_avro([embedding_row(odd, RUN)], EMBEDDING_COLUMNS)
    np.testing.assert_array_equal(row["embedding"], [np.nan, np.inf, -np.inf])


def test_single_precision_comes_back_from_double():
    (row,) = through_avro([embedding_row(EMBEDDING, RUN)], EMBEDDING_COLUMNS)
    assert np.array(row["embedding"], np.float32).tobytes() == VECTOR.tobytes()


def test_a_message_that_names_an_odd_file_is_utf_8():
    failure = Failure.of(b"k", "read", FileNotFoundError(2, "none", "/caf\udce9.jpg"))
    row = failure_row(failure, RUN)
    assert through_avro([row], FAILURE_COLUMNS) == [row]
    assert "caf\\udce9" in row["message"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("http://127.0.0.1:9050", "http://127.0.0.1:9050/bigquery/v2/"),
        ("http://127.0.0.1:9050/", "http://127.0.0.1:9050/bigquery/v2/"),
        ("", "https://"),
        (None, "https://"),
    ],
)
def test_beams_client_calls_the_emulator_where_one_is_named(host, expected):
    environment = {name: value for name, value in os.environ.items() if name != "BIGQUERY_EMULATOR_HOST"}
    code = "import transforms.write_bigquery as w; print(w.BigqueryV2.BASE_URL)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment | ({} if host is None else {"BIGQUERY_EMULATOR_HOST": host}),
        capture_output=True,
        text=True,
        check=True,
    )
    said = done.stdout.strip()
    assert said == expected if host else said.startswith(expected) and "googleapis.com" in said


@pytest.mark.parametrize("table", ["test.rows.images", "test:rows.images"])
def test_a_table_may_be_named_as_the_flag_names_it(table):
    assert WriteBigQuery("embeddings", table, "gs://loads/temp", RUN).table == "test.rows.images"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"kind": "embedding"}, "kind='embedding': expected one of embeddings, failures, gone"),
        ({"table": "rows.images"}, "table='rows.images': expected PROJECT:DATASET.TABLE"),
        ({"table": "t.d.x` WHERE TRUE"}, "table='t.d.x` WHERE TRUE': expected PROJECT:DATASET.TABLE"),
        ({"temp_location": "bucket/loads"}, "temp_location='bucket/loads': expected gs://BUCKET/DIRECTORY"),
        ({"temp_location": "gs://"}, "temp_location='gs://': expected gs://BUCKET/DIRECTORY"),
    ],
)
def test_what_cannot_be_written_is_refused_at_construction(changed, said):
    arguments = {"kind": "embeddings", "table": "test.rows.images", "temp_location": "gs://loads/temp", "run": RUN}
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        WriteBigQuery(**arguments | changed)


@pytest.fixture(scope="module")
def bq(cloud):
    """A client of the emulator, with a dataset and a bucket for what is loaded."""
    client = bigquery.Client()
    client.create_dataset("rows")
    storage.Client().create_bucket("loads")
    return client


def load(bq, kind, columns, collections):
    """Loads into a new table; returns its rows and what the loads gave."""
    table = f"test.rows.{kind}_{len(list(bq.list_tables('rows')))}"
    bq.create_table(bigquery.Table(table, [bigquery.SchemaField.from_api_repr(column) for column in columns]))

    def build(root):
        given = tuple(root | f"Given{i}" >> beam.Create(elements) for i, elements in enumerate(collections))
        return {"ended": given | WriteBigQuery(kind, table, "gs://loads/temp", RUN)}

    found, _ = collect(build)
    return [dict(row) for row in bq.query_and_wait(f"SELECT * FROM `{table}` ORDER BY key")], found["ended"]


def test_several_collections_become_the_rows_of_one_table(bq):
    others = [
        Embedding(
            dataclasses.replace(
                EMBEDDING.info, ref=dataclasses.replace(EMBEDDING.info.ref, key=b"gs://b/%03d.jpg" % i)
            ),
            VECTOR * np.float32(i / 100),
        )
        for i in range(40)
    ]
    rows, ended = load(bq, "embeddings", EMBEDDING_COLUMNS, [[EMBEDDING], others[:20], [], others[20:]])
    assert rows == [embedding_row(each, RUN) for each in (*others, EMBEDDING)]
    assert len(ended) == 3  # an element a load; nothing is loaded for a collection that is empty


def test_failures_and_what_is_gone(bq):
    rows, _ = load(bq, "failures", FAILURE_COLUMNS, [[FAILURE]])
    assert rows == [failure_row(FAILURE, RUN)]
    rows, _ = load(bq, "gone", GONE_COLUMNS, [[GONE]])
    assert rows == [gone_row(GONE, RUN)]


def test_nothing_to_load_is_no_load(bq):
    assert load(bq, "embeddings", EMBEDDING_COLUMNS, [[], []]) == ([], [])
