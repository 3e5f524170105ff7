import json
import os
import subprocess
import sys

import pytest

from pipeline.commands.export import vertex_files
from pipeline.commands.export.send import main
from tests.helpers import outputs
from tests.helpers.exports import MODEL, OTHER, embedding, export, write_run
from tests.helpers.running import ROOT


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--to", "pgvector", "--destination", "x"], "--destination is for --to lance and vertex"),
        (["--to", "lance"], "--to lance: expected --destination DIR"),
        (["--to", "vertex"], "--to vertex: expected --destination DIR"),
        (["--to", "lance", "--destination", "x", "--table", "y"], "--table is for --to pgvector"),
        (["--to", "vertex", "--destination", "x", "--dsn", "y"], "--dsn is for --to pgvector"),
        (["--to", "elsewhere"], "invalid choice: 'elsewhere'"),
        (["--destination", "x"], "required: --to"),
        (["--to", "pgvector", "--max_deleted", "50%"], "--max_deleted: expected a number from 0 to 1"),
        (["--to", "pgvector", "--table", ""], "--table '': expected NAME or SCHEMA.NAME"),
        (["--to", "pgvector", "--table", "."], "--table '.': expected NAME or SCHEMA.NAME"),
        (["--to", "pgvector", "--table", "a" * 64], "of 1 to 63 bytes each"),
        (["--to", "pgvector", "--table", "é" * 32], "of 1 to 63 bytes each"),
        (["--to", "vertex", "--destination", __file__], "is no directory: expected a directory, or a new name"),
        (["--to", "lance", "--destination", f"{__file__}/x"], "is no directory: expected a directory, or a new name"),
    ],
    ids=[
        *("no table", "no dataset", "no directory", "table", "dsn", "target", "no target", "part", "empty table"),
        *("empty names", "long name", "name of many bytes", "file", "below a file"),
    ],
)
def test_flags_that_do_not_go_together(capfd, flags, message):
    assert main(["--embeddings", "/nowhere", *flags]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("export: ") and message in line


def test_a_link_to_nothing_is_no_destination(tmp_path, capfd):
    (tmp_path / "search").symlink_to("gone")
    assert export("/nowhere", "vertex", "--destination", tmp_path / "search") == 2
    assert "search is no directory: expected a directory, or a new name" in capfd.readouterr().err


def test_the_name_of_a_destination_commands_no_terminal(tmp_path, capfd):
    write_run(tmp_path, "a", range(3))
    assert export(tmp_path, "vertex", "--destination", tmp_path / "\x1b[2J") == 0
    assert r"\x1b[2J: 3 new" in capfd.readouterr().out


def test_a_directory_without_vectors_is_refused(tmp_path, capfd):
    assert export(tmp_path, "vertex", "--destination", tmp_path / "search") == 2
    assert "expected at least one" in capfd.readouterr().err


def test_vectors_of_several_models_need_a_choice(tmp_path, capfd):
    write_run(tmp_path, "a", range(20))
    write_run(tmp_path, "b", range(20, 25), OTHER)
    destination = tmp_path / "search"
    assert export(tmp_path, "vertex", "--destination", destination) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert f"{MODEL.digest} and {OTHER.digest}: choose one by --model_digest" in line
    assert export(tmp_path, "vertex", "--destination", destination, "--model_digest", OTHER.digest) == 0
    assert "5 vectors in the runs" in capfd.readouterr().out


def test_a_model_without_vectors_is_refused(tmp_path, capfd):
    write_run(tmp_path, "a", range(20))
    assert export(tmp_path, "vertex", "--destination", tmp_path / "search", "--model_digest", "f" * 64) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert f"no vectors of --model_digest {'f' * 64}, only of {MODEL.digest}" in line


def test_a_later_run_with_the_same_bytes_sends_nothing(tmp_path, capfd):
    write_run(tmp_path, "a", range(20))
    export(tmp_path, "vertex", "--destination", tmp_path / "search")
    write_run(tmp_path, "b", range(20))
    assert export(tmp_path, "vertex", "--destination", tmp_path / "search") == 0
    assert "20 vectors in the runs" in (out := capfd.readouterr().out) and "nothing to send" in out


def test_images_that_no_longer_exist_are_deleted(tmp_path, capfd):
    photos = tmp_path / "photos"
    photos.mkdir()
    names = ("a.jpg", "gone.jpg", "moved/a.jpg", "moved/deep/b.jpg", "linked.jpg")
    keys = [f"{photos}/{name}" for name in names] + [f"{tmp_path}/elsewhere/gone.jpg"]
    (photos / "a.jpg").write_bytes(b"a")
    for name in ("moved", "linked.jpg"):
        (photos / name).symlink_to(tmp_path / "unmounted" / name)
    images = [outputs.embedding(key.encode(), i) for i, key in enumerate(keys)]
    images.append(outputs.embedding(bytes(photos / "own.jpg"), 9, in_shard=b"/s.tfrecord"))
    outputs.write_run(tmp_path / "out", images)
    flags = ["--destination", tmp_path / "search"]
    export(tmp_path / "out", "vertex", *flags)
    assert export(tmp_path / "out", "vertex", *flags, "--prune", photos) == 0
    out, err = capfd.readouterr()
    assert "0 new, 0 replaced, 1 deleted" in out
    assert f"3 rows are not pruned: their images may be where nothing could be listed: {photos}/linked.jpg, " in err
    assert "1 rows are not pruned: their records do not say that the image was a file" in err
    assert (tmp_path / "search" / "batches" / "00002" / "delete" / "part-00000.txt").read_text() == f"{keys[1]}\n"


def test_names_that_need_escapes_are_pruned_by_the_pattern(tmp_path, capfd):
    photos = tmp_path / "caf\udce9\n"
    photos.mkdir()
    (photos / "a\nb.jpg").write_bytes(b"a")
    names = [os.fsencode(photos) + b"/" + name for name in (b"a\nb.jpg", rb"a\x0ab.jpg")]
    outputs.write_run(tmp_path / "out", [outputs.embedding(key, i) for i, key in enumerate(names)])
    flags = ["--destination", tmp_path / "search"]
    assert export(tmp_path / "out", "vertex", *flags) == 0
    assert "2 new" in capfd.readouterr().out
    assert export(tmp_path / "out", "vertex", *flags, "--prune", photos) == 0
    assert "0 new, 0 replaced, 1 deleted" in capfd.readouterr().out


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


def test_a_pattern_without_images_deletes_nothing(tmp_path, capfd):
    write_run(tmp_path, "a", range(20))
    flags = ["--destination", tmp_path / "search"]
    for pattern, problem in ((tmp_path / "missing" / "*.jpg", "matches nothing"), ("file:///x", "cannot be listed")):
        assert export(tmp_path, "vertex", *flags, "--prune", pattern) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith(f"export: --prune '{pattern}' {problem}")


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


def test_why_a_target_failed_is_told_at_length_to_those_who_ask(tmp_path, capfd, monkeypatch):
    def fail(*_):
        raise OSError("the bucket is gone")

    write_run(tmp_path, "a", range(20))
    monkeypatch.setattr(vertex_files.VertexFiles, "prepare", fail)
    assert export(tmp_path, "vertex", "--destination", tmp_path / "search", "--verbose") == 1
    shown = capfd.readouterr()
    assert shown.out.endswith("search: the bucket is gone; the same command goes on\n")
    assert "Traceback" in shown.err and "in fail" in shown.err


@pytest.mark.slow
@pytest.mark.parametrize("to", ["pgvector", "lance"])
def test_a_missing_client_is_named(tmp_path, to):
    write_run(tmp_path, "a", range(20))
    code = "import sys; sys.modules.update(psycopg=None, lance=None); "
    code += "from pipeline.commands.export.send import main; sys.exit(main(sys.argv[1:]))"
    flags = ["--embeddings", tmp_path, "--to", to, *(["--destination", tmp_path / "x"] if to == "lance" else [])]
    done = subprocess.run([sys.executable, "-c", code, *flags], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"pip install '.[{to}]'" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_the_help_needs_no_client_and_no_beam():
    code = (
        "import sys; from pipeline.commands.export.send import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    )
    code += "print([name for name in ('apache_beam', 'psycopg', 'lance', 'pyarrow') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "[SCHEMA.]NAME" in done.stdout
