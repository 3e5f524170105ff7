"""pipeline.report.unlisted: what was left out, and the flag that takes it."""

import pytest

from pipeline.report import unlisted


@pytest.mark.parametrize(
    ("left_out", "inputs", "expected"),
    [
        ({}, ["/p/**"], []),
        (
            {"hidden": {"._*": 1}},
            ["/p/**"],
            ["1 hidden file (._* 1); --include_hidden takes hidden files too"],
        ),
        (
            {"other": {".txt": 1, ".json": 2}},
            ["/p/**.jpg", "/p/x/*"],
            ["3 other files (.json 2, .txt 1), no images by name; --input '/p/x/*.json' takes .json"],
        ),
        (
            {"other": {".txt": 1}},
            ["/p/a", "/p/**.jpg", "/p/**"],
            ["1 other file (.txt 1), no images by name; --input '/p/**.txt' takes .txt"],
        ),
        (
            {"other": {"README": 1}},
            ["/p/**"],
            ["1 other file (README 1), no images by name; --input '/p/**README' takes README"],
        ),
        (
            {"other": {".txt": 1}},
            ["gs://b/ds"],
            ["1 other file (.txt 1), no images by name; --input 'gs://b/ds/**.txt' takes .txt"],
        ),
        (
            {"beside": {".JPG": 1, ".jpeg": 1, ".png": 1}},
            ["/my photos/**.jpg"],
            ["3 files beside the matches look like images: .JPG 1, .jpeg 1, .png 1; --input '/my photos' takes all"],
        ),
        (
            {"other": {".txt": 1}},
            ["gs://b/ds/"],
            ["1 other file (.txt 1), no images by name; --input 'gs://b/ds/**.txt' takes .txt"],
        ),
        (
            {"beside": {".png": 2}},
            ["/p/**.jpg"],
            ["2 files beside the matches look like images: .png 2; --input /p takes all"],
        ),
        (
            {"beside": {".JPG": 1}},
            ["/a/*", "/p/*/x?.jpg"],
            ["1 file beside the matches looks like an image: .JPG 1; --input '/p/*/x?.*' takes all"],
        ),
        (
            {"other": {f".x{number}": 10 - number for number in range(7)}},
            ["/p/**"],
            [
                "49 other files (.x0 10, .x1 9, .x2 8, .x3 7, .x4 6, 9 of other kinds), no images by name; "
                "--input '/p/**.x0' takes .x0"
            ],
        ),
    ],
)
def test_a_line_for_each_reason(left_out, inputs, expected):
    assert list(unlisted.lines(left_out, inputs)) == expected


def test_members_of_shards_that_no_flag_takes():
    lines = unlisted.lines({"other": {".txt": 1, ".json": 2}}, ["/p/**"], "tar")
    assert list(lines) == ["3 other files beside or in shards (.json 2, .txt 1), no shards or images by name"]
    lines = unlisted.lines({"other": {".md": 1}}, ["/p/**"], "list")
    assert list(lines) == ["1 other file (.md 1), no lists by name; --input '/p/**.md' takes .md"]
