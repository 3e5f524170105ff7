import subprocess
import sys

import pytest

from pipeline.commands.export import vertex_files
from pipeline.commands.export.send import main
from tests.helpers.exports import export, write_run
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
