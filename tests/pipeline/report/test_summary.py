"""pipeline.report.summary: the counts, the speed and its limit, and where the results are."""

import ast
import dataclasses
import textwrap

import pytest

from pipeline.report.summary import summary
from tests.helpers.reporting import COUNTED, compose, configured
from transforms.elements import one_line


def test_a_run_that_skipped_everything_says_where_the_vectors_are(model):
    counted = dict.fromkeys(COUNTED, 0) | {"listed": 9, "skipped": 9}
    text = summary(compose(model, counted=counted, failures={}), configured())
    assert text.startswith("9 images listed = 0 embedded + 0 failed + 9 skipped\n")
    assert "their vectors are in" in text and "/embeddings/*/part-*\n" in text
    assert "(0 files)" in text and "Read them:" not in text and "failed  " not in text


@pytest.mark.parametrize(("spread", "is_warned"), [(None, False), (0.98, False), (0.981, True), ("0.99", False)])
def test_vectors_that_hardly_differ(model, spread, is_warned):
    text = summary(compose(dataclasses.replace(model, spread=spread)), configured())
    assert ("warning   vectors of different photographs hardly differ: median cosine 0.981\n" in text) == is_warned


FILES = (
    "/embeddings/r/part-*.tfrecord (2 files)",
    "/runs/r.json",
    "page      /out/runs/r.html",
    "/failures/r/part-*.jsonl",
    "tf.data.TFRecordDataset",
)
TABLE = ("table     p1.d.t, 5 rows pruned; failures in …_failures, this report in …_runs",)


@pytest.mark.parametrize(
    ("flags", "lines", "others"),
    [
        (("--input=x", "--output=/out"), FILES, TABLE),
        (("--input=x", "--output_table=p1:d.t"), TABLE, FILES),
        (("--input=x", "--output=/out", "--output_table=p1:d.t"), FILES + TABLE, ()),
    ],
    ids=["files", "table", "both"],
)
def test_summary_shows_counts_speed_limit_model_failures_and_places(model, flags, lines, others):
    counted = {} if "--output=/out" in flags else {"shards": 0}
    report = dataclasses.replace(compose(model, *flags, counted=counted), files={"runs/r.html": "0" * 64})
    text = summary(report, configured(*flags))
    for expected in (
        "20 images listed = 7 embedded + 3 failed + 4 reused + 3 duplicate + 3 skipped",
        "2.0 images/s, 3.5 s until all was written\n  limit     embed-bound: 75% of",
        f"efficientnet_lite0, 1280 dimensions from 224x224 pixels, digest {model.digest}\n",
        "2 × CorruptImage in the stage decode",
        "1 × OSError in the stage read",
        *lines,
    ):
        assert expected in text
    assert not [other for other in others if other in text]


def test_a_page_that_could_not_be_written_is_said(model):
    flags = "--output=/out", "--input", "a b", "--overwrite", "--no_resume", "true"
    report = dataclasses.replace(compose(model, *flags), page_error="no room")
    text = summary(report, dataclasses.replace(configured(*flags), argv=flags))
    command = "python run_pipeline.py --output=/out --input 'a b' --run_id r"
    assert f"  warning   no page, no room; this makes it: {command}\n" in text and "page  " not in text


def test_what_a_stored_report_says_is_shown_without_what_a_terminal_would_obey(model):
    report = dataclasses.replace(compose(model), verdict="read\x1b[2Jing", failures={"read\x07": {"A\u202eB": 1}})
    text = summary(report, configured())
    assert r"  limit     read\x1b[2Jing" in text and r"1 × A\u202eB in the stage read\x07" in text


def test_the_time_that_the_user_waited(model):
    text = summary(compose(model), configured(), 7.0)
    assert "1.0 images/s, 7.0 s in all\n" in text  # seven images, of the report's 3.5 seconds


def test_a_page_that_the_run_did_not_write_is_not_named(model):
    assert "page" not in summary(compose(model, "--output=/out"), configured("--output=/out"))


def test_with_a_table_the_vectors_of_skipped_images_are_in_it(model):
    flags = "--input=x", "--output=/out", "--output_table=p1:d.t"
    assert "their vectors are in" not in summary(compose(model, *flags), configured(*flags))


def test_vectors_of_earlier_attempts(model):
    assert "attempts" not in summary(compose(model), configured())
    origins = {("20260101T020304.005Z", "embedded"): 3, ("20260102T030405.006Z", "reused"): 2}
    text = summary(compose(model, origins=origins), configured())
    assert "  attempts  5 vectors from earlier attempts at this run, 9 from the last\n" in text


HOSTILE = ["a\x1b\x07", "\u202egpj", "a\nb", "a\\nb", "a\"b'", "\u3164\u2800\ufe0f"]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
@pytest.mark.parametrize("output_format", ["tfrecord", "parquet"])
def test_a_hostile_name_is_seen_as_it_is_and_its_files_are_read(model, name, output_format):
    report = compose(dataclasses.replace(model, name=name), f"--output=/out/{name}")
    report = dataclasses.replace(report, output_formats=[output_format])
    text = summary(report, configured(f"--output=/out/{name}"))
    assert one_line.is_seen(text.replace("\n", "")) and f"model     {one_line.name(name)}, " in text
    assert f"  report    /out/{one_line.name(name)}/runs/r.json\n" in text
    _, _, code = text.partition("Read them:\n\n")
    literals = [node.value for node in ast.walk(ast.parse(textwrap.dedent(code))) if isinstance(node, ast.Constant)]
    pattern = name.replace("\\", r"\\") if output_format == "tfrecord" else name
    assert any(str(literal).startswith(f"/out/{pattern}/embeddings/r") for literal in literals)


def test_what_was_left_out_is_said_in_a_line_each(model):
    assert "left out" not in summary(compose(model), configured())
    left_out = {("hidden", "._*"): 2, ("other", ".txt"): 3}
    lines = summary(compose(model, "--input=gs://b/p/", "--output=o", left_out=left_out), configured()).splitlines()
    assert "  left out  2 hidden files (._* 2); --include_hidden takes hidden files too" in lines
    assert "  left out  3 other files (.txt 3), no images by name; --input 'gs://b/p/**.txt' takes .txt" in lines


@pytest.mark.parametrize(
    ("top", "is_read"), [("/out", True), ("gs://b/out", True), ("s3://b/out", False), ("az://b/out", False)]
)
def test_what_tensorflow_reads_in_place_is_said(model, top, is_read):
    text = summary(compose(model, f"--output={top}"), configured(f"--output={top}"))
    assert ("copy the files to a disk first" in text) != is_read and f'"{top}/embeddings/r/part-' in text
