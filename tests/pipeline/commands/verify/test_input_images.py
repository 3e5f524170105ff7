"""pipeline.commands.verify.input_images: whether each image that is listed has its place."""

import pytest

from pipeline.commands.listed_images import ListedImage
from pipeline.commands.verify import input_images, run_checks, schema_file
from pipeline.commands.verify.findings import Findings
from pipeline.commands.verify.input_images import Recorded
from pipeline.commands.verify.output_files import OutputFiles
from pipeline.commands.verify.run_files import RunFiles
from tests.helpers import outputs
from tests.helpers.outputs import embedding, failure


def check(runs, listed):
    """Returns the problems and notes about listed images, `(key, version)`, by kind.

    Args:
      runs: of the output; all but the last are not checked.
      listed: the images.
    """
    findings, recorded = Findings(), Recorded()
    checked = [run_checks.check(run, recorded.add, Findings()) for run in runs]
    input_images.check([ListedImage(*image) for image in listed], checked[-1:], recorded, findings)
    return {kind: items.first for kind, items in (findings.problems | findings.notes).items()}


@pytest.fixture
def runs(tmp_path):
    outputs.write_run(tmp_path, [embedding(b"/a", 1), embedding(b"/b", 2), embedding(b"/c", 3)], run_id="1")
    outputs.write_run(tmp_path, [embedding(b"/c", 4, "2"), embedding(b"/d", 5)], [failure(b"/x")], run_id="2")
    stored = OutputFiles(str(tmp_path))
    return [RunFiles(stored, run_id, schema_file.COLUMNS) for run_id in ("1", "2")]


ALL = [(b"/a", b"1"), (b"/b", b"1"), (b"/c", b"2"), (b"/d", b"1"), (b"/x", b"1")]


def test_each_image_has_its_place(runs):
    assert check(runs, ALL) == {}


def test_images_of_lists_have_no_version(runs):
    assert check(runs, [(key, None) for key, _ in ALL]) == {}


def test_an_image_that_two_lists_name_is_one(runs):
    findings = Findings()
    images = [ListedImage(key, None) for key, _ in ALL]
    checked = [run_checks.check(run, lambda record: None, Findings()) for run in runs]
    input_images.check([*images, *images], checked, Recorded(), findings)
    assert findings.checks[-1].text.startswith("input: 5 images listed now")


def test_images_that_are_nowhere(runs):
    lost = [(b"/%d" % i, b"1") for i in range(3)]
    assert check(runs, [*ALL, *lost, (b"/other", None)]) == {
        "an image of the input has no record and no failure": ["/0", "/1", "/2", "/other"]
    }


def test_an_image_that_was_skipped_and_should_not_have_been(runs):
    assert check(runs, [*ALL[1:], (b"/a", b"2")]) == {
        "an image of the input has a record of another version only": ["/a"]
    }


def test_an_image_that_changed_after_the_run(runs):
    assert check(runs, [*ALL[:3], ALL[4], (b"/d", b"2")]) == {"an image of the input has changed since the run": ["/d"]}


def test_a_record_of_an_image_that_is_not_listed(runs):
    assert check(runs, ALL[:3]) == {"a record of an image that is not in the input": ["/d"]}


def test_a_failure_of_any_run_that_was_checked_is_a_place(tmp_path):
    outputs.write_run(tmp_path, [embedding(b"/a", 1)], [failure(b"/x")], run_id="1")
    outputs.write_run(tmp_path, [embedding(b"/b", 2)], [failure(b"/y")], run_id="2")
    stored = OutputFiles(str(tmp_path))
    runs = [RunFiles(stored, run_id, schema_file.COLUMNS) for run_id in ("1", "2")]
    findings, recorded = Findings(), Recorded()
    checked = [run_checks.check(run, recorded.add, findings) for run in runs]
    listed = [ListedImage(key, None) for key in (b"/a", b"/b", b"/x", b"/y")]
    input_images.check(listed, checked, recorded, findings)
    assert findings.total == 0 and not findings.notes


def test_only_an_image_of_the_latest_run_may_have_changed_since(runs):
    findings, recorded = Findings(), Recorded()
    checked = [run_checks.check(run, recorded.add, Findings()) for run in runs]
    listed = [ListedImage(b"/a", b"2"), ListedImage(b"/d", b"2")]
    input_images.check(listed, checked, recorded, findings)
    assert {kind: items.first for kind, items in findings.problems.items()} == {
        "an image of the input has a record of another version only": ["/a"]
    }
    assert findings.notes["an image of the input has changed since the run"].first == ["/d"]
