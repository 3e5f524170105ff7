"""transforms.failures: one JSON line a failure, keys without loss."""

import json
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline

from tests.helpers.collecting import collect
from transforms import failures
from transforms.elements import counters
from transforms.elements.records import Failure
from transforms.failures import GatherFailures, WriteFailures, of_json, to_json
from transforms.output.parts import Label


def test_each_failure_is_a_line_of_json(tmp_path):
    failed = [Failure(b"/%d.jpg" % i, "decode", "CorruptImage", 'with "quotes"\nand lines', False) for i in range(3)]
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        _ = pipeline | beam.Create(failed) | WriteFailures(str(tmp_path), "run")
    paths = list(Path(tmp_path, "failures", "run").glob("part-*.jsonl"))
    lines = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    assert sorted(lines, key=lambda line: line["key"]) == [
        {
            "key": f"/{i}.jpg",
            "stage": "decode",
            "error": "CorruptImage",
            "message": 'with "quotes"\nand lines',
            "retryable": False,
            "is_file": False,
            "run_id": "run",
        }
        for i in range(3)
    ]


def test_failures_of_all_stages_are_counted_once():
    of_stages = [
        [Failure(b"/%d.jpg" % i, stage, "E", "", False, is_file=True) for i in range(3)] for stage in ("read", "decode")
    ]

    def build(root):
        stages = tuple(root | f"Stage{i}" >> beam.Create(found) for i, found in enumerate([*of_stages, []]))
        return {"all": stages | GatherFailures()}

    found, counted = collect(build)
    assert sorted(found["all"], key=lambda f: (f.stage, f.key)) == of_stages[1] + of_stages[0]
    assert counted == {counters.IMAGES_FAILED: 6, "images_failed_read": 3, "images_failed_decode": 3}


def test_where_nothing_failed_there_is_no_file(tmp_path):
    collect(lambda root: root | beam.Create([]) | WriteFailures(str(tmp_path), "run"))
    assert not list(tmp_path.rglob("*.jsonl"))


def test_parts_of_failures_are_hashed_labelled_and_closed_in_time():
    labels = (Label("20261121T010203.456Z", "failed"),)
    parts = failures.write_parts("gs://b/out", "run", labels, 7.0)
    assert (parts.directory, parts.labels, parts.max_seconds) == ("gs://b/out/failures/run", labels, 7.0)
    assert parts.part_format.suffix == ".jsonl" and parts.part_format.is_hashed and parts.part_format.has_tail
    assert failures.write_parts("o", "run").max_seconds == 60.0  # a job that is killed loses no more than that


def test_before_failures_get_their_names_a_function_is_called(tmp_path):
    def refuse():
        raise OSError("the report stays")

    failure = Failure(b"/a.jpg", "read", "OSError", "", True)
    with pytest.raises(Exception, match="the report stays"):
        collect(lambda root: root | beam.Create([failure]) | WriteFailures(str(tmp_path), "run", refuse))
    assert not list(tmp_path.rglob("part-*"))


@pytest.mark.parametrize(("output", "run_id"), [("", "run"), ("out", "a/b"), ("out", "")])
def test_a_place_that_is_none_is_refused_at_construction(output, run_id):
    with pytest.raises(ValueError, match="^(output|run_id)="):
        WriteFailures(output, run_id)


def test_a_key_that_is_not_utf_8_comes_back():
    line = to_json(Failure(b"/caf\xe9.jpg", "read", "OSError", "", True), "run")
    assert line.isascii()
    assert json.loads(line)["key"].encode("utf-8", "surrogateescape") == b"/caf\xe9.jpg"
    assert of_json(f"{line}\n".encode()) == (b"/caf\xe9.jpg", True, False)


def test_a_failure_says_whether_its_key_is_that_of_a_file():
    failure = Failure(b"/a.jpg", "read", "OSError", "", True)
    for are_files in (True, False):
        gather = GatherFailures(are_files)
        found, _ = collect(lambda root, gather=gather: {"all": (root | beam.Create([failure]),) | gather})
        (gathered,) = found["all"]
        assert of_json(f"{to_json(gathered, 'run')}\n".encode()) == (b"/a.jpg", True, are_files)
    assert of_json(b'{"key": "/a.jpg", "retryable": true}\n') == (b"/a.jpg", True, False)
    assert of_json(b'{"key": "/a.jpg", "retryable": true, "is_file": "no"}\n') == (b"/a.jpg", True, False)


@pytest.mark.parametrize(
    "line",
    [
        *(b'{"retryable": true}\n', b'{"key": "/a.jpg"}\n', b'{"key": 7, "retryable": true}\n'),
        *(b'{"key": "/a.jpg", "retryable": "no"}\n', b'{"key": "/a.jpg", "retryable": true}'),
        *(b"[]\n", b"7\n", b"\n", b"[" * 100_000 + b"\n"),
    ],
)
def test_what_is_no_failure(line):
    with pytest.raises(ValueError, match="no failure|nested too deep|Expecting value"):
        of_json(line)
