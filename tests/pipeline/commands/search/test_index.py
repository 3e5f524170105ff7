"""The index: rows, keys and neighbours, with the last vector of each key."""

import numpy as np
import pytest

from pipeline.commands.search.index import Index
from pipeline.known import vector_shards
from tests.helpers import outputs


def _index(tmp_path, *runs):
    for number, embeddings in enumerate(runs):
        outputs.write_run(tmp_path, embeddings, run_id=f"{number}", shards=2)
    return Index(vector_shards.paths(str(tmp_path)))


def test_each_key_has_a_row_with_its_vector(tmp_path):
    embeddings = [outputs.embedding(b"key %d" % number, number) for number in range(9)]
    index = _index(tmp_path, embeddings)
    vectors = {index.key(row): index.vector(row) for row in index.sample(100)}
    assert len(index) == len(vectors) == 9
    for embedding in embeddings:
        np.testing.assert_array_equal(vectors[embedding.info.ref.key], embedding.vector)


def test_of_a_key_that_comes_again_the_last_vector_counts(tmp_path):
    earlier = [outputs.embedding(b"a", 1), outputs.embedding(b"b", 2)]
    index = _index(tmp_path, earlier, [outputs.embedding(b"a", 3)])
    assert len(index) == 2
    neighbours = index.nearest(outputs.embedding(b"", 1).vector, 60)
    assert sorted(index.key(each.key) for each in neighbours) == [b"a", b"b"]
    cosines = {index.key(each.key): each.cosine for each in neighbours}
    one, other = outputs.embedding(b"", 1).vector, outputs.embedding(b"", 3).vector
    assert cosines[b"a"] == pytest.approx(one @ other / np.linalg.norm(one) / np.linalg.norm(other), abs=1e-6)


def test_of_a_key_that_comes_twice_in_a_row_the_last_vector_counts(tmp_path):
    embeddings = [outputs.embedding(b"a", 1), outputs.embedding(b"a", 2), outputs.embedding(b"b", 3)]
    outputs.write_run(tmp_path, embeddings)
    index = Index(vector_shards.paths(str(tmp_path)))
    assert sorted(index.sample(9)) == [1, 2]


def test_no_two_of_many_keys_count_as_one(tmp_path):
    outputs.write_run(tmp_path, [outputs.embedding(b"%d" % number, number) for number in range(3_000)])
    assert len(Index(vector_shards.paths(str(tmp_path)))) == 3_000


def test_the_record_of_a_row_tells_whether_it_was_a_file(tmp_path):
    index = _index(tmp_path, [outputs.embedding(b"file", 1), outputs.embedding(b"member", 2, in_shard=b"shard")])
    assert {index.key(row): index.is_file(row) for row in index.sample(9)} == {b"file": True, b"member": False}


def test_a_sample_has_as_many_rows_as_asked_for_and_is_the_same_again(tmp_path):
    index = _index(tmp_path, [outputs.embedding(b"key %d" % number, number) for number in range(20)])
    assert len(set(index.sample(7))) == 7 and index.sample(7) == index.sample(7)


@pytest.mark.parametrize("row", [-1, 2, 10**18])
def test_no_such_row(tmp_path, row):
    index = _index(tmp_path, [outputs.embedding(b"a", 1), outputs.embedding(b"b", 2)])
    with pytest.raises(IndexError, match=f"no row {row}"):
        index.key(row)
    with pytest.raises(IndexError, match=f"no row {row}"):
        index.is_file(row)


def test_vectors_of_another_model_are_refused(tmp_path):
    outputs.write_run(tmp_path, [outputs.embedding(b"a", 1)], run_id="0")
    other = outputs.MODEL.__class__(**{**vars(outputs.MODEL), "digest": "e" * 64})
    outputs.write_run(tmp_path, [outputs.embedding(b"b", 2)], run_id="1", model=other)
    with pytest.raises(ValueError, match="the two cannot be compared: give --embeddings the directory of one run"):
        Index(vector_shards.paths(str(tmp_path)))
