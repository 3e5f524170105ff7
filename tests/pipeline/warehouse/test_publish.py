"""pipeline.warehouse.publish: the gate, and what one transaction makes of the table."""

import dataclasses
import datetime
import json

import apache_beam as beam
import pytest
from google.api_core import exceptions

from pipeline.report.run_report import RunReport
from pipeline.warehouse import publish, tables
from pipeline.warehouse.publish import GateRefused, Publication
from tests.helpers.collecting import collect
from transforms.storage import contested, files
from transforms.storage.stores import gcs

DIGEST = "ab" * 32
T0 = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def report(run_id="r", started_at=T0, pruned=0, **counts) -> RunReport:
    every = dict.fromkeys(("listed", "embedded", "reused", "duplicate", "failed", "skipped"), 0) | counts
    every["listed"] = sum(every.values())
    return RunReport(
        run_id=run_id,
        started_at=started_at.isoformat(),
        finished_at=(started_at + datetime.timedelta(minutes=1)).isoformat(),
        counts=every,
        pruned=pruned,
        failures={},
        inputs=["gs://b/**"],
        model={"name": "m", "digest": DIGEST, "dimension": 2, "image_size": [8, 8]},
        shards=0,
        seconds={},
        timings={},
        elapsed_seconds=60.0,
        images_per_second=0.0,
        verdict="a 'verdict'; with \"quotes\"",
    )


class Table:
    """A table with a run on its way into it."""

    def __init__(self, name: str):
        self.name = name
        self.publication = self.staged()

    def staged(self) -> Publication:
        self.publication = publish.prepare(self.name, "nightly", DIGEST, "gs://temp/loads", False)
        publish.stage(self.publication)
        files.write(f"{self.publication.temp_location}/rows", b"were loaded from here")
        return self.publication

    def load(self, key, version="1", embedding="[1.0, 0.5]", digest=DIGEST, run_id="r", at=T0, into=None):
        into = into or self.publication.staging.embeddings
        tables.query(
            self.name,
            f"INSERT INTO `{into}` (key, sha256, version, format, height, width, size, crc32c, embedding, model, "
            "model_digest, run_id, embedded_at) VALUES "
            f"(@key, 'sha of {version}', @version, 'jpeg', 1, 2, 3, '', {embedding}, 'm', @digest, @run_id, "
            "CAST(@at AS TIMESTAMP))",
            key=key,
            version=version,
            digest=digest,
            run_id=run_id,
            at=at.isoformat(),
        )

    def fail(self, key):
        tables.query(
            self.name,
            f"INSERT INTO `{self.publication.staging.failures}` "
            "(key, stage, error, message, retryable, run_id, failed_at) "
            "VALUES (@key, 'read', 'E', 'why', TRUE, 'r', TIMESTAMP '2026-01-01')",
            key=key,
        )

    def gone(self, key):
        tables.query(
            self.name,
            f"INSERT INTO `{self.publication.staging.gone}` (key, version, model_digest) VALUES (@key, '1', @digest)",
            key=key,
            digest=DIGEST,
        )

    def rows(self, columns="key, version, run_id") -> list[tuple]:
        return sorted(tuple(row.values()) for row in tables.query(self.name, f"SELECT {columns} FROM `{self.name}`"))

    def beside(self, suffix, columns) -> list[tuple]:
        rows = tables.query(self.name, f"SELECT {columns} FROM `{self.name}_{suffix}`")
        return sorted(tuple(row.values()) for row in rows)

    def staging_is_there(self) -> bool:
        names = {t.table_id for t in tables.client("test").list_tables(self.name.rpartition(".")[0])}
        return self.publication.staging.embeddings.rpartition(".")[2] in names


@pytest.fixture(scope="module")
def bucket(cloud) -> None:
    gcs.client().create_bucket("temp", project="test")


@pytest.fixture
def table(bucket, request) -> Table:
    dataset = "test." + "".join(c if c.isalnum() else "_" for c in request.node.name)
    tables.client("test").create_dataset(dataset)
    return Table(f"{dataset}.images")


