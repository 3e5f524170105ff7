"""pipeline.warehouse.tables: tables that are made, or found fit, or refused with the difference."""

import dataclasses
import itertools

import pytest
from google.cloud import bigquery

from pipeline.warehouse import tables
from tests.helpers.earlier_runs import read_ledger
from transforms.elements import table_name
from transforms.write_bigquery import EMBEDDING_COLUMNS

DIGEST = "ab" * 32


@pytest.fixture
def dataset(cloud, request) -> str:
    """A new dataset."""
    name = f"test.{request.node.name.replace('[', '_').replace(']', '_').replace('-', '_').replace(' ', '_')}"
    tables.client("test").create_dataset(name)
    return name


def test_the_tables_are_made(dataset):
    table = f"{dataset}.images"
    staging = tables.prepare(table, DIGEST)
    tables.stage(table, staging)
    bq = tables.client("test")
    made = bq.get_table(table)
    assert (made.time_partitioning.field, made.time_partitioning.type_) == ("embedded_at", "DAY")
    assert made.clustering_fields == ["model_digest", "key"]
    assert made.description and all(field.description for field in made.schema)
    assert {field.name: (field.field_type, field.mode) for field in made.schema} == {
        "key": ("STRING", "REQUIRED"),
        "sha256": ("STRING", "REQUIRED"),
        "version": ("STRING", "REQUIRED"),
        "format": ("STRING", "REQUIRED"),
        "height": ("INTEGER", "REQUIRED"),
        "width": ("INTEGER", "REQUIRED"),
        "size": ("INTEGER", "REQUIRED"),
        "crc32c": ("STRING", "REQUIRED"),
        "shard": ("STRING", "NULLABLE"),
        "embedding": ("FLOAT", "REPEATED"),
        "model": ("STRING", "REQUIRED"),
        "model_digest": ("STRING", "REQUIRED"),
        "run_id": ("STRING", "REQUIRED"),
        "embedded_at": ("TIMESTAMP", "REQUIRED"),
    }
    beside = {listed.table_id for listed in bq.list_tables(dataset)} - {"images"}
    mine = {getattr(staging, kind).rpartition(".")[2] for kind in ("embeddings", "failures", "gone", "run")}
    assert beside == {"images_failures", "images_runs", "images_latest", *mine}
    tables.drop(staging)
    tables.drop(staging)  # what is gone is gone
    assert {listed.table_id for listed in bq.list_tables(dataset)} == {
        "images",
        "images_failures",
        "images_runs",
        "images_latest",
    }


def test_staging_tables_are_made_all_or_none(dataset, monkeypatch):
    table = f"{dataset}.images"
    staging = dataclasses.replace(tables.prepare(table, DIGEST), run="test.nowhere.run")
    monkeypatch.setattr(tables, "_PATIENCE", tables._PATIENCE.with_timeout(0.1))
    with pytest.raises(ValueError, match="cannot be prepared"):
        tables.stage(table, staging)
    assert not [listed for listed in tables.client("test").list_tables(dataset) if "staging" in listed.table_id]


def test_two_attempts_share_no_staging_table(dataset):
    first, second = (tables.prepare(f"{dataset}.images", DIGEST) for _ in range(2))
    assert first.embeddings != second.embeddings and first.run != second.run


def test_a_table_that_fits_is_taken_whatever_else_it_holds(dataset):
    fields = [bigquery.SchemaField.from_api_repr(column) for column in reversed(EMBEDDING_COLUMNS)]
    bq = tables.client("test")
    bq.create_table(bigquery.Table(f"{dataset}.images", [*fields, bigquery.SchemaField("mine", "STRING")]))
    tables.prepare(f"{dataset}.images", DIGEST)
    assert "mine" in {field.name for field in bq.get_table(f"{dataset}.images").schema}


