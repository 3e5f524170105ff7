"""What is searched for: a stored vector, or an image that the model of the run embeds."""

import dataclasses
import os

import numpy as np
import pytest

from pipeline.commands.search import query
from pipeline.known import vector_shards
from tests.helpers import outputs


def test_the_last_vector_of_a_key(tmp_path):
    for number, seed in enumerate((1, 2)):
        outputs.write_run(tmp_path, [outputs.embedding(b"a", seed)], run_id=f"{number}")
    shards = vector_shards.paths(str(tmp_path))
    key, vector = query.stored(shards, vector_shards.digest(shards), "a")
    assert key == b"a"
    np.testing.assert_array_equal(vector, outputs.embedding(b"a", 2).vector)


def test_a_key_that_no_file_has(tmp_path):
    outputs.write_run(tmp_path, [outputs.embedding(b"a", 1)])
    shards = vector_shards.paths(str(tmp_path))
    with pytest.raises(ValueError, match="--key 'b': no image of this key"):
        query.stored(shards, vector_shards.digest(shards), "b")


def test_the_key_as_it_was_listed_comes_before_a_relative_path_and_before_escapes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exact, relative, escaped = rb"caf\xe9", os.fsencode(tmp_path) + rb"/caf\xe9", b"caf\xe9"
    for number, key in enumerate((exact, relative, escaped)):
        outputs.write_run(tmp_path, [outputs.embedding(key, number)], run_id=f"{number}")
    shards = vector_shards.paths(str(tmp_path))
    for number, expected in enumerate((exact, relative, escaped)):
        key, vector = query.stored(shards[number:], outputs.MODEL.digest, r"caf\xe9")
        assert key == expected
        np.testing.assert_array_equal(vector, outputs.embedding(key, number).vector)


def test_a_run_without_a_report_does_not_tell_its_model(tmp_path):
    outputs.write_run(tmp_path, [outputs.embedding(b"a", 1)])
    (tmp_path / "runs" / "r.json").unlink()
    shards = vector_shards.paths(str(tmp_path))
    with pytest.raises(ValueError, match=r"expected the report of its run, '.*/runs/r\.json', which tells the model"):
        query.embedder(shards, outputs.MODEL.digest)


@pytest.mark.parametrize(
    ("handle", "advice"),
    [
        (None, ": give its place as --model HANDLE"),
        ("/models/my tiny", ": give its place as --model HANDLE"),
        ("/models/other", "; the run had it by --model '/models/my tiny'"),
    ],
)
def test_a_model_that_is_gone(tmp_path, handle, advice):
    model = dataclasses.replace(outputs.MODEL, location="/models/my tiny")
    outputs.write_run(tmp_path, [outputs.embedding(b"a", 1)], model=model)
    shards = vector_shards.paths(str(tmp_path))
    with pytest.raises(ValueError, match="no such directory") as refused:
        query.embedder(shards, model.digest, handle)
    assert str(refused.value).endswith(f"; the model of the vectors has the digest {model.digest}{advice}")


def test_the_model_is_that_of_the_last_run(tmp_path):
    for run_id, model in (("0", outputs.MODEL), ("1", dataclasses.replace(outputs.MODEL, location="/models/moved"))):
        outputs.write_run(tmp_path, [outputs.embedding(b"a", 1)], run_id=run_id, model=model)
    shards = vector_shards.paths(str(tmp_path))
    with pytest.raises(ValueError, match="'/models/moved'"):
        query.embedder(shards, outputs.MODEL.digest)


def test_an_image_that_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match=r"--image '.*/no\.jpg' cannot be read: "):
        query.read(str(tmp_path / "no.jpg"))