def test_rows_are_published_with_the_run_and_the_staging_tables_go(table):
    table.load("gs://b/1")
    table.load("gs://b/2")
    table.fail("gs://b/3")
    of_another_run = publish.prepare(table.name, "another", DIGEST, "gs://temp/loads", False).temp_location
    files.write(f"{of_another_run}/rows", b"are still loaded from here")
    run_report = report(embedded=1, reused=1, failed=1, skipped=4)
    publish.publish(table.publication, run_report)
    assert table.rows() == [("gs://b/1", "1", "r"), ("gs://b/2", "1", "r")]
    assert table.beside("failures", "key, stage, error, message, retryable, run_id") == [
        ("gs://b/3", "read", "E", "why", True, "r")
    ]
    names = "run_id, model, model_digest, dimension, listed, embedded, reused, duplicate, failed, skipped, pruned"
    assert table.beside("runs", names) == [("r", "m", DIGEST, 2, 7, 1, 1, 0, 1, 4, 0)]
    ((started_at, rate, verdict, whole),) = table.beside("runs", "started_at, failure_rate, verdict, report")
    assert (started_at, rate, verdict) == (T0, pytest.approx(1 / 7), run_report.verdict)
    assert RunReport(**json.loads(whole)) == run_report
    assert not table.staging_is_there()
    assert not files.match(f"{table.publication.temp_location}/**")
    assert files.match(f"{of_another_run}/**")


@pytest.mark.parametrize(
    ("rows", "counts", "said"),
    [
        ([{}, {"key": "gs://b/2"}], {"embedded": 3}, "2 rows where the pipeline counted 3"),
        ([], {"embedded": 1}, "0 rows where the pipeline counted 1"),
        ([{"embedding": "[1.0, CAST('NaN' AS FLOAT64)]"}], {"embedded": 1}, "1 rows with NaN or infinite components"),
        ([{"embedding": "[CAST('-inf' AS FLOAT64), 1.0]"}], {"embedded": 1}, "1 rows with NaN or infinite components"),
        ([{"embedding": "[0.0, -0.0]"}], {"reused": 1}, "1 rows with a vector of zeros"),
        ([{"embedding": "[1.0, 2.0, 3.0]"}], {"duplicate": 1}, "1 rows of other than 2 dimensions"),
        ([{"digest": "cd" * 32}], {"embedded": 1}, "1 rows of another model digest"),
        ([{}], {"embedded": 1, "failed": 1}, "0 rows in "),
        ([{}], {"embedded": 1, "pruned": 1}, "0 rows in "),
    ],
    ids=["too few", "none", "nan", "infinite", "zero", "dimension", "digest", "failures", "gone"],
)
def test_the_gate_refuses_and_leaves_everything_as_it_was(table, rows, counts, said):
    table.load("gs://b/old", run_id="before", into=table.name)
    for row in rows:
        table.load(**({"key": "gs://b/1"} | row))
    with pytest.raises(GateRefused, match="nothing was published") as refused:
        publish.publish(table.publication, report(**counts))
    assert said in str(refused.value)
    assert table.rows() == [("gs://b/old", "1", "before")]
    assert table.beside("runs", "run_id") == []
    assert not table.staging_is_there()
    with pytest.raises(GateRefused, match="nothing was published .* as after this step has refused their rows"):
        publish.publish(table.publication, report(**counts))  # as runners do that repeat what has failed


@pytest.mark.parametrize(
    ("pruned", "rows", "rate", "is_refused"),
    [
        (2, 3, 0.5, True),
        (1, 2, 0.5, False),
        (1, 1, 0.5, True),
        (1, 1, 1.0, False),
        (1, 3, 0.0, True),
        (0, 0, 0.0, False),
    ],
)
def test_no_more_rows_go_than_are_allowed(table, pruned, rows, rate, is_refused):
    for i in range(rows):
        table.load(f"gs://b/{i}", run_id="before", into=table.name)
    for i in range(pruned):
        table.gone(f"gs://b/{i}")
    publication = dataclasses.replace(table.publication, max_pruned=rate)
    pruning = {"prunable": rows, "hidden": 0, "untold": 0, "places": {}}
    own = dataclasses.replace(report(pruned=pruned), pruning=pruning)
    if is_refused:
        message = (
            f"{pruned} of the {rows} rows of images that --input matches .* --max_pruned {rate:g} .* --max_pruned 1"
        )
        with pytest.raises(GateRefused, match=message):
            publish.publish(publication, own)
    else:
        publish.publish(publication, own)
    assert len(table.rows()) == (rows if is_refused else rows - pruned)
    assert not table.staging_is_there()


