"""pipeline.ledger: what earlier runs wrote, read back from their files and from the table."""

import dataclasses
import datetime
import hashlib
import shutil
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from google.cloud import bigquery, storage

from pipeline import ledger
from pipeline.ledger import FetchVectors, ReadLedger, ReadRetryable
from pipeline.warehouse import tables
from tests import data_generation as data
from tests.collecting import collect
from transforms import counters, table_name
from transforms.encoding import examples, tfrecord
from transforms.failures import WriteFailures
from transforms.models.spec import ModelFields
from transforms.records import Embedding, Failure, ImageInfo, ImageRef, Known, Reuse
from transforms.write_bigquery import RunColumns, embedding_row, failure_row
from transforms.write_tfrecord import WriteTFRecords

pytestmark = pytest.mark.slow

DIMENSION = 7
DIGEST, OTHER = "d" * 64, "e" * 64
MODEL = ModelFields("a model", DIGEST, DIMENSION)
OTHER_MODEL = ModelFields("another model", OTHER, DIMENSION)
ODD_KEY = b"/photos/caf\xe9.jpg"  # not UTF-8


def embedding(key, version="1-1.0", seed=0):
    """Returns the embedding of bytes that no other key and seed have."""
    content = key + b"%d" % seed
    vector = np.random.default_rng(list(content)).standard_normal(DIMENSION, np.float32)
    sha256 = hashlib.sha256(content).hexdigest()
    return Embedding(ImageInfo(ImageRef(key, version, len(content), "AAAAAA=="), sha256, "png", 30, 40 + seed), vector)


FIRST = [embedding(b"/%d.jpg" % i) for i in range(30)] + [embedding(ODD_KEY)]
SECOND = [embedding(b"/%d.jpg" % i, "2-2.0", seed=1) for i in range(28, 32)]
# The last is of the bytes of one of the first.
OTHERS = [*(embedding(b"/%d.jpg" % i, seed=2) for i in range(3)), Embedding(FIRST[3].info, -FIRST[3].vector)]


