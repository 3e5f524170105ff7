"""The section of failures."""

import re

from pipeline.report.page.facts import FailedImage
from pipeline.report.page.failed_images import MAX_EXAMPLES, MAX_GROUPS, MAX_PICTURES, command, failed_images
from tests.helpers import run_facts


def test_failures_by_stage_and_error_the_most_frequent_first():
    section = failed_images(run_facts.facts())
    assert re.findall(r'"count">(\d+) ×</span> (\w+) <small>in (\w+)', section) == [
        ("2", "CorruptImage", "decode"),
        ("1", "OSError", "read"),
    ]
    assert section.count("<img ") == 1 and section.count('class="t none"') == 2
    assert r"caf\xe9.jpg" in section and "--retry_failed" in section and "part-*.jsonl" in section


def test_without_failures_there_is_no_section():
    assert failed_images(run_facts.facts(report=run_facts.report(failures={}))) == ""


def test_if_no_other_try_helps_it_says_so():
    assert "Mend or remove these images" in failed_images(run_facts.facts(retry=""))


def test_examples_and_groups_are_bounded():
    errors = {f"Error{number:03d}": 10**6 for number in range(100)}
    failures = [FailedImage(b"k", "read", "Error000", "m" * 10**5, False, b"x" * 10**6)] * 1000
    section = failed_images(run_facts.facts(report=run_facts.report(failures={"read": errors}), failures=failures))
    assert section.count("<article") == MAX_GROUPS and section.count("<b title") == MAX_EXAMPLES
    assert "and 999,994 more" in section and "76 more kinds of failure" in section and "<img" not in section
    assert len(section) < 20_000


def test_pictures_are_bounded():
    failures = [FailedImage(b"k", "read", f"E{number % 20}", "m", False, b"picture") for number in range(100)]
    report = run_facts.report(failures={"read": {f"E{number}": 5 for number in range(20)}})
    assert failed_images(run_facts.facts(report=report, failures=failures)).count("<img ") == MAX_PICTURES


def test_a_command_is_text():
    assert "--input &#x27;&lt;b&gt;&#x27;" in command("--input '<b>'", "retry")


def test_a_command_is_whole_or_not_there():
    line = f"python run_pipeline.py {' '.join(f'--input=/photos/{number}' for number in range(300))}"
    assert line in command(line, "retry")
    assert "too long for this page: 100,001 characters" in command("x" * 100_001, "retry")
    assert "x" * 100 not in command("x" * 100_001, "retry")


def test_whatever_failed_stays_text():
    hostile = f'"><script>{run_facts.HOSTILE}'
    failures = [FailedImage(hostile.encode(), hostile, hostile, hostile, True, b"jpeg")]
    report = run_facts.report(failures={hostile: {hostile: 1}})
    section = failed_images(run_facts.facts(report=report, failures=failures, failure_files=hostile, retry=hostile))
    assert "<script" not in section and section.count("<img") == 1  # that of the thumbnail
    assert section.count("&lt;script&gt;") == 7  # error, stage, key and name, message, files and command


def test_a_thumbnail_is_bounded_and_each_kind_of_failure_has_its_own_examples():
    failures = [FailedImage(b"large", "read", "E0", "m", False, b"x" * (5 * 1024 + 1))]
    failures += [
        FailedImage(b"%d" % number, "read", f"E{number % 2}", "m", False, b"x" * 5 * 1024) for number in (0, 1)
    ]
    section = failed_images(
        run_facts.facts(report=run_facts.report(failures={"read": {"E0": 2, "E1": 1}}), failures=failures)
    )
    assert section.count("<img ") == 2
    first, second = section.split("<article")[1:]
    assert (first.count("<b title"), second.count("<b title"), "more</p>" in section) == (2, 1, False)