def test_vectors_that_hardly_differ_are_published_with_a_warning(table, caplog):
    table.load("gs://b/1")
    own = report(embedded=1)
    publish.publish(table.publication, dataclasses.replace(own, model=own.model | {"spread": 0.99}))
    assert "median cosine between sample images is 0.990, more than 0.98: the model seems to get other" in caplog.text
    assert len(table.rows()) == 1


def test_everything_that_is_wrong_is_said_at_once(table):
    table.load("gs://b/1", embedding="[0.0]", digest="cd" * 32)
    with pytest.raises(GateRefused, match="zeros.*dimensions.*digest"):
        publish.check(table.publication, report(embedded=1))


def test_more_rows_than_were_counted_are_refused(table):
    table.load("gs://b/1")
    table.fail("gs://b/2")
    table.gone("gs://b/3")
    more = "1 rows where the pipeline counted 0; 1 rows in .*_failures.* counted 0; 1 rows in .* counted 0"
    with pytest.raises(GateRefused, match=more):
        publish.check(table.publication, report())


def test_a_row_gives_way_to_a_later_generation_and_not_to_an_earlier_one(table):
    later = T0 + datetime.timedelta(hours=1)
    table.load("gs://b/newer", "200", run_id="before", at=T0, into=table.name)
    table.load("gs://b/older", "300", run_id="before", at=T0, into=table.name)
    table.load("gs://b/same", "300", run_id="before", at=T0, into=table.name)
    table.load("/file/later", "9-1.5", run_id="before", at=T0, into=table.name)
    table.load("/file/earlier", "9-1.5", run_id="before", at=later + datetime.timedelta(1), into=table.name)
    table.load("gs://b/newer", "1000", digest="cd" * 32, run_id="other model", into=table.name)
    for key, version in (
        ("gs://b/newer", "1000"),
        ("gs://b/older", "99"),
        ("gs://b/same", "300"),
        ("/file/later", "3-2"),
        ("/file/earlier", "3-2"),
    ):
        table.load(key, version, at=later)
    publish.publish(table.publication, report(embedded=5, started_at=later))
    assert table.rows() == [
        ("/file/earlier", "9-1.5", "before"),
        ("/file/later", "3-2", "r"),
        ("gs://b/newer", "1000", "other model"),
        ("gs://b/newer", "1000", "r"),
        ("gs://b/older", "300", "before"),
        ("gs://b/same", "300", "r"),
    ]
    assert ("gs://b/newer", "sha of 1000") in table.rows("key, sha256")


def test_a_key_that_comes_twice_in_a_run_is_one_row(table):
    table.load("gs://b/1", "1")
    table.load("gs://b/1", "2")
    publish.publish(table.publication, report(embedded=2))
    assert table.rows() == [("gs://b/1", "2", "r")]


def test_pruning_removes_just_the_row_that_was_seen(table):
    for key in ("gs://b/gone", "gs://b/back", "gs://b/stays"):
        table.load(key, "1", run_id="before", into=table.name)
    table.load("gs://b/gone", "1", digest="cd" * 32, run_id="other model", into=table.name)
    tables.query(table.name, f"UPDATE `{table.name}` SET version = '2' WHERE key = 'gs://b/back'")  # by another run
    for key in ("gs://b/gone", "gs://b/back"):
        table.gone(key)
    publish.publish(table.publication, report(pruned=2))
    assert table.rows() == [
        ("gs://b/back", "2", "before"),
        ("gs://b/gone", "1", "other model"),
        ("gs://b/stays", "1", "before"),
    ]
    assert table.beside("runs", "pruned") == [(2,)]


