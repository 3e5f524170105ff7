"""pipeline.flags.flag_types: what the text of a flag means; the wrong ones that a user meets are in test_options.py."""

import argparse
import math
from pathlib import Path

import pytest

from pipeline.flags import flag_types
from tests.helpers.unprivileged import open_directory, unprivileged


@pytest.mark.parametrize("text", ["0", "00", "-1", "+1", "1.0", "1e3", " 1", ""])
def test_positive_takes_digits_alone(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected a whole number from 1"):
        flag_types.positive(text)


def test_positive():
    assert [flag_types.positive(text) for text in ("1", "007", "1000000")] == [1, 7, 1_000_000]


def test_an_image_size_is_height_by_width():
    assert flag_types.image_size("300x200") == (300, 200)
    assert flag_types.image_size("99999x1") == (99_999, 1)


@pytest.mark.parametrize("text", ["300", "300x", "x200", "300X200", "300x200x3", "0x200", "300x0", "100000x1", "-3x4"])
def test_an_image_size_that_is_none(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected HEIGHTxWIDTH in pixels"):
        flag_types.image_size(text)


def test_a_number_that_is_none_lies_in_no_range():
    assert [flag_types.number(text) for text in ("0.25", "1e-3", "-2", "inf")] == [0.25, 0.001, -2.0, math.inf]
    assert math.isnan(flag_types.number("a quarter")) and not 0 <= flag_types.number("") <= 1


def test_a_path_is_the_same_in_any_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert flag_types.absolute("out/../**/a*.jpg") == f"{tmp_path}/**/a*.jpg"
    assert flag_types.absolute("~/out") == "/home/me/out"
    assert flag_types.absolute("/out/") == flag_types.absolute("//out") == "/out"
    assert flag_types.absolute("//") == "/"
    assert flag_types.absolute("gs://b/out//") == "gs://b/out"
    assert flag_types.absolute("") == ""


@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_pattern_is_not_the_whole_machine(text):
    with pytest.raises(ValueError, match="expected a directory or a glob"):
        flag_types.pattern(text)


def test_only_what_is_a_directory_means_all_below_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file.jpg").touch()
    Path("gs:").mkdir()  # is not the bucket
    assert flag_types.pattern("file.jpg") == f"{tmp_path}/file.jpg"
    assert flag_types.pattern("later/") == f"{tmp_path}/later/**"
    assert flag_types.pattern("gs://b") == "gs://b"
    assert flag_types.pattern("gs://b//") == "gs://b/**"
    (tmp_path / "me" / "photos").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    for text in ("~/photos", "~/photos/"):
        assert flag_types.pattern(text) == f"{tmp_path}/me/photos/**"
    assert flag_types.pattern("~/photos/*.jpg") == f"{tmp_path}/me/photos/*.jpg"


@pytest.mark.parametrize(
    ("argv", "on"),
    [([], False), (["--fast"], True), (["--fast", "FALSE"], False), (["--fast=True"], True), (["--fast", "-n"], True)],
    ids=repr,
)
def test_a_switch_is_off_unless_given(argv, on):
    parser = argparse.ArgumentParser()
    flag_types.add_switch(parser, "--fast", "do it fast")
    parser.add_argument("-n", action="store_true")
    assert parser.parse_args(argv).fast is on


def test_what_may_not_be_looked_at_is_taken_as_it_is():
    with open_directory() as place:
        (place / "closed" / "photos").mkdir(parents=True)
        (place / "closed").chmod(0)
        with unprivileged():
            assert flag_types.pattern(f"{place}/closed/photos") == f"{place}/closed/photos"
