"""transforms.skip: what is known in its latest version is not read, and what is not listed any more is told."""

import dataclasses

import apache_beam as beam
import pytest

from tests.helpers.collecting import collect
from transforms.elements import counters
from transforms.elements.records import ImageRef, Known, Reuse
from transforms.skip import SkipKnown, first_current, is_current

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


def skip(refs, entries, reprocess=False, in_packs=False):
    def build(root):
        inputs = {
            "refs": root | "Refs" >> beam.Create(refs).with_output_types(ImageRef),
            "known": root | "Known" >> beam.Create(entries).with_output_types(Known),
        }
        left = inputs | SkipKnown(reprocess, in_packs)
        return left._asdict()

    found, counted = collect(build)
    assert counted.get(counters.IMAGES_SKIPPED, 0) == len(found["skipped"])
    by_key = {tag: sorted(found[tag], key=lambda element: element.key) for tag in found if tag != "resumed"}
    return by_key | {"resumed": sorted(found["resumed"], key=lambda reuse: reuse.ref.key)}


OLD, NEW, CHANGED, ODD = (ImageRef(key, "7", 10, "AAAAAA==") for key in (b"/a", b"/b", b"/c", b"/\xff\xfe"))
KNOWN = [
    known(b"/a", "6", 1.0),
    known(b"/a", "7", 2.0),
    known(b"/c", "6"),
    known(b"/\xff\xfe", "7"),
    known(b"/deleted", "7"),
    known(b"/\xff", "7"),
]


@pytest.mark.parametrize("in_packs", [False, True])
def test_new_and_changed_images_go_on(in_packs):
    assert skip([OLD, NEW, CHANGED, ODD], KNOWN, in_packs=in_packs) == {
        "new": [NEW, CHANGED],
        "skipped": [OLD, ODD],
        "resumed": [],
        "unlisted": [known(b"/deleted", "7"), known(b"/\xff", "7")],
    }


def test_reprocessing_skips_nothing_and_still_tells_what_is_gone():
    assert skip([OLD, NEW, CHANGED, ODD], KNOWN, reprocess=True) == {
        "new": [OLD, NEW, CHANGED, ODD],
        "skipped": [],
        "resumed": [],
        "unlisted": [known(b"/deleted", "7"), known(b"/\xff", "7")],
    }


def test_all_that_was_written_under_a_key_that_is_gone():
    entries = [known(b"/a", version) for version in ("1", "2")]
    found = skip([], entries)["unlisted"]
    assert sorted(found, key=lambda entry: entry.version) == entries


@pytest.mark.parametrize("refs", [[OLD, NEW], []], ids=["a first run", "nothing at all"])
def test_where_nothing_is_known(refs):
    assert skip(refs, []) == {"new": refs, "skipped": [], "resumed": [], "unlisted": []}


@pytest.mark.parametrize("recorded", ["7", ""], ids=["the record has a version", "neither has a version"])
def test_an_image_whose_version_is_not_known_is_not_skipped(recorded):
    unknown = dataclasses.replace(OLD, version="")
    assert skip([unknown], [known(b"/a", recorded)])["new"] == [unknown]


def unfinished(key, version, attempt="1", offset=0):
    return dataclasses.replace(known(key, version, 0.0), attempt=attempt, shard="part", offset=offset)


def test_the_first_record_of_an_unfinished_attempt_counts():
    entries = [unfinished(REF.key, *of) for of in (("7", "2", 0), ("7", "1", 9), ("7", "1", 5), ("6", "0", 0))]
    for order in (entries, entries[::-1]):
        assert first_current(REF, order) == entries[2]
    assert first_current(REF, entries[3:]) is None and first_current(REF, []) is None
    other_bytes = dataclasses.replace(REF, crc32c="BBBBBB==")  # as an image in a shard, whose version is the shard's
    assert first_current(other_bytes, entries) is None
    # Two unknown versions may be of two contents.
    assert first_current(dataclasses.replace(REF, version=""), [unfinished(REF.key, "")]) is None


def test_a_listing_without_checksums_takes_over_what_has_the_version():
    entry = unfinished(REF.key, "7")
    assert first_current(dataclasses.replace(REF, crc32c=""), [entry]) == entry
    without = dataclasses.replace(entry, crc32c="")
    assert first_current(REF, [without]) is None


def test_of_records_of_one_attempt_that_of_the_first_part_counts():
    parts = [dataclasses.replace(unfinished(REF.key, "7", offset=9 - i), shard=f"part-{i}") for i in range(3)]
    for order in (parts, parts[::-1]):
        assert first_current(REF, order) == parts[0]


@pytest.mark.parametrize("reprocess", [False, True])
def test_what_an_unfinished_attempt_has_stored_is_taken_over(reprocess):
    entries = [unfinished(b"/a", "7"), unfinished(b"/c", "6"), unfinished(b"/deleted", "7")]
    outputs = skip([OLD, NEW, CHANGED], [*entries, known(b"/a", "7")], reprocess)
    # The record of an image that is not listed any more is of no run: it is not in a table that may be pruned.
    assert outputs == {"new": [NEW, CHANGED], "skipped": [], "resumed": [Reuse(OLD, entries[0])], "unlisted": []}