def test_a_run_that_another_process_has_taken_over_is_not_even_checked(table):
    def lose():
        raise contested.Lost("taken over")

    table.load("gs://b/1")
    with pytest.raises(contested.Lost, match="taken over"):
        publish.publish(table.publication, report(embedded=2), lose)
    assert table.rows() == [] and table.staging_is_there()


def test_publishing_again_changes_nothing(table):
    table.load("gs://b/1")
    publication, run_report = table.publication, report(embedded=1)
    publish.publish(publication, run_report)
    publish.publish(publication, run_report)  # as a bundle that runs again does: the staging tables are gone
    assert table.rows() == [("gs://b/1", "1", "r")] and len(table.beside("runs", "run_id")) == 1


def test_a_run_done_anew_under_its_name_replaces_its_rows(table):
    for attempt in range(2):
        table.staged()
        table.load("gs://b/1", version=str(attempt))
        table.fail(f"gs://b/{attempt}")
        publish.publish(table.publication, report(embedded=1, failed=1, started_at=T0 + datetime.timedelta(attempt)))
    assert table.rows() == [("gs://b/1", "1", "r")]
    assert table.beside("failures", "key") == [("gs://b/1",)]
    assert table.beside("runs", "started_at") == [(T0 + datetime.timedelta(1),)]


def test_a_run_done_anew_without_failures_leaves_none(table):
    table.fail("gs://b/1")
    publish.publish(table.publication, report(failed=1))
    table.staged()
    table.load("gs://b/1")
    publish.publish(table.publication, report(embedded=1, started_at=T0 + datetime.timedelta(1)))
    assert table.rows() == [("gs://b/1", "1", "r")]
    assert table.beside("failures", "key") == []


def test_all_or_nothing(table):
    table.load("gs://b/1")
    script = publish.transaction(table.name, table.publication.staging).replace("COMMIT", "SELECT ERROR('x');\nCOMMIT")
    with pytest.raises(Exception, match="x"):
        tables.run(table.name, script)
    assert table.rows() == [] and table.beside("runs", "run_id") == []


def test_the_run_may_choose_the_model_that_the_view_shows(table):
    other = "cd" * 32
    publication = dataclasses.replace(table.publication, make_latest=True)
    table.load("gs://b/1", digest=other)
    run_report = report(embedded=1)
    publish.publish(publication, dataclasses.replace(run_report, model=run_report.model | {"digest": other}))
    assert table.beside("latest", "key, model_digest") == [("gs://b/1", other)]


def test_a_run_that_was_stopped_before_the_view_shows_it_when_the_step_is_repeated(table):
    other = "cd" * 32
    run_report = report(embedded=1)
    run_report = dataclasses.replace(run_report, model=run_report.model | {"digest": other})
    table.load("gs://b/1", digest=other)
    publish.publish(table.publication, run_report)
    publish.publish(dataclasses.replace(table.publication, make_latest=True), run_report)
    assert table.beside("latest", "key, model_digest") == [("gs://b/1", other)]


def test_no_value_stands_in_the_transaction(table):
    script = publish.transaction(table.name, table.publication.staging)
    assert "'" not in script and '"' not in script and "@" not in script


def attempted(number, **changes):
    """Returns the report of an attempt, whose clock is the further behind the later it is."""
    run_report = report(embedded=1, started_at=T0 - datetime.timedelta(days=number))
    return dataclasses.replace(run_report, attempt=number, **changes)


def test_attempts_replace_each_other_in_the_order_of_their_numbers(table):
    for number in (1, 2):
        table.staged()
        table.load("gs://b/1", version=str(number))
        publish.publish(table.publication, attempted(number))
    table.staged()
    table.load("gs://b/1", version="3")
    message = r"^run_id='r': another process has published this run, begun at 2025-12-30"
    for own in (attempted(1), attempted(2, started_at=T0.isoformat())):
        with pytest.raises(contested.Lost, match=message):
            publish.publish(table.publication, own)
    assert table.rows() == [("gs://b/1", "2", "r")]
    assert [json.loads(row)["attempt"] for (row,) in table.beside("runs", "report")] == [2]