def write(output, run_id, embeddings, model=MODEL):
    def build(root):
        return (root | beam.Create(embeddings),) | WriteTFRecords(str(output), run_id, model)

    collect(build)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A directory that three runs have written to, the last with another model."""
    directory = tmp_path_factory.mktemp("written")
    write(directory, "first", FIRST)
    write(directory, "second", SECOND)
    write(directory, "other", OTHERS, OTHER_MODEL)
    return directory


@pytest.fixture
def output(written, tmp_path):
    """The same, for this test alone."""
    return shutil.copytree(written, tmp_path / "output")


def read_ledger(output=None, digest=DIGEST, table=None, run_id="now"):
    ledger = ReadLedger(table, str(output) if output else None, digest, run_id)
    found, _ = collect(lambda root: {"known": root | ledger})
    return found["known"]


def read_retryable(output=None, patterns=(), table=None, run_id="now"):
    retryable = ReadRetryable(table, output and str(output), patterns, run_id)
    found, counted = collect(lambda root: {"refs": root | retryable})
    assert counted.get(counters.IMAGES_LISTED, 0) == len(found["refs"])
    return sorted(found["refs"], key=lambda ref: ref.key)


def identities(records):
    """Returns what tells embeddings or entries of the ledger apart."""
    return sorted(map(_identity, records))


def _identity(record):
    ref = record.info.ref if isinstance(record, Embedding) else record
    sha256 = record.info.sha256 if isinstance(record, Embedding) else record.sha256
    return ref.key, ref.version, sha256, ref.size, ref.crc32c


def renamed(known):
    """Returns a Reuse of each entry of the ledger, under a name of its own."""
    return [Reuse(ImageRef(b"/new-%d" % i, "77", each.size, each.crc32c), each) for i, each in enumerate(known)]


def fetch(reuses, digest=DIGEST, table=None):
    """Returns the embeddings and the failures, by key; each image has one of them, and is counted right."""

    def build(root):
        fetched = root | beam.Create(reuses) | FetchVectors(table, digest)
        return {"embeddings": fetched.main, "failures": fetched.failures}

    found, counted = collect(build)
    embeddings, failures = found["embeddings"], found["failures"]
    outcomes = [*(each.info.ref.key for each in embeddings), *(failure.key for failure in failures)]
    assert sorted(outcomes) == sorted(reuse.ref.key for reuse in reuses)
    assert counted.get(counters.IMAGES_REUSED, 0) == len(embeddings)
    return {each.info.ref.key: each for each in embeddings}, {failure.key: failure for failure in failures}


def assert_vectors_of(embeddings, reuses, originals):
    """Asserts that each is the embedding of the same bytes that was written, but for its name and version."""
    by_sha256 = {each.info.sha256: each for each in originals}
    known = {reuse.ref.key: reuse.known for reuse in reuses}
    for key, found in embeddings.items():
        original = by_sha256[known[key].sha256]
        ref = dataclasses.replace(original.info.ref, key=key, version="77")
        assert found.info == dataclasses.replace(original.info, ref=ref)
        assert found.vector.dtype == np.float32
        np.testing.assert_array_equal(found.vector, original.vector)


def assert_embedded_anew(failure, said):
    assert (failure.stage, failure.error, failure.retryable) == ("reuse", "VectorGone", True)
    assert said in failure.message and "the next run embeds them anew" in failure.message


def test_all_records_of_a_digest_in_all_runs(output, monkeypatch):
    monkeypatch.setattr(ledger, "_RECORDS_PER_DECODE", 4)  # more than one batch a shard
    known = read_ledger(output)
    assert identities(known) == identities(FIRST + SECOND)
    for entry in known:
        assert entry.written_at == pytest.approx(Path(entry.shard).stat().st_mtime, abs=1e-6)
        with open(entry.shard, "rb") as file:
            file.seek(entry.offset)
            (there,) = examples.decode_identities([next(tfrecord.read(file, 2**20))])
        assert (there.key, there.sha256) == (entry.key, entry.sha256)


def test_another_digest_has_records_of_its_own(output):
    assert identities(read_ledger(output, OTHER)) == identities(OTHERS)
    assert read_ledger(output, "f" * 64) == []


def test_records_of_several_digests_in_one_shard(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "_RECORDS_PER_DECODE", 2)
    mine, others = FIRST[:5], [embedding(b"/%d.jpg" % i, seed=3) for i in range(5)]
    of_both = zip(examples.encode_embeddings(others, OTHER_MODEL), examples.encode_embeddings(mine, MODEL), strict=True)
    shard = tmp_path / "embeddings" / "merged" / "part-00000-of-00001.tfrecord"
    shard.parent.mkdir(parents=True)
    data.write_tfrecords(shard, [record for pair in of_both for record in pair])
    known = read_ledger(tmp_path)
    assert identities(known) == identities(mine)
    embeddings, failures = fetch(renamed(known))
    assert len(embeddings) == 5 and not failures
    assert_vectors_of(embeddings, renamed(known), mine)


def test_where_nothing_was_written_nothing_is_known(tmp_path):
    assert read_ledger(tmp_path) == read_ledger(tmp_path / "none") == []
    assert read_retryable(tmp_path) == read_retryable(tmp_path / "none") == []


def test_only_complete_shards_count(output):
    (output / "embeddings" / "killed" / ".parts").mkdir(parents=True)
    (output / "embeddings" / "killed" / ".parts" / "0123.tfrecord").write_bytes(b"half a reco")
    (output / "embeddings" / "killed" / "notes.txt").write_bytes(b"not a shard")
    assert identities(read_ledger(output)) == identities(FIRST + SECOND)


def test_what_this_run_wrote_before_it_was_started_again_is_not_known(output):
    assert identities(read_ledger(output, run_id="second")) == identities(FIRST)
    assert identities(read_ledger(output, run_id="secon")) == identities(FIRST + SECOND)


def test_a_shard_that_went_after_the_listing_is_not_known(tmp_path):
    assert list(ledger._known_records((str(tmp_path / "part-0.tfrecord"), 0.0), DIGEST)) == []


@pytest.mark.parametrize("content", [b"half a reco", tfrecord.frame(b"no example")], ids=["framing", "record"])
def test_a_broken_shard_is_named(output, content):
    broken = output / "embeddings" / "first" / "part-00009-of-00009.tfrecord"
    broken.write_bytes(content)
    with pytest.raises(ValueError, match=f"{broken}: .*; move it away, and the images that are in it"):
        list(ledger._known_records((str(broken), 0.0), DIGEST))
    with pytest.raises(Exception, match="move it away"):
        read_ledger(output)


def test_vectors_from_shards(output):
    known = read_ledger(output)
    reuses = renamed(known * 2)  # two copies of each
    embeddings, failures = fetch(reuses)
    assert len(embeddings) == 2 * len(FIRST + SECOND) and not failures
    assert_vectors_of(embeddings, reuses, FIRST + SECOND)


def test_nothing_to_fetch():
    assert fetch([]) == ({}, {})


def test_a_shard_that_is_gone_costs_its_own_images_only(output):
    reuses = renamed(read_ledger(output))
    for shard in (output / "embeddings" / "second").iterdir():
        shard.unlink()
    embeddings, failures = fetch(reuses)
    assert sorted(failures) == sorted(r.ref.key for r in reuses if "/second/" in r.known.shard)
    assert len(failures) == len(SECOND)
    for failure in failures.values():
        assert_embedded_anew(failure, "No such file")
    assert_vectors_of(embeddings, reuses, FIRST)


def test_a_truncated_shard_gives_what_it_still_holds(output):
    reuses = renamed(read_ledger(output))
    shard = max((r.known.shard for r in reuses), key=lambda path: Path(path).stat().st_size)
    inside = sorted(r.known.offset for r in reuses if r.known.shard == shard)
    assert len(inside) > 3
    # In the middle of one record; of those behind it nothing is left.
    with open(shard, "r+b") as file:
        file.truncate(inside[2] + 20)
    embeddings, failures = fetch(reuses)
    assert len(failures) == len(inside) - 2
    for failure in failures.values():
        assert_embedded_anew(failure, shard)
    assert_vectors_of(embeddings, reuses, FIRST + SECOND)


@pytest.mark.parametrize("shift", [1, 10**9, -(10**9)], ids=["into a record", "behind the end", "negative"])
def test_a_wrong_offset_is_a_failure_and_no_wrong_vector(output, shift):
    right, wrong = renamed(read_ledger(output)[:2])
    wrong = dataclasses.replace(wrong, known=dataclasses.replace(wrong.known, offset=wrong.known.offset + shift))
    embeddings, failures = fetch([right, wrong])
    assert list(embeddings) == [right.ref.key]
    assert_embedded_anew(failures[wrong.ref.key], wrong.known.shard)


@pytest.mark.parametrize(
    ("embeddings", "model"),
    [([embedding(e.info.ref.key, seed=9) for e in FIRST], MODEL), (FIRST, OTHER_MODEL)],
    ids=["other bytes", "another model"],
)
def test_a_shard_that_was_replaced_since_gives_no_vectors(tmp_path, embeddings, model):
    write(tmp_path, "run", FIRST)
    reuses = renamed(read_ledger(tmp_path))
    for shard in (tmp_path / "embeddings" / "run").iterdir():
        records = examples.encode_embeddings(sorted(embeddings, key=lambda each: each.info.ref.key), model)
        data.write_tfrecords(shard, records)
    found, failures = fetch(reuses)
    assert not found
    assert any(
        "another record" in failure.message for failure in failures.values()
    )  # the first of each shard, at least
    for failure in failures.values():
        assert_embedded_anew(failure, "part-")


def retryable(key, retryable=True):
    return Failure(key, "read", "OSError", 'a "message"', retryable)


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


def test_shards_in_a_bucket(cloud):
    storage.Client().create_bucket("ledger")
    write("gs://ledger/out", "first", FIRST)
    write("gs://ledger/out", "second", SECOND)
    known = read_ledger("gs://ledger/out")
    assert identities(known) == identities(FIRST + SECOND)
    reuses = renamed(known)
    for blob in storage.Client().list_blobs("ledger", prefix="out/embeddings/second/"):
        blob.delete()
    embeddings, failures = fetch(reuses)
    assert len(failures) == len(SECOND)
    for failure in failures.values():
        assert_embedded_anew(failure, "gs://ledger/out/embeddings/second/part-")
    assert_vectors_of(embeddings, reuses, FIRST)
    gone = next(r.known.shard for r in reuses if "/second/" in r.known.shard)
    assert list(ledger._known_records((gone, 0.0), DIGEST)) == []


BEGAN_AT = datetime.datetime(2026, 3, 29, 1, 30, 0, 123456, datetime.UTC)
RUN = RunColumns("first", BEGAN_AT, MODEL)
# A backslash of its own, as an escape is spelled.
SPELLED_KEY = b"/photos/\\xc3\\xa9.jpg"
ROWS = [*FIRST, embedding(SPELLED_KEY)]


@pytest.fixture(scope="module")
def table(cloud):
    """A table with rows of two models, and one of failures beside it."""
    bq = bigquery.Client()
    bq.create_dataset("ledger")
    name = "test.ledger.images"
    tables.prepare(name, DIGEST)
    rows = [embedding_row(each, RUN) for each in ROWS]
    rows += [embedding_row(each, dataclasses.replace(RUN, model=OTHER_MODEL)) for each in OTHERS]
    insert(bq, name, rows)
    failed = [
        failure_row(
            failure, dataclasses.replace(RUN, run_id=run_id, began_at=RUN.began_at + datetime.timedelta(days=day))
        )
        for day, (run_id, failures) in enumerate(FAILED.items())
        for failure in failures
    ]
    insert(bq, table_name.failures(name), failed)
    return name


def insert(bq, name, rows):
    rows = [{k: v.isoformat() if isinstance(v, datetime.datetime) else v for k, v in row.items()} for row in rows]
    assert bq.insert_rows_json(name, rows) == []


@pytest.mark.parametrize("rows_at_once", [4, len(ROWS) - 1, len(ROWS), 50_000])
def test_all_rows_of_a_digest(table, monkeypatch, rows_at_once):
    monkeypatch.setattr(ledger, "_ROWS_PER_PART", rows_at_once)
    known = read_ledger(table=table)
    assert identities(known) == identities(ROWS)
    assert {(entry.written_at, entry.shard, entry.offset) for entry in known} == {(BEGAN_AT.timestamp(), "", -1)}
    assert identities(read_ledger(table=table, digest=OTHER)) == identities(OTHERS)
    assert read_ledger(table=table, digest="f" * 64) == read_ledger(table=table, run_id=RUN.run_id) == []


def test_vectors_from_the_table(table, monkeypatch):
    monkeypatch.setattr(ledger, "_VECTORS_PER_QUERY", 5)
    reuses = renamed(read_ledger(table=table) * 2)
    embeddings, failures = fetch(reuses, table=table)
    assert not failures
    assert_vectors_of(embeddings, reuses, ROWS)


def test_vectors_of_the_right_model(table):
    reuses = renamed(read_ledger(table=table, digest=OTHER))
    embeddings, _ = fetch(reuses, table=table, digest=OTHER)
    assert_vectors_of(embeddings, reuses, OTHERS)
    assert len(embeddings) == len(OTHERS)


def test_a_row_that_went_or_changed_since_gives_no_vector(table):
    right = Known(b"/0.jpg", "1-1.0", FIRST[0].info.sha256, 7, "AAAAAA==", 0.0)
    changed = dataclasses.replace(right, sha256="0" * 64)
    gone = dataclasses.replace(right, key=b"/none.jpg", sha256="1" * 64)
    reuses = renamed([changed, right, gone])
    embeddings, failures = fetch(reuses, table=table)
    assert list(embeddings) == [b"/new-1"]
    assert_embedded_anew(failures[b"/new-0"], "the row of '/0.jpg' is gone")
    assert_embedded_anew(failures[b"/new-2"], "the row of '/none.jpg' is gone")


@PATTERNS
def test_what_failed_in_a_way_that_may_pass_by_the_table(table, patterns, expected):
    assert read_retryable(None, patterns, table) == [ImageRef(key, "", -1) for key in sorted(expected)]
