"""pipeline.known.prunable: what a listing covers, and what it could not see."""

import itertools

import pytest

from pipeline.known import prunable
from pipeline.known.prunable import Covered, Unseen


@pytest.mark.parametrize(
    ("key", "patterns", "expected"),
    [
        (b"gs://b/photos/a.jpg", ("gs://b/photos/**",), True),
        (b"gs://b/photos/deep/a.jpg", ("gs://b/photos/**",), True),
        (b"gs://b/photos/deep/a.jpg", ("gs://b/photos/*",), False),
        (b"gs://b/photos-2/a.jpg", ("gs://b/photos/**",), False),
        (b"gs://b/a.jpg", ("gs://b/photos/**", "gs://b/*.jpg"), True),
        (b"gs://c/photos/a.jpg", ("gs://b/photos/**", "gs://b/*.jpg"), False),
        (b"/photos/caf\xe9.jpg", ("/photos/*.jpg",), True),
        (b"gs://b/a[1].jpg", ("gs://b/a[1].jpg",), True),
        (b"gs://b/ds/a.jpg", ("gs://b/ds",), True),
        (b"gs://b/photos/.a.jpg", ("gs://b/photos/**",), False),
        (b"gs://b/photos/.a.jpg", ("gs://b/photos/.*",), True),
        (b"gs://b/photos/a.xml", ("gs://b/photos/**",), False),
        (b"gs://b/photos/a.xml", ("gs://b/photos/**.xml",), True),
        (b"gs://b/photos/a.xml", ("gs://b/photos/a.xml",), True),
    ],
)
def test_only_what_an_input_matches_is_covered(key, patterns, expected):
    assert Covered(patterns)(key) is expected


def test_hidden_images_are_covered_where_they_are_listed():
    assert Covered(("/photos/**",), include_hidden=True)(b"/photos/.a.jpg")
    assert not Covered(("/photos/**",), include_hidden=True)(b"/photos/a.xml")


@pytest.mark.parametrize(
    ("place", "key", "text"),
    [
        (b"/photos/sub", b"/photos/sub/a.jpg", "/photos/sub"),
        (b"/photos/sub", b"/photos/sub/deep/er/a.jpg", "/photos/sub"),
        (b"/photos/sub/", b"/photos/sub/a.jpg", "/photos/sub"),
        (b"/photos/a.jpg", b"/photos/a.jpg", "/photos/a.jpg"),
        (b"/caf\xe9", b"/caf\xe9/a.jpg", r"/caf\xe9"),
        (b"/", b"/photos/a.jpg", "/"),
        (b"gs://b/sub", b"gs://b/sub/a.jpg", "gs://b/sub"),
        (b"/photos/sub", b"/photos/sub-2/a.jpg", None),
        (b"/photos/sub", b"/photos/su", None),
        (b"/photos/sub/a.jpg", b"/photos/sub", None),
        (b"/photos/a", b"/photos/a.jpg", None),
        (b"/photos", b"/other/photos/a.jpg", None),
    ],
)
def test_a_place_hides_itself_and_what_is_below_it(place, key, text):
    assert Unseen([b"/elsewhere", place]).hides(key) == text


def test_a_link_to_nothing_hides_what_may_be_behind_it_whatever_its_name(tmp_path):
    (tmp_path / "page.html").symlink_to("/mnt/gone")
    assert Unseen().hides(bytes(tmp_path / "page.html" / "a.jpg")) == str(tmp_path / "page.html")
    assert Unseen().hides(bytes(tmp_path / "page.htm" / "a.jpg")) is None


def test_no_file_of_this_machine_hides_an_object(tmp_path, monkeypatch):
    (tmp_path / "gs:").symlink_to("/mnt/gone")
    monkeypatch.chdir(tmp_path)
    assert Unseen().hides(b"gs://b/a.jpg") is None


def test_a_file_that_a_listing_has_missed_is_not_gone(tmp_path):
    image = tmp_path / "a.jpg"
    image.touch()
    assert Unseen().hides(bytes(image)) == str(image)
    image.unlink()
    assert Unseen().hides(bytes(image)) is None


def test_what_was_seen_hides_nothing():
    assert Unseen().hides(b"/a.jpg") is None and str(Unseen()) == ""


@pytest.mark.parametrize("sizes", [(4,), (3, 1), (1, 3), (2, 2)])
def test_too_many_places_hide_everything(monkeypatch, sizes):
    monkeypatch.setattr(prunable, "MOST_PLACES", 3)
    places = (b"/%d" % i for i in range(sum(sizes)))
    total = Unseen([b"/0"])
    for size in sizes:
        assert total.hides(b"/far/away.jpg") is None
        total.merge(Unseen(itertools.islice(places, size)))
    assert total.hides(b"/far/away.jpg") == prunable.TOO_MANY == str(total)
    total.merge(Unseen([b"/0"]))
    assert total.hides(b"/far/away.jpg") == prunable.TOO_MANY


def test_there_is_an_end_to_the_places():
    unseen = Unseen(b"/%d" % i for i in range(10_000))
    assert unseen.hides(b"/far/away.jpg") is None and unseen.hides(b"/7/a.jpg") == "/7"
    unseen.add(b"/one more")
    assert unseen.hides(b"/far/away.jpg") == "more than 10,000 places" and not unseen._places


def test_a_message_names_some_places():
    assert str(Unseen([b"/b", b"/a\xff", b"/"])) == r"/, /a\xff, /b"
    assert len(str(Unseen(b"/%d" % i for i in range(100))).split(", ")) == 10
