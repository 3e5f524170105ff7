"""attempts.leftovers: what a process was writing when it was killed, removed by a later run in the same output."""

import subprocess
import sys

import pytest
from google.cloud import storage

from pipeline.attempts import attempt, leftovers
from pipeline.flags import options
from tests.helpers.running import ROOT
from transforms.output import layout
from transforms.storage import files

HEX = "0123456789abcdef" * 2


def own(output):
    config, _ = options.parse(["--input=/photos/*.jpg", "--run_id=r", f"--output={output}"])
    return attempt.of(config)


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out"


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


def names(root):
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def unfinished(run_id):
    return {f"runs/.{run_id}.{suffix}.{HEX}" for suffix in ("json", "html", "statistics")}


def test_reports_and_pages_of_runs_that_nobody_is_at(output):
    left = (
        unfinished("r")
        | unfinished("complete")
        | unfinished("with.dots.json")
        | unfinished("new\nline")
        | unfinished("at work")
    )
    stays = {
        f"runs/{name}"
        for name in ("r.unfinished", "at work.unfinished", "r.json", ".hidden", f".r.txt.{HEX}", f".r.json.{HEX}0")
    }
    for name in left | stays:
        write(output / name)
    leftovers.remove(own(output))
    assert names(output) == stays | unfinished("at work")


@pytest.mark.parametrize("is_other", [True, False], ids=["other claim", "own claim"])
def test_a_schema_may_be_of_any_run_with_a_claim(output, is_other):
    write(output / "runs" / "r.unfinished")
    if is_other:
        write(output / "runs" / "other.unfinished")
    schemas = [write(output / name) for name in ("schema.pbtxt", ".own", f".schema.pbtxt.{HEX}")]
    leftovers.remove(own(output))
    assert [path.exists() for path in schemas] == [True, True, is_other]


def test_what_a_run_writes_that_begins_during_the_look_stays(output, monkeypatch):
    match = files.match

    def begin_then(pattern):
        found = match(pattern)
        for name in ("runs/new.unfinished", f"runs/.new.json.{HEX}", f".schema.pbtxt.{HEX}"):
            write(output / name)
        return found

    write(output / "runs" / "r.unfinished")
    monkeypatch.setattr(files, "match", begin_then)
    leftovers.remove(own(output))
    assert {f"runs/.new.json.{HEX}", f".schema.pbtxt.{HEX}"} <= names(output)


def test_trials_of_earlier_versions(output):
    for name in (f".trial-{HEX}", f"..trial-{HEX}.{HEX}", ".trial-mine"):
        write(output / name)
    leftovers.remove(own(output))
    assert names(output) == {".trial-mine"}


def test_an_output_that_is_not_there(output):
    leftovers.remove(own(output))
    assert not output.exists()


def test_what_cannot_be_removed_does_not_stop_a_run(output, monkeypatch, caplog):
    def refuse(path):
        raise PermissionError(f"not {path}\nfor you")

    write(output / "runs" / f".r.json.{HEX}")
    monkeypatch.setattr(files, "remove_file", refuse)
    leftovers.remove(own(output))
    assert caplog.messages == [f"leftovers in {output} could not be removed: not {output}/runs/.r.json.{HEX}"]


# Writes a page until it is killed, and waits for that before it gets its name.
WRITE = """
import sys
from transforms.storage import files
files.publish = lambda part, path: print("written", flush=True) or input()
files.write(sys.argv[1], b"page")
"""


@pytest.mark.slow
def test_a_page_that_was_being_written_when_its_process_was_killed(output):
    (output / "runs").mkdir(parents=True)
    argv = [sys.executable, "-c", WRITE, layout.page(str(output), "r")]
    process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "written\n"
    process.kill()
    process.communicate()
    assert len(names(output)) == 1
    leftovers.remove(own(output))
    assert names(output) == set()


def test_in_a_bucket(cloud):
    bucket = storage.Client().create_bucket("leftovers")
    left = f"out/runs/.r.json.{HEX}", f"out/.schema.pbtxt.{HEX}", f"out/.trial-{HEX}"
    stays = "out/runs/r.json", "out/runs/r.unfinished", f"out/embeddings/.r.json.{HEX}", f"other/.trial-{HEX}"
    for name in left + stays:
        bucket.blob(name).upload_from_string("")
    leftovers.remove(own("gs://leftovers/out"))
    assert {blob.name for blob in bucket.list_blobs()} == set(stays)
