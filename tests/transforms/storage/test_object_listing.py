"""transforms.storage.object_listing: what a pattern matches, each object in one range."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from transforms.elements import keys
from transforms.storage import globs, object_listing, versioned
from transforms.storage.choice import Choice
from transforms.storage.context import DEFAULT_STORAGE, Storage
from transforms.storage.stores import gcs


def upload(names, content=b"x"):
    bucket = gcs.client().bucket("photos")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: bucket.blob(name).upload_from_string(content), names))


def listed(pattern, ranges, storage=DEFAULT_STORAGE):
    choice = Choice([pattern])
    return [found for one in ranges for found in object_listing.match(storage, choice, one)]


def paths(refs):
    return [keys.uri(ref.key) for ref in refs]


def matches(pattern, **flags):
    return paths(object_listing.match(DEFAULT_STORAGE, Choice([pattern], **flags)))


def test_pages_become_ranges_that_hold_each_object_once(paging, monkeypatch):
    names = [f"in/{day:03}/{i:02}.jpg" for day in range(40) for i in range(20)] + ["in/é.jpg", "in/日.jpg", "out.jpg"]
    upload(names)
    monkeypatch.setattr(gcs, "PAGE_SIZE", 25)
    monkeypatch.setattr(object_listing, "STRAIGHT", 100)
    paging.requests.clear()
    pattern = "gs://photos/in/**.jpg"
    ranges = object_listing.ranges(Storage("payer"), pattern)
    probes = len(paging.requests)
    found = listed(pattern, ranges, Storage("payer"))
    assert sorted(paths(found)) == sorted(f"gs://photos/{name}" for name in names[:-1])
    assert 30 < len(ranges) <= object_listing.RANGES
    sizes = [len(listed(pattern, [one])) for one in ranges]
    assert max(sizes) <= 4 * sum(sizes) / len(sizes)
    assert probes < 400
    assert all(ref.size == 1 and ref.crc32c == versioned.crc32c(b"x") for ref in found)
    assert gcs.read(DEFAULT_STORAGE, keys.uri(found[0].key), found[0].version) == b"x"
    queries = paging.queries("/b/photos/o")
    billed = [query for query in queries if "userProject" in query]
    assert len(billed) >= probes + len(names) // 25
    assert all(query["prefix"] == ["in/"] and int(query["maxResults"][0]) <= 25 for query in queries[:probes])
    assert all("generation" in query["fields"][0] for query in queries[probes:] if "fields" in query)


@pytest.mark.parametrize(("names", "requests"), [(60, 6), (100, 10), (101, None)])
def test_ten_pages_are_listed_straight_and_more_are_divided(paging, monkeypatch, names, requests):
    """A hundredth of the real numbers: 6,000 names are 6 pages of 1,000."""
    upload([f"in/{number:03}.jpg" for number in range(names)])
    monkeypatch.setattr(gcs, "PAGE_SIZE", 10)
    monkeypatch.setattr(object_listing, "STRAIGHT", object_listing.STRAIGHT // 100)
    paging.requests.clear()
    ranges = object_listing.ranges(DEFAULT_STORAGE, "gs://photos/in/*")
    if requests:
        assert ranges == [("", "")] and requests <= len(paging.requests) <= requests + 1
    else:
        assert len(ranges) > 30
    assert len(listed("gs://photos/in/*", ranges)) == names


def test_one_page_is_one_range(server):
    upload(["in/a.jpg", "in/b.jpg"])
    server.requests.clear()
    assert object_listing.ranges(DEFAULT_STORAGE, "gs://photos/in/*") == [("", "")]
    assert len(server.requests) == 1


def test_a_server_that_knows_no_ranges_gives_each_object_once(server):
    upload(["a", "b", "c", "d"])  # gcp-storage-emulator ignores startOffset and endOffset
    ranges = [("", "b"), ("b", "d"), ("d", "")]
    assert paths(listed("gs://photos/*", ranges)) == [f"gs://photos/{name}" for name in "abcd"]


NAMES = [
    "a.jpg",
    "ds",
    "ds/a.jpg",
    "ds/in/b.jpg",
    "ds0.jpg",
    "ds2/a.jpg",
    "back\\slash.jpg",
    "in/a.jpg",
    "in/b.png",
    "in/deep/c.jpg",
    "in/[1].jpg",
    "in/é.jpg",
    "inner.jpg",
]


@pytest.mark.parametrize(
    "pattern",
    [
        *("**", "*", "in/*.jpg", "in/**", "in/", "in/?.jpg", "in/[ab].*", "in/a.jpg", "in/none", "in*", "**/c.jpg"),
        *("**/*.jpg", "in/**/*.jpg", "ds", "ds/", "in", ""),
    ],
)
def test_patterns_match_as_on_this_machine(paging, pattern):
    upload(NAMES)
    pattern = f"gs://photos/{pattern}"
    expected = {f"gs://photos/{name}" for name in NAMES if globs.takes_in(pattern, f"gs://photos/{name}")}
    assert sorted(matches(pattern)) == sorted(expected)
    assert sorted(paths(listed(pattern, object_listing.ranges(DEFAULT_STORAGE, pattern)))) == sorted(expected)
    assert matches(pattern) or pattern.endswith("none")


def test_the_name_of_a_directory(paging, monkeypatch):
    """It is asked for by requests that pass over the names beside it, and divided as any other."""
    beside = [f"ds-{number:03}.jpg" for number in range(60)]
    upload(["ds", *(f"ds/{number:03}.jpg" for number in range(60)), *beside, "ds0", "ds0/x.jpg"])
    monkeypatch.setattr(gcs, "PAGE_SIZE", 10)
    monkeypatch.setattr(object_listing, "RANGES", 4)
    monkeypatch.setattr(object_listing, "STRAIGHT", 10)
    paging.requests.clear()
    ranges = object_listing.ranges(DEFAULT_STORAGE, "gs://photos/ds")
    found = paths(listed("gs://photos/ds", ranges))
    assert sorted(found) == ["gs://photos/ds", *(f"gs://photos/ds/{number:03}.jpg" for number in range(60))]
    assert len(ranges) > 3
    assert len(paging.requests) < 60  # a listing of all that begins with `ds` would have many more pages
    upload(["only/a.jpg", "only/b.txt"])
    assert matches("gs://photos/only") == matches("gs://photos/only/") == ["gs://photos/only/a.jpg"]


def test_what_is_left_out_is_counted_without_a_request(paging):
    upload(["p/a.jpg", "p/._a.jpg", "p/a.txt", "p/@eaDir/a.jpg", "p/B.JPG", "p/c/d.png"])
    upload(["p/c/"], b"")
    paging.requests.clear()
    choice = Choice(["gs://photos/p/**.jpg"])
    assert paths(object_listing.match(DEFAULT_STORAGE, choice)) == ["gs://photos/p/a.jpg"]
    beside = {("beside", ".JPG"): 1, ("beside", ".png"): 1}
    assert choice.left_out == {("hidden", "._*"): 1, ("hidden", "@eaDir/"): 1} | beside
    assert len(paging.requests) == 1
    choice = Choice(["gs://photos/p"])
    assert len(list(object_listing.match(DEFAULT_STORAGE, choice))) == 3
    assert choice.left_out == {("hidden", "._*"): 1, ("hidden", "@eaDir/"): 1, ("other", ".txt"): 1}
    assert len(matches("gs://photos/p", include_hidden=True)) == 5


def test_what_consoles_make_for_directories_is_no_image(paging):
    upload(["in/", "in/deep/", "in_$folder$"], b"")
    upload(["in/a.jpg"], b"")
    upload(["in/full.jpg/"])
    assert matches("gs://photos/**") == [
        "gs://photos/in/a.jpg",
        "gs://photos/in/full.jpg/",
    ]


def test_no_such_bucket(server):
    with pytest.raises(Exception, match="404"):
        object_listing.ranges(DEFAULT_STORAGE, "gs://nowhere/*")


def test_a_name_with_brackets_is_a_name_where_it_exists(server):
    upload(["a[1].jpg", "a1.jpg", "b1.jpg"])
    assert paths(listed("gs://photos/a[1].jpg", object_listing.ranges(DEFAULT_STORAGE, "gs://photos/a[1].jpg"))) == [
        "gs://photos/a[1].jpg"
    ]
    assert paths(listed("gs://photos/b[1].jpg", object_listing.ranges(DEFAULT_STORAGE, "gs://photos/b[1].jpg"))) == [
        "gs://photos/b1.jpg"
    ]
    assert matches("gs://photos/a[1].jpg") == ["gs://photos/a[1].jpg"]


def test_a_directory_with_brackets_is_refused_with_the_pattern_that_means_it(server):
    upload(["dir[1]/b[2]/a.jpg", "dir1/b2/c.jpg", "e1/d.jpg"])
    meant = "gs://photos/dir[[]1]/b[2]/**"
    with pytest.raises(ValueError, match=r"a directory 'dir\[1\]/': expected '" + re.escape(meant)):
        object_listing.check_brackets(DEFAULT_STORAGE, "gs://photos/dir[1]/b[2]/**")
    with pytest.raises(ValueError, match=r"a directory 'dir\[1\]/b\[2\]/'") as raised:
        object_listing.check_brackets(DEFAULT_STORAGE, meant)
    meant = "gs://photos/dir[[]1]/b[[]2]/**"
    assert repr(meant) in str(raised.value)
    server.requests.clear()
    object_listing.check_brackets(DEFAULT_STORAGE, meant)
    assert matches(meant) == ["gs://photos/dir[1]/b[2]/a.jpg"]
    assert globs.takes_in(meant, "gs://photos/dir[1]/b[2]/a.jpg")
    assert all(query["prefix"] == ["dir[1]/b[2]/"] for query in server.queries())
    for pattern in ("gs://photos/e[1]/*", "gs://photos/**/dir[1]/*", "gs://photos/e1/d.jpg", "gs://photos/e[12].jpg"):
        object_listing.check_brackets(DEFAULT_STORAGE, pattern)
