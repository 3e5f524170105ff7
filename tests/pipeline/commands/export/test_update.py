"""pipeline.commands.export.update: only what a target lacks is sent, and what it cannot take is left out."""

import json

import pytest

from tests.helpers import outputs
from tests.helpers.exports import MODEL, embedding, export, write_run


def test_a_later_run_with_the_same_bytes_sends_nothing(tmp_path, capfd):
    write_run(tmp_path, "a", range(20))
    export(tmp_path, "vertex", "--destination", tmp_path / "search")
    write_run(tmp_path, "b", range(20))
    assert export(tmp_path, "vertex", "--destination", tmp_path / "search") == 0
    assert "20 vectors in the runs" in (out := capfd.readouterr().out) and "nothing to send" in out


def test_the_directory_of_one_run_does_not_delete_the_rows_of_the_others(tmp_path, capfd):
    write_run(tmp_path, "a", range(20))
    write_run(tmp_path, "b", range(20, 25))
    flags = ["--destination", tmp_path / "search"]
    export(tmp_path, "vertex", *flags)
    one = tmp_path / "embeddings" / "b"
    assert export(one, "vertex", *flags) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "20 of the 25 rows" in line and "--max_deleted 0.5" in line
    assert not (tmp_path / "search" / "batches" / "00002").exists()
    assert export(one, "vertex", *flags, "--max_deleted", 1) == 0
    assert "20 deleted" in capfd.readouterr().out


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_vector_that_is_not_finite_is_left_out(tmp_path, capfd, value):
    def write(run_id, numbers, broken):
        embeddings = [embedding(number) for number in numbers]
        for each in embeddings[:broken]:
            each.vector[3] = value
        outputs.write_run(tmp_path, embeddings, run_id=run_id, model=MODEL)

    flags = ["--destination", tmp_path / "search"]
    write("a", range(3), 3)
    assert export(tmp_path, "vertex", *flags) == 1
    assert "0 new, 0 replaced, 0 deleted, 3 left out" not in (out := capfd.readouterr().out)
    assert "nothing to send, 3 left out" in out
    write("b", range(3, 20), 12)
    for said in ("5 new, 0 replaced, 0 deleted, 15 left out", "nothing to send, 15 left out"):
        assert export(tmp_path, "vertex", *flags) == 0
        out = capfd.readouterr().out
        assert f"20 vectors in the runs → {tmp_path}/search: {said}" in out
        assert out.count("jpg: its vector is not finite") == 10 and out.endswith("  left out  5 more\n")
    ids = [json.loads(line)["id"] for line in (tmp_path / "search/batches/00001/part-00000.json").open()]
    assert ids == [embedding(number).info.ref.key.decode() for number in range(15, 20)]