def test_a_table_of_an_earlier_version_gets_the_column_that_it_lacks(dataset):
    table = f"{dataset}.images"
    fields = [bigquery.SchemaField.from_api_repr(column) for column in EMBEDDING_COLUMNS if column["name"] != "shard"]
    bq = tables.client("test")
    bq.create_table(bigquery.Table(table, fields))
    names = ", ".join(field.name for field in fields)
    values = f"'/a.jpg', 'ab', '1', 'jpeg', 1, 1, 1, '', [1.0], 'm', '{DIGEST}', 'r', TIMESTAMP '2026-01-01'"
    tables.query(table, f"INSERT INTO `{table}` ({names}) VALUES ({values})")
    for _ in range(2):  # the emulator's schema does not show an added column
        tables.drop(tables.prepare(table, DIGEST))
    (row,) = tables.query(table, f"SELECT key, shard FROM `{table}`")
    assert dict(row) == {"key": "/a.jpg", "shard": None}
    assert not read_ledger(table=table, digest=DIGEST)[0].is_file


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda fields: [f for f in fields if f.name != "sha256"], "column 'sha256' is missing, expected STRING"),
        (
            lambda fields: [f for f in fields if f.name != "size"] + [bigquery.SchemaField("size", "STRING")],
            "column 'size' is STRING, expected INTEGER",
        ),
        (
            lambda fields: [f for f in fields if f.name != "embedding"] + [bigquery.SchemaField("embedding", "FLOAT")],
            "column 'embedding' is FLOAT, expected ARRAY<FLOAT>",
        ),
        (
            lambda fields: [*fields, bigquery.SchemaField("owner", "STRING", "REQUIRED")],
            "column 'owner' is REQUIRED, and this pipeline has no value for it",
        ),
    ],
    ids=["missing", "other type", "no array", "required by others"],
)
def test_a_table_that_does_not_fit_is_refused_with_the_difference(dataset, change, said):
    fields = [bigquery.SchemaField.from_api_repr(column) for column in EMBEDDING_COLUMNS]
    tables.client("test").create_table(bigquery.Table(f"{dataset}.images", change(fields)))
    with pytest.raises(ValueError, match="has other columns than expected") as refused:
        tables.prepare(f"{dataset}.images", DIGEST)
    assert f"{said} (in {dataset}.images)" in str(refused.value)
    assert not [t for t in tables.client("test").list_tables(dataset) if "staging" in t.table_id]


def test_a_table_that_is_not_ours_beside_it_is_refused_too(dataset):
    bq = tables.client("test")
    bq.create_table(bigquery.Table(f"{dataset}.images_runs", [bigquery.SchemaField("run_id", "INTEGER")]))
    with pytest.raises(ValueError, match=rf"column 'run_id' is INTEGER, expected STRING \(in {dataset}.images_runs\)"):
        tables.prepare(f"{dataset}.images", DIGEST)


def test_names_of_types_that_mean_the_same():
    fields = [bigquery.SchemaField("height", "INT64"), bigquery.SchemaField("embedding", "FLOAT64", "REPEATED")]
    wanted = [column for column in EMBEDDING_COLUMNS if column["name"] in ("height", "embedding")]
    assert tables.differences(fields, wanted) == []


def test_a_dataset_that_is_not_there_is_named_with_the_command_that_makes_it(cloud):
    with pytest.raises(ValueError, match="expected an existing dataset: `bq mk --dataset test:nowhere`"):
        tables.prepare("test.nowhere.images", DIGEST)


def test_the_view_shows_one_model_and_can_be_given_another(dataset):
    table = f"{dataset}.images"
    tables.drop(tables.prepare(table, DIGEST))
    other = "cd" * 32
    for digest, sha256 in ((DIGEST, "1"), (other, "2")):
        facts = f"'gs://b/a.jpg', '{sha256}', '1', 'jpeg', 1, 1, 1, '', ''"
        values = f"{facts}, [1.0], 'm', '{digest}', 'r', TIMESTAMP '2026-01-01'"
        names = ", ".join(column["name"] for column in EMBEDDING_COLUMNS)
        tables.query(table, f"INSERT INTO `{table}` ({names}) VALUES ({values})")
    latest = f"SELECT sha256 FROM `{table_name.latest(table)}`"
    assert [row["sha256"] for row in tables.query(table, latest)] == ["1"]
    tables.drop(tables.prepare(table, other))  # a run of another model changes nothing by itself
    assert [row["sha256"] for row in tables.query(table, latest)] == ["1"]
    tables.show(table, other)
    assert [row["sha256"] for row in tables.query(table, latest)] == ["2"]


def test_a_digest_that_is_none_does_not_reach_the_views_text(dataset):
    with pytest.raises(ValueError, match="expected hex digits"):
        tables.show(f"{dataset}.images", "' OR TRUE --")


def test_a_report_that_is_not_there(dataset):
    assert tables.read_report(f"{dataset}.images", "r") is None  # no table either
    tables.drop(tables.prepare(f"{dataset}.images", DIGEST))
    assert tables.read_report(f"{dataset}.images", "r") is None


def test_parts_of_a_result(dataset):
    table = f"{dataset}.images"
    result = tables.start(
        table, "SELECT x FROM UNNEST(GENERATE_ARRAY(1, 25)) AS x WHERE CAST(x AS STRING) != @no", no="7"
    )
    assert result.total == 24
    parts = [
        [row["x"] for row in tables.rows(result.project, result.job, result.location, first, 10)]
        for first in range(0, 24, 10)
    ]
    assert [len(part) for part in parts] == [10, 10, 4]
    assert sorted(itertools.chain(*parts)) == [x for x in range(1, 26) if x != 7]
