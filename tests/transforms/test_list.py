"""transforms.list: every image once, and what cannot be listed."""

import os

import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to

from transforms.list import ListImages, uris_in
from transforms.records import FAILURES, SECONDS, ImageRef


def listed(patterns, input_format, expected_keys, expected_failures=()):
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        outputs = pipeline | ListImages(tuple(map(str, patterns)), input_format)
        keys = outputs["refs"] | "Keys" >> beam_map(lambda ref: ref.key)
        failed = outputs[FAILURES] | "Failed" >> beam_map(lambda failure: (failure.key, failure.error))
        stages = outputs[SECONDS] | "Stages" >> beam_map(lambda busy: (busy.stage, busy.seconds >= 0))
        assert_that(keys, equal_to([os.fsencode(key) for key in expected_keys]), label="keys")
        assert_that(failed, equal_to([(os.fsencode(key), error) for key, error in expected_failures]), label="failed")
        assert_that(stages, lambda found: all(busy == ("list", True) for busy in found) or found, label="seconds")


def beam_map(function):
    import apache_beam as beam

    return beam.Map(function)


def test_overlapping_patterns_list_each_image_once(tmp_path):
    for name in ("a.jpg", "b.jpg", "c.png", "sub/d.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    listed(
        [tmp_path / "*.jpg", tmp_path / "**"],
        "images",
        [tmp_path / n for n in ("a.jpg", "b.jpg", "c.png", "sub/d.jpg")],
    )


def test_names_that_are_not_utf_8(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9 [1].jpg"
    with open(name, "wb") as file:
        file.write(b"x")
    listed([tmp_path / "*"], "images", [name])


def test_version_changes_with_the_content(tmp_path):
    from transforms import storage

    path = tmp_path / "a"
    path.write_bytes(b"1")
    os.utime(path, (1, 1))
    versions = {storage.version(storage.metadata(str(path)))}
    os.utime(path, (2, 2))
    versions.add(storage.version(storage.metadata(str(path))))
    path.write_bytes(b"22")
    os.utime(path, (2, 2))
    versions.add(storage.version(storage.metadata(str(path))))
    assert versions == {"1-1.000000", "1-2.000000", "2-2.000000"}


def test_lists(tmp_path):
    (tmp_path / "1.txt").write_text("/x/a.jpg\n\n# a comment\ngs://b/b.jpg\nsub/c.jpg\n/x/a.jpg\n")
    (tmp_path / "2.csv").write_text('label,uri\ncat,"gs://b/with,comma.jpg"\ndog,\n')
    listed(
        [tmp_path / "*.txt", tmp_path / "*.csv"],
        "list",
        ["/x/a.jpg", "gs://b/b.jpg", tmp_path / "sub/c.jpg", "gs://b/with,comma.jpg"],
        [(f"{tmp_path}/2.csv#1", "ValueError")],
    )


def test_a_list_that_cannot_be_read(tmp_path):
    os.symlink(tmp_path, tmp_path / "list.txt")  # a directory: it is listed, and opening it fails
    listed([tmp_path / "list.txt"], "list", [], [(tmp_path / "list.txt", "IsADirectoryError")])


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["uri,label\n", "gs://b/1,cat\n"], ["gs://b/1"]),
        (["label, URI \n", "cat, gs://b/1\n"], ["gs://b/1"]),
        (["gs://b/1,cat\n", "gs://b/2,dog\n"], ["gs://b/1", "gs://b/2"]),
        (["x.jpg\n", "/y.jpg\n"], ["gs://lists/x.jpg", "/y.jpg"]),
        (["label,uri\n", "cat\n"], [""]),
    ],
    ids=["header", "header with space and case", "no header", "relative", "short row"],
)
def test_csv(lines, expected):
    assert list(uris_in(lines, "gs://lists/all.csv")) == expected


def test_a_line_of_text_is_one_uri_whatever_it_holds():
    assert list(uris_in(["gs://b/a, b.jpg\r\n", ' gs://b/"q".jpg \n'], "l.txt")) == [
        "gs://b/a, b.jpg",
        'gs://b/"q".jpg',
    ]


def test_refs_of_a_list_carry_no_version(tmp_path):
    (tmp_path / "l.txt").write_text("/x/a.jpg\n")
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        refs = (pipeline | ListImages((str(tmp_path / "l.txt"),), "list"))["refs"]
        assert_that(refs, equal_to([ImageRef(b"/x/a.jpg", "", -1)]))
