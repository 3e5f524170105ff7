"""transforms.skip: what is known in its latest version is not read, and what is not listed any more is told."""

import dataclasses

import apache_beam as beam
import pytest

from tests.collecting import collect
from transforms import counters
from transforms.records import ImageRef, Known
from transforms.skip import SkipKnown, is_current

REF = ImageRef(b"gs://b/a.jpg", "7", 10, "AAAAAA==")


def known(key, version, written_at=1.0):
    return Known(key, version, "ab" * 32, 10, "AAAAAA==", written_at)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], False),
        ([("7", 1)], True),
        ([("6", 1)], False),
        ([("6", 1), ("7", 2)], True),
        ([("7", 2), ("6", 1)], True),
        # Someone has put an old version back: the latest vector is another one's.
        ([("7", 1), ("8", 2)], False),
        ([("8", 2), ("7", 1)], False),
        ([("7", 1), ("8", 2), ("7", 3)], True),
    ],
)
def test_the_latest_entry_counts(entries, expected):
    found = (known(REF.key, version, written_at) for version, written_at in entries)  # to be read once
    assert is_current(REF, found) is expected


def skip(refs, entries, reprocess=False):
    def build(root):
        inputs = {
            "refs": root | "Refs" >> beam.Create(refs).with_output_types(ImageRef),
            "known": root | "Known" >> beam.Create(entries).with_output_types(Known),
        }
        left = inputs | SkipKnown(reprocess)
        return left._asdict()

    found, counted = collect(build)
    assert counted.get(counters.IMAGES_SKIPPED, 0) == len(found["skipped"])
    return {tag: sorted(elements, key=lambda element: element.key) for tag, elements in found.items()}


OLD, NEW, CHANGED, ODD = (ImageRef(key, "7", 10, "AAAAAA==") for key in (b"/a", b"/b", b"/c", b"/\xff\xfe"))
KNOWN = [
    known(b"/a", "6", 1.0),
    known(b"/a", "7", 2.0),
    known(b"/c", "6"),
    known(b"/\xff\xfe", "7"),
    known(b"/deleted", "7"),
    known(b"/\xff", "7"),
]


def test_new_and_changed_images_go_on():
    assert skip([OLD, NEW, CHANGED, ODD], KNOWN) == {
        "new": [NEW, CHANGED],
        "skipped": [OLD, ODD],
        "gone": [known(b"/deleted", "7"), known(b"/\xff", "7")],
    }


def test_reprocessing_skips_nothing_and_still_tells_what_is_gone():
    assert skip([OLD, NEW, CHANGED, ODD], KNOWN, reprocess=True) == {
        "new": [OLD, NEW, CHANGED, ODD],
        "skipped": [],
        "gone": [known(b"/deleted", "7"), known(b"/\xff", "7")],
    }


def test_all_that_was_written_under_a_key_that_is_gone():
    entries = [known(b"/a", version) for version in ("1", "2")]
    found = skip([], entries)["gone"]
    assert sorted(found, key=lambda entry: entry.version) == entries


@pytest.mark.parametrize("refs", [[OLD, NEW], []], ids=["a first run", "nothing at all"])
def test_where_nothing_is_known(refs):
    assert skip(refs, []) == {"new": refs, "skipped": [], "gone": []}


@pytest.mark.parametrize("recorded", ["7", ""], ids=["the record has a version", "neither has a version"])
def test_an_image_whose_version_is_not_known_is_not_skipped(recorded):
    unknown = dataclasses.replace(OLD, version="")
    assert skip([unknown], [known(b"/a", recorded)])["new"] == [unknown]
