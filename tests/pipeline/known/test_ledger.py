"""pipeline.known.ledger: what earlier runs wrote, read back from their files and from the table."""

import dataclasses
import datetime
import functools
import os
import shutil
from pathlib import Path

import apache_beam as beam
import pyarrow.parquet as pq
import pytest
from google.cloud import bigquery, storage

from pipeline.known import ledger
from pipeline.known.ledger import ReadRetryable
from tests.helpers import data_generation as data
from tests.helpers.collecting import collect
from tests.helpers.earlier_runs import (
    BEGAN_AT,
    DIGEST,
    FIRST,
    MODEL,
    ODD_KEY,
    OTHER,
    OTHER_MODEL,
    OTHERS,
    ROWS,
    RUN,
    SECOND,
    embedding,
    identities,
    insert,
    make_table,
    read_ledger,
    write,
)
from transforms.elements import counters, table_name
from transforms.elements.records import Embedding, Failure, ImageRef
from transforms.encoding import examples, record_files, tfrecord
from transforms.failures import WriteFailures
from transforms.write_bigquery import embedding_row, failure_row
from transforms.write_parquet import WriteParquet

pytestmark = pytest.mark.slow


def read_retryable(output=None, patterns=(), table=None, run_id="now"):
    retryable = ReadRetryable(table, output and str(output), patterns, run_id)
    found, counted = collect(lambda root: {"refs": (root | retryable).main})
    assert counted.get(counters.IMAGES_LISTED, 0) == len(found["refs"])
    return sorted(found["refs"], key=lambda ref: ref.key)


def test_all_records_of_a_digest_in_all_runs(output, monkeypatch):
    monkeypatch.setattr(record_files, "_RECORDS_PER_DECODE", 4)  # more than one batch a shard
    known = read_ledger(output)
    assert identities(known) == identities(FIRST + SECOND)
    for entry in known:
        assert entry.written_at == pytest.approx(Path(entry.shard).stat().st_mtime, abs=1e-6)
        with open(entry.shard, "rb") as file:
            file.seek(entry.offset)
            (there,) = examples.decode_identities([next(tfrecord.read(file, 2**20))])
        assert (there.key, there.sha256) == (entry.key, entry.sha256)
        assert entry.is_file


def test_an_image_in_a_shard_is_no_file(tmp_path):
    ref = dataclasses.replace(FIRST[0].info.ref, in_shard=b"/s.tar")
    write(tmp_path, "first", [Embedding(dataclasses.replace(FIRST[0].info, ref=ref), FIRST[0].vector)])
    (entry,) = read_ledger(tmp_path)
    assert not entry.is_file


@pytest.mark.parametrize("vector_type", ["float32", "float16"])
def test_a_run_in_parquet(tmp_path, vector_type):
    write(tmp_path, "first", FIRST, write=functools.partial(WriteParquet, vector_type=vector_type))
    known = read_ledger(tmp_path, vector_type=vector_type)
    assert identities(known) == identities(FIRST)
    for entry in known:
        row = pq.read_table(entry.shard, columns=["sha256"]).to_pylist()[entry.offset]
        assert row["sha256"] == entry.sha256
    assert identities(read_ledger(tmp_path, vector_type="float16")) == identities(FIRST)
    # Vectors in float16 are unknown to a run that needs float32.
    assert len(read_ledger(tmp_path)) == (len(FIRST) if vector_type == "float32" else 0)


def test_of_a_run_in_two_formats_one_is_read(output, tmp_path):
    write(tmp_path / "both", "first", FIRST, write=WriteParquet)
    (parquet,) = (tmp_path / "both/embeddings/first").iterdir()
    shutil.copy(parquet, output / "embeddings" / "first")
    known = read_ledger(output)
    assert identities(known) == identities(FIRST + SECOND)
    assert {Path(entry.shard).suffix for entry in known if "/first/" in entry.shard} == {".parquet"}


def test_another_digest_has_records_of_its_own(output):
    assert identities(read_ledger(output, OTHER)) == identities(OTHERS)
    assert read_ledger(output, "f" * 64) == []


def test_records_of_several_digests_in_one_shard(tmp_path, monkeypatch):
    monkeypatch.setattr(record_files, "_RECORDS_PER_DECODE", 2)
    mine, others = FIRST[:5], [embedding(b"/%d.jpg" % i, seed=3) for i in range(5)]
    of_both = zip(examples.encode_embeddings(others, OTHER_MODEL), examples.encode_embeddings(mine, MODEL), strict=True)
    shard = tmp_path / "embeddings" / "merged" / "part-00000-of-00001.tfrecord"
    shard.parent.mkdir(parents=True)
    data.write_tfrecords(shard, [record for pair in of_both for record in pair])
    known = read_ledger(tmp_path)
    assert identities(known) == identities(mine)
    with shard.open("rb") as file:  # by the place of each
        for entry in known:
            file.seek(entry.offset)
            assert examples.decode_identities([next(tfrecord.read(file, 2**20))])[0].key == entry.key


