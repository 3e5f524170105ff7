"""pipeline.commands.verify.table_rows: the rows of a run in an emulated BigQuery, against its report."""

import datetime
import json

import pytest
from google.cloud import bigquery, storage

from pipeline.commands.verify import table_rows
from pipeline.commands.verify.findings import Findings
from pipeline.report import run_report
from pipeline.warehouse import publish, tables
from tests.helpers import outputs
from tests.helpers.outputs import embedding, failure
from transforms.write_bigquery import RunColumns, embedding_row, failure_row

TABLE = "test.rows.images"


@pytest.fixture(scope="module")
def published(cloud, tmp_path_factory) -> dict:
    """The report of a run whose rows are in the table."""
    bq = bigquery.Client(project="test")
    bq.create_dataset("test.rows")
    storage.Client().create_bucket("rows")
    images = [embedding(b"/%d" % i, i) for i in range(3)]
    failures = [failure(b"/x"), failure(b"/y")]
    output = outputs.write_run(tmp_path_factory.mktemp("out"), images, failures)
    report = run_report.read(str(output), "r")
    publication = publish.prepare(TABLE, report.run_id, report.model["digest"], "gs://rows/tmp", make_latest=False)
    publish.stage(publication)
    run = RunColumns("r", datetime.datetime.fromisoformat(report.started_at), outputs.MODEL.fields())
    for staging, rows in (
        (publication.staging.embeddings, [embedding_row(image, run) for image in images]),
        (publication.staging.failures, [failure_row(failed, run) for failed in failures]),
    ):
        plain = json.loads(json.dumps(rows, default=lambda value: value.isoformat()))
        assert bq.insert_rows_json(staging, plain) == []
    publish.publish(publication, report)
    return json.loads(report.to_json())


def problems(report, **changes):
    findings = Findings()
    table_rows.check(TABLE, "r", report | changes, findings)
    return {kind: items.first for kind, items in (findings.problems | findings.notes).items()}


def change(sql):
    tables.run(TABLE, sql)


def test_the_rows_of_a_run(published):
    assert problems(published) == {}
    content = {name: value for name, value in published.items() if name != "checksum"}
    assert table_rows.reports(TABLE, None, Findings()) == {"r": content}
    assert table_rows.reports(TABLE, "other", Findings()) == {}


def test_what_is_known_of_the_page_is_in_the_file_alone(published):
    assert problems(published, page_error="no room") == {}


def test_a_report_that_is_not_the_tables(published):
    assert problems(published, verdict="other", device="GPU") == {
        "a run's own row differs from its report": ["run r: verdict, report"]
    }
    counts = published["counts"] | {"embedded": 4, "listed": 6}
    kinds = problems(published, counts=counts)
    assert kinds["the number of rows differs from the report's"] == ["run r: 3, expected 4"]


def test_failures_that_the_report_does_not_count_are_found(published):
    kinds = problems(published, failures={"decode": {"EmptyImage": 2}})
    assert kinds["the number of failures in the table differs from the report's"] == [
        "run r: 2 CorruptImage of the stage decode, expected 0",
        "run r: 0 EmptyImage of the stage decode, expected 2",
    ]


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("embedding", "[1.0, 2.0]", "a row of another dimension"),
        ("embedding", "[1.0, 2.0, 3.0, CAST('nan' AS FLOAT64)]", "a row with a vector that is not finite"),
        ("embedding", "[0.0, 0.0, 0.0, 0.0]", "a row with a vector of zeros"),
        ("model", "'other'", "a row of another model"),
        ("sha256", "'x'", "a row without a SHA-256"),
    ],
)
def test_rows_that_were_changed(published, column, value, problem):
    change(f"CREATE OR REPLACE TABLE `test.rows.saved` AS SELECT * FROM `{TABLE}`")
    change(f"UPDATE `{TABLE}` SET {column} = {value} WHERE key = '/1'")
    try:
        assert problems(published) == {problem: ["run r: 1 rows"]}
    finally:
        change(f"DELETE FROM `{TABLE}` WHERE TRUE; INSERT INTO `{TABLE}` SELECT * FROM `test.rows.saved`")


def test_rows_twice_and_rows_too_few(published):
    change(f"INSERT INTO `{TABLE}` SELECT * FROM `{TABLE}` WHERE key = '/1'")
    kinds = problems(published)
    assert kinds["a key has several rows of one model"] == [f"model digest {'d' * 64}"]
    change(f"DELETE FROM `{TABLE}` WHERE key = '/1'")
    assert problems(published) == {"the number of rows differs from the report's": ["run r: 2, expected 3"]}


def test_a_table_that_is_not_there(published):
    findings = Findings()
    table_rows.check("test.rows.none", "r", published, findings)
    assert list(findings.problems) == ["a table cannot be read"]
    with pytest.raises(ValueError, match="'test.rows.none' cannot be read"):
        table_rows.reports("test.rows.none", None, findings)