@pytest.mark.parametrize("number", [1, 3], ids=["of a later attempt", "of an earlier attempt"])
def test_a_row_that_appears_between_the_look_and_the_transaction(table, monkeypatch, number):
    """Another process publishes the run after this one has looked at its row and at its claim, before it begins."""
    table.load("gs://b/1", version="1")
    ours = table.publication
    other = table.staged()
    table.load("gs://b/1", version="2")
    commit, committed = publish._commit, []

    def after_the_other(name, script):
        committed.append(script)
        if len(committed) == 1:
            publish._stage_run(other, attempted(2), None)
            commit(name, publish.transaction(name, other.staging))
        commit(name, script)

    monkeypatch.setattr(publish, "_commit", after_the_other)
    if number == 1:
        with pytest.raises(contested.Lost, match="another process has published this run"):
            publish.publish(ours, attempted(1))
    else:
        publish.publish(ours, attempted(3))
    assert len(committed) == (1 if number == 1 else 2)
    assert [json.loads(row)["attempt"] for (row,) in table.beside("runs", "report")] == [max(number, 2)]
    assert table.rows("key, version") == [("gs://b/1", "2")]  # a later generation of the object, whichever run wrote it


def test_a_transaction_whose_reply_is_lost_has_published(table, monkeypatch):
    table.load("gs://b/1")
    commit = publish._commit

    def lose_reply(name, script):
        commit(name, script)
        raise exceptions.ServiceUnavailable("the connection was closed")

    monkeypatch.setattr(publish, "_commit", lose_reply)
    publish.publish(table.publication, attempted(1))
    assert table.rows() == [("gs://b/1", "1", "r")] and not table.staging_is_there()


def test_a_run_whose_row_was_staged_twice_has_one(table, monkeypatch):
    """As if the reply to the first request was lost."""
    stage_run = publish._stage_run
    monkeypatch.setattr(publish, "_stage_run", lambda *args: [stage_run(*args) for _ in range(2)])
    publish.publish(table.publication, report())
    assert table.beside("runs", "run_id") == [("r",)]


def test_a_transaction_that_fails_for_another_reason_fails_the_job(table, monkeypatch):
    table.load("gs://b/1")

    def fail(name, script):
        raise exceptions.BadRequest("quota exceeded")

    monkeypatch.setattr(publish, "_commit", fail)
    with pytest.raises(exceptions.BadRequest, match="quota exceeded"):
        publish.publish(table.publication, attempted(1))
    assert table.rows() == []


@pytest.mark.parametrize("words", ["concurrent update", "Could not serialize access", "Too many DML statements"])
def test_a_transaction_that_another_one_has_undone_is_tried_again(monkeypatch, words):
    scripts = []

    def run(name, script):
        scripts.append((name, script))
        if len(scripts) < 3:
            raise exceptions.BadRequest(words)

    monkeypatch.setattr(tables, "run", run)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    publish._commit("p.d.t", "BEGIN")
    assert scripts == [("p.d.t", "BEGIN")] * 3


def test_rows_are_published_when_all_loads_have_ended(monkeypatch):
    seen = []

    def process(self, report, ended):
        seen.append(sorted(ended))
        yield report

    def build(root):
        loads = [root | name >> beam.Create([name]) for name in ("Rows", "Failures")]
        reports = root | "Report" >> beam.Create([report()])
        return {"report": reports | publish.PublishRows(None, loads, None)}

    monkeypatch.setattr(publish._Publish, "process", process)
    collect(build)
    assert seen == [["Failures", "Rows"]]


def test_a_run_begins_by_the_clock_of_the_warehouse(table):
    """Two machines may differ by days, and the later of two runs replaces the rows of files."""
    (before,) = tables.query(table.name, "SELECT CURRENT_TIMESTAMP() AS now")
    began_at = [table.staged().began_at for _ in range(2)]
    assert before["now"] < began_at[0] < began_at[1]