def test_where_nothing_was_written_nothing_is_known(tmp_path):
    assert read_ledger(tmp_path) == read_ledger(tmp_path / "none") == []
    assert read_retryable(tmp_path) == read_retryable(tmp_path / "none") == []


def test_whether_there_may_be_records_of_earlier_runs(output, tmp_path):
    assert not ledger.may_have_records(None, str(tmp_path / "none"), "now")
    assert ledger.may_have_records("p.d.t", str(tmp_path / "none"), "now")
    assert all(ledger.may_have_records(None, str(output), run) for run in ("now", "first", "second"))
    for run in (output / "embeddings").iterdir():
        if run.name != "first":
            shutil.rmtree(run)
    assert ledger.may_have_records(None, str(output), "now")
    assert not ledger.may_have_records(None, str(output), "first")


def test_only_complete_shards_count(output):
    (output / "embeddings" / "killed" / ".parts").mkdir(parents=True)
    (output / "embeddings" / "killed" / ".parts" / "0123.tfrecord").write_bytes(b"half a reco")
    (output / "embeddings" / "killed" / "notes.txt").write_bytes(b"not a shard")
    assert identities(read_ledger(output)) == identities(FIRST + SECOND)


def test_what_this_run_wrote_before_it_was_started_again_is_not_known(output):
    assert identities(read_ledger(output, run_id="second")) == identities(FIRST)
    assert identities(read_ledger(output, run_id="secon")) == identities(FIRST + SECOND)


def test_a_shard_that_went_after_the_listing_is_not_known(tmp_path):
    assert list(ledger._known_records((str(tmp_path / "part-0.tfrecord"), 0.0), DIGEST, "float32")) == []


@pytest.mark.parametrize("content", [b"half a reco", tfrecord.frame(b"no example")], ids=["framing", "record"])
def test_a_broken_shard_is_named(output, content):
    broken = output / "embeddings" / "first" / "part-00009-of-00009.tfrecord"
    broken.write_bytes(content)
    with pytest.raises(ValueError, match=f"{broken}: .*; move it away, and the images that are in it"):
        list(ledger._known_records((str(broken), 0.0), DIGEST, "float32"))
    with pytest.raises(Exception, match="move it away"):
        read_ledger(output)


def retryable(key, retryable=True):
    return Failure(key, "read", "OSError", 'a "message"', retryable, is_file=True)


FAILED = {
    "first": [
        retryable(b"/photos/a.jpg", False),
        retryable(b"/photos/deep/b.jpg"),
        retryable(b"/photos/broken.jpg", False),
        retryable(b"/photos/gone.jpg"),
    ],
    # The latest counts.
    "second": [
        retryable(b"/photos/a.jpg"),
        retryable(b"/more/c.png"),
        retryable(ODD_KEY),
        retryable(b"/photos/gone.jpg", False),
    ],
}
TO_RETRY = [b"/more/c.png", b"/photos/a.jpg", ODD_KEY, b"/photos/deep/b.jpg"]

PATTERNS = pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ((), TO_RETRY),
        (("/photos/*",), [b"/photos/a.jpg", ODD_KEY]),
        (("/photos/**", "/*/a.jpg"), TO_RETRY[1:]),
        (("/more/*", "/photos/deep/*"), [b"/more/c.png", b"/photos/deep/b.jpg"]),
        (("/photos/*.png",), []),
    ],
    ids=["all", "one", "overlapping", "several", "none"],
)


@PATTERNS
def test_what_failed_in_a_way_that_may_pass(tmp_path, patterns, expected):
    for run_id, failures in FAILED.items():
        collect(lambda root, f=failures, r=run_id: root | beam.Create(f) | WriteFailures(str(tmp_path), r))
    assert read_retryable(tmp_path, patterns) == [ImageRef(key, "", -1) for key in sorted(expected)]
    # What this run wrote before it was started again takes nothing out.
    passed = [retryable(key, False) for key in TO_RETRY]
    collect(lambda root: root | beam.Create(passed) | WriteFailures(str(tmp_path), "now"))
    assert read_retryable(tmp_path, patterns) == [ImageRef(key, "", -1) for key in sorted(expected)]


LINE = b'{"key": "/photos/a.jpg", "retryable": true, "is_file": true}\n'
BROKEN = {
    "empty": (b"", 1, []),
    "cut": (LINE + LINE[:20], 2, [b"/photos/a.jpg"]),
    "cut before its end": (LINE + LINE[:-1], 2, [b"/photos/a.jpg"]),
    "no JSON": (LINE + b"\0\0\n" + LINE, 2, [b"/photos/a.jpg"]),
    "no failure": (b'{"key": 1, "retryable": true}\n', 1, []),
    "no object": (b"[]\n", 1, []),
    "nested": (b"[" * 100_000 + b"\n", 1, []),
    "no key": (b'{"retryable": true}\n', 1, []),
}


