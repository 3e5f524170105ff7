"""transforms.storage.listing: the same refs, wherever the files are."""

import pytest

from transforms.elements import keys
from transforms.elements.records import ImageRef
from transforms.storage import files, listing, local, object_listing
from transforms.storage.choice import Choice
from transforms.storage.context import DEFAULT_STORAGE
from transforms.storage.stores import gcs
from transforms.storage.stores.store import Stored


def test_files_of_this_machine(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"one")
    (tmp_path / "b.txt").write_bytes(b"")
    pattern = f"{tmp_path}/*"
    assert listing.ranges(DEFAULT_STORAGE, pattern) == [("", "")]
    expected = [ImageRef(bytes(tmp_path / "a.jpg"), *local.described(f"{tmp_path}/a.jpg"))]
    for name_range in (None, ("", "")):
        assert list(listing.refs(DEFAULT_STORAGE, Choice([pattern]), name_range)) == expected


def test_objects_come_in_ranges(paging, monkeypatch):
    monkeypatch.setattr(gcs, "PAGE_SIZE", 5)
    monkeypatch.setattr(object_listing, "STRAIGHT", 5)
    monkeypatch.setattr(object_listing, "RANGES", 4)
    names = [f"{letter}{number}" for letter in "abcdef" for number in range(3)]
    for name in names:
        gcs.client().bucket("photos").blob(f"in/{name}.jpg").upload_from_string(b"x")
    pattern = "gs://photos/in/*"
    ranges = listing.ranges(DEFAULT_STORAGE, pattern)
    assert len(ranges) == 4
    whole = list(listing.refs(DEFAULT_STORAGE, Choice([pattern])))
    assert [ref for each in ranges for ref in listing.refs(DEFAULT_STORAGE, Choice([pattern]), each)] == whole
    assert [keys.uri(ref.key) for ref in whole] == [f"gs://photos/in/{name}.jpg" for name in names]


@pytest.mark.parametrize("pattern", ["other://b/photos/**", "other://b/photos/", "other://b/photos"])
def test_files_of_another_store_are_listed_through_beam(monkeypatch, pattern):
    """A name is first taken for that of a file, then for that of a directory."""
    stored = Stored("other://b/photos/a.jpg", "3-1.500000", 3)
    monkeypatch.setattr(files, "match", lambda asked: [stored] if asked == "other://b/photos/**" else [])
    assert listing.ranges(DEFAULT_STORAGE, pattern) == [("", "")]
    (ref,) = listing.refs(DEFAULT_STORAGE, Choice([pattern]))
    assert ref == ImageRef(b"other://b/photos/a.jpg", "3-1.500000", 3)
