"""The command lines of a page, taken apart again by the parser of the command."""

import dataclasses
import shlex

import pytest

from pipeline.flags import options
from pipeline.report import try_again
from pipeline.report.page.facts import FailedImage
from tests.helpers.reporting import configured

LATE, BROKEN = (FailedImage(b"k", "read", "E", "m", retryable) for retryable in (True, False))
SHARDS = "--input_format=tar", "--input=a", "--output=o"


def _config(*flags):
    return dataclasses.replace(configured("--output=o"), **_facts(flags), argv=flags)


def _facts(flags):
    config, _ = options.parse(flags)
    return {"input_format": config.input_format, "overwrite": config.overwrite}


@pytest.mark.parametrize(
    ("flags", "again"),
    [
        (["--output=o", "--input", "a b/*", "--run_id=r"], ["--output=o"]),
        (["--output", "o", "--run_id", "r", "--prune", "false"], ["--output", "o"]),
        (["--reprocess", "false", "--output=o"], ["--output=o"]),
        (["--output=o", "--retry_failed", "TRUE", "--overwrite=true", "--verbose", "false"],
         ["--output=o", "--verbose", "false"]),
        (["--reprocess", "--output", "true"], ["--output", "true"]),
    ],
    ids=["input", "run", "false", "values", "output"],
)  # fmt: skip
def test_the_command_that_tries_again(flags, again):
    line = try_again.retry(_config(*flags), [BROKEN, LATE])
    assert shlex.split(line) == ["python", "run_pipeline.py", "--retry_failed", *again]
    options.parse(shlex.split(line)[2:])
    assert try_again.retry(_config(*flags), [BROKEN]) == ""


@pytest.mark.parametrize("more", [[], ["--run_id", "r"], ["--run_id=r", "--reprocess", "true"]], ids=str)
def test_shards_are_read_again_under_another_name(more):
    line = try_again.retry(_config(*SHARDS, *more), [LATE])
    assert shlex.split(line) == ["python", "run_pipeline.py", *SHARDS]


def test_the_same_again_is_another_run():
    flags = "--output=o", "--run_id", "r", "--reprocess", "false", "--input", "a b/*"
    again = ["python", "run_pipeline.py", *flags[:1], *flags[3:]]
    assert shlex.split(try_again.same_again(_config(*flags))) == again
    assert "--run_id r --overwrite" in try_again.same_again(_config("--output=o", "--run_id", "r", "--overwrite"))


def test_what_cannot_be_seen_is_copied_too():
    assert r"$'a\xe2\x80\x8c/*'" in try_again.same_again(_config("--output=o", "--input", "a\u200c/*"))
