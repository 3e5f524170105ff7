"""pipeline.known.fetch_vectors: vectors of earlier runs, and no wrong one when a file or a row has changed since."""

import dataclasses
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from google.cloud import storage

from pipeline.known import fetch_vectors
from pipeline.known.fetch_vectors import FetchVectors
from tests.helpers import data_generation as data
from tests.helpers.collecting import collect
from tests.helpers.earlier_runs import (
    DIGEST,
    FIRST,
    MODEL,
    OTHER,
    OTHER_MODEL,
    OTHERS,
    ROWS,
    SECOND,
    embedding,
    make_table,
    read_ledger,
    write,
)
from transforms.elements import counters
from transforms.elements.records import ImageRef, Known, Reuse
from transforms.encoding import examples, parquet, record_files
from transforms.write_parquet import WriteParquet

pytestmark = pytest.mark.slow


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


def test_vectors_from_shards(output):
    known = read_ledger(output)
    reuses = renamed(known * 2)  # two copies of each
    embeddings, failures = fetch(reuses)
    assert len(embeddings) == 2 * len(FIRST + SECOND) and not failures
    assert_vectors_of(embeddings, reuses, FIRST + SECOND)


def test_vectors_from_parquet(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 1)
    write(tmp_path, "first", FIRST, write=WriteParquet)
    reuses = renamed(read_ledger(tmp_path) * 2)
    embeddings, failures = fetch(reuses)
    assert len(embeddings) == 2 * len(FIRST) and not failures
    assert_vectors_of(embeddings, reuses, FIRST)
    (shard,) = {reuse.known.shard for reuse in reuses}
    moved = [dataclasses.replace(reuse, known=dataclasses.replace(reuse.known, offset=0)) for reuse in reuses]
    embeddings, failures = fetch(moved)
    assert len(embeddings) == 2  # of the first row
    for failure in failures.values():
        assert_embedded_anew(failure, f"another record has taken its place (at 0 of {shard})")


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


def test_records_of_one_shard_in_several_batches(output, monkeypatch):
    monkeypatch.setattr(record_files, "_RECORDS_PER_DECODE", 3)
    reuses = renamed(read_ledger(output) * 2)
    embeddings, failures = fetch(reuses)
    assert len(embeddings) == 2 * len(FIRST + SECOND) and not failures
    assert_vectors_of(embeddings, reuses, FIRST + SECOND)


def test_shards_that_are_gone_from_a_bucket(cloud):
    storage.Client().create_bucket("fetch")
    write("gs://fetch/out", "first", FIRST)
    write("gs://fetch/out", "second", SECOND)
    reuses = renamed(read_ledger("gs://fetch/out"))
    for blob in storage.Client().list_blobs("fetch", prefix="out/embeddings/second/"):
        blob.delete()
    embeddings, failures = fetch(reuses)
    assert len(failures) == len(SECOND)
    for failure in failures.values():
        assert_embedded_anew(failure, "gs://fetch/out/embeddings/second/part-")
    assert_vectors_of(embeddings, reuses, FIRST)


@pytest.fixture(scope="module")
def table(cloud):
    """A table with rows of two models."""
    return make_table("fetch")


def test_vectors_from_the_table(table, monkeypatch):
    monkeypatch.setattr(fetch_vectors, "_VECTORS_PER_QUERY", 5)
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