@pytest.mark.parametrize(("content", "line", "expected"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_of_failures_is_a_failure_itself(tmp_path, content, line, expected):
    path = tmp_path / "failures" / "first" / "part-00000-of-00001.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    *failed, broken = ledger._failed_lines((str(path), 1.0))
    assert failed == [(key, (1.0, True)) for key in expected]
    assert (broken.key, broken.stage, broken.error) == (os.fsencode(path), "list", "BrokenFailures")
    assert broken.message.startswith(f"{path}: line {line}: ") and not broken.retryable


def test_a_failed_image_of_a_shard_or_of_an_earlier_version_is_not_read_by_its_key(tmp_path, caplog):
    path = tmp_path / "part-00000-of-00001.jsonl"
    of_shard, before = LINE.replace(b'"is_file": true', b'"is_file": false'), LINE.replace(b', "is_file": true', b"")
    path.write_bytes(LINE + of_shard + before)
    failed = list(ledger._failed_lines((str(path), 1.0)))
    assert failed == [(b"/photos/a.jpg", (1.0, may)) for may in (True, False, False)]
    assert f"{path}: --retry_failed leaves out 2 failed images" in caplog.text


def test_a_file_of_failures_that_went_after_the_listing(tmp_path):
    assert list(ledger._failed_lines((str(tmp_path / "part-00000-of-00001.jsonl"), 1.0))) == []


def test_shards_in_a_bucket(cloud):
    storage.Client().create_bucket("ledger")
    write("gs://ledger/out", "first", FIRST)
    write("gs://ledger/out", "second", SECOND)
    known = read_ledger("gs://ledger/out")
    assert identities(known) == identities(FIRST + SECOND)
    for blob in storage.Client().list_blobs("ledger", prefix="out/embeddings/second/"):
        blob.delete()
    gone = next(entry.shard for entry in known if "/second/" in entry.shard)
    assert list(ledger._known_records((gone, 0.0), DIGEST, "float32")) == []


@pytest.fixture(scope="module")
def table(cloud):
    """A table with rows of two models, and one of failures beside it."""
    name = make_table("ledger")
    failed = [
        failure_row(
            failure, dataclasses.replace(RUN, run_id=run_id, began_at=RUN.began_at + datetime.timedelta(days=day))
        )
        for day, (run_id, failures) in enumerate(FAILED.items())
        for failure in failures
    ]
    earlier = failure_row(retryable(b"/photos/of_an_earlier_version.jpg"), RUN) | {"is_file": None}
    insert(bigquery.Client(), table_name.failures(name), [*failed, earlier])
    return name


@pytest.mark.parametrize("rows_at_once", [4, len(ROWS) - 1, len(ROWS), 50_000])
def test_all_rows_of_a_digest(table, monkeypatch, rows_at_once):
    monkeypatch.setattr(ledger, "_ROWS_PER_PART", rows_at_once)
    known = read_ledger(table=table)
    assert identities(known) == identities(ROWS)
    assert {(entry.written_at, entry.shard, entry.offset) for entry in known} == {(BEGAN_AT.timestamp(), "", -1)}
    assert identities(read_ledger(table=table, digest=OTHER)) == identities(OTHERS)
    assert read_ledger(table=table, digest="f" * 64) == read_ledger(table=table, run_id=RUN.run_id) == []


def test_a_row_of_a_shard_or_of_an_earlier_version_is_of_no_file(cloud):
    """Else --prune would delete it, because no listing has its key."""
    name = make_table("ledger_of_shards")
    others = [
        embedding_row(FIRST[0], RUN) | {"key": key, "shard": shard}
        for key, shard in (("/s.tar#1", "/s.tar"), ("earlier", None))
    ]
    insert(bigquery.Client(), name, others)
    known = read_ledger(table=name)
    assert {entry.key for entry in known if not entry.is_file} == {b"/s.tar#1", b"earlier"} and len(known) > 2


@PATTERNS
def test_what_failed_in_a_way_that_may_pass_by_the_table(table, patterns, expected):
    assert read_retryable(None, patterns, table) == [ImageRef(key, "", -1) for key in sorted(expected)]


def test_a_shard_that_is_there_and_cannot_be_read_is_not_passed_over(output, monkeypatch):
    """Its images would be embedded again, or pruned."""

    def fail(path):
        raise OSError(5, "Input/output error")

    shard = next((output / "embeddings" / "first").iterdir())
    monkeypatch.setattr(ledger.files, "open_stored", fail)
    with pytest.raises(OSError, match="Input/output error"):
        list(ledger._known_records((str(shard), 0.0), DIGEST, "float32"))
    shard.unlink()
    assert list(ledger._known_records((str(shard), 0.0), DIGEST, "float32")) == []


def test_failures_of_the_run_itself_are_not_tried_again_by_it(tmp_path):
    for run_id in ("now", "nower"):
        failed = [retryable(b"/%s.jpg" % run_id.encode())]
        collect(lambda root, f=failed, r=run_id: root | beam.Create(f) | WriteFailures(str(tmp_path), r))
    assert [ref.key for ref in read_retryable(tmp_path)] == [b"/nower.jpg"]
