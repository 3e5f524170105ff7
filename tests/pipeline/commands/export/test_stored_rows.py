"""The rows in files of vectors."""

from pathlib import Path

import pytest

from pipeline.commands.export import stored_rows
from pipeline.commands.export.target import Model, Place
from pipeline.known import vector_shards
from tests.helpers.exports import DIMENSION, MODEL, OTHER, embedding, write_run

SIZED = Model(MODEL.digest, DIMENSION)


def test_a_broken_file_is_named(tmp_path):
    write_run(tmp_path, "a", range(2))
    (path,) = vector_shards.paths(str(tmp_path))
    Path(path).write_bytes(Path(path).read_bytes()[:-5])
    with pytest.raises(ValueError, match=f"{path}: .*move it away"):
        list(stored_rows.identities(path))


def test_rows_of_several_files(tmp_path):
    write_run(tmp_path, "a", range(3))
    write_run(tmp_path, "b", range(3, 5))
    shards = vector_shards.paths(str(tmp_path))
    places = [
        Place(f"key {file} {place}", file, place)
        for file, path in enumerate(shards)
        for place, _ in stored_rows.identities(path)
    ]
    rows = list(stored_rows.rows(shards, places[1:], SIZED))
    assert [row.info for row in rows] == [embedding(i).info for i in range(1, 5)]
    assert [row.key for row in rows] == [place.key for place in places[1:]]
    assert [row.vector.tolist() for row in rows] == [embedding(i).vector.tolist() for i in range(1, 5)]


def test_a_file_that_was_replaced_is_an_error(tmp_path):
    write_run(tmp_path, "a", range(3))
    shards = vector_shards.paths(str(tmp_path))
    write_run(tmp_path, "a", range(3), OTHER)
    with pytest.raises(ValueError, match="was the file replaced meanwhile"):
        list(stored_rows.rows(shards, [Place("key", 0, 0)], SIZED))


def test_a_vector_of_another_length_is_an_error(tmp_path):
    write_run(tmp_path, "a", range(3))
    with pytest.raises(ValueError, match=f"has {DIMENSION} dimensions and .*: expected {DIMENSION + 1} and"):
        list(stored_rows.rows(vector_shards.paths(str(tmp_path)), [Place("key", 0, 0)], Model(MODEL.digest, 17)))


def test_the_dimension_is_that_of_a_vector(tmp_path):
    write_run(tmp_path, "a", range(3))
    (path,) = vector_shards.paths(str(tmp_path))
    assert stored_rows.dimension(path, 0) == DIMENSION
    with pytest.raises(ValueError, match=path):
        stored_rows.dimension(path, 1)
