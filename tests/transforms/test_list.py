"""transforms.list: every image once, and what cannot be listed."""

import gzip
import os

import apache_beam as beam
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to

from tests.helpers.collecting import collect
from tests.helpers.unprivileged import open_directory, unprivileged
from transforms.elements import counters
from transforms.elements.records import ImageRef
from transforms.list import DescribeImages, ListImages
from transforms.storage import object_listing, versioned
from transforms.storage.context import DEFAULT_STORAGE, Storage
from transforms.storage.stores import gcs


def listed(patterns, input_format, expected_keys, expected_failures=(), in_packs=False):
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        outputs = pipeline | ListImages(tuple(map(str, patterns)), input_format, in_packs=in_packs)
        keys = outputs.main | "Keys" >> beam_map(lambda ref: ref.key)
        failed = outputs.failures | "Failed" >> beam_map(lambda failure: (failure.key, failure.error))
        stages = outputs.seconds | "Stages" >> beam_map(lambda busy: (busy.stage, busy.seconds >= 0))
        assert_that(keys, equal_to([os.fsencode(key) for key in expected_keys]), label="keys")
        assert_that(failed, equal_to([(os.fsencode(key), error) for key, error in expected_failures]), label="failed")
        assert_that(stages, lambda found: all(busy == ("list", True) for busy in found) or found, label="seconds")
    found = pipeline.result.metrics().query(MetricsFilter().with_name(counters.IMAGES_LISTED))["counters"]
    assert sum(counter.committed for counter in found) == len(expected_keys) + len(expected_failures)


def beam_map(function):
    return beam.Map(function)


@pytest.mark.parametrize("in_packs", [False, True])
def test_overlapping_patterns_list_each_image_once(tmp_path, in_packs):
    for name in ("a.jpg", "b.jpg", "c.png", "sub/d.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    listed(
        [tmp_path / "*.jpg", tmp_path / "**"],
        "images",
        [tmp_path / n for n in ("a.jpg", "b.jpg", "c.png", "sub/d.jpg")],
        in_packs=in_packs,
    )


def test_names_that_are_not_utf_8(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9 [1].jpg"
    with open(name, "wb") as file:
        file.write(b"x")
    listed([tmp_path / "*"], "images", [name])


@pytest.mark.slow
@pytest.mark.parametrize("patterns", [["**"], ["**", "*"], ["**.jpg", "*.jpg"]], ids=repr)
def test_what_cannot_be_listed_is_a_failure_under_its_path(patterns):
    """Whoever deletes what is not listed has to know where the listing could not look."""
    with open_directory() as place:
        for name in ("a.jpg", "closed/b.jpg", "half/c.jpg"):
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_bytes(b"x")
        (place / "album").symlink_to("/mnt/gone/album")
        (place / "photo.jpg").symlink_to("/mnt/gone/photo.jpg")
        for name, mode in {"closed": 0, "half": 0o444}.items():
            (place / name).chmod(mode)
        errors = {"closed": "PermissionError", "half": "PermissionError"}
        errors |= {"album": "FileNotFoundError", "photo.jpg": "FileNotFoundError"}
        with unprivileged():
            listed(
                [place / pattern for pattern in patterns],
                "images",
                [place / "a.jpg"],
                [(place / name, error) for name, error in errors.items()],
            )


@pytest.mark.slow
def test_what_is_left_out_is_counted(tmp_path):
    for name in ("a.jpg", "b.JPG", "._a.jpg", "a.txt", "b.txt", "sub/c.png", "sub/.DS_Store"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")

    def counts(*patterns, **flags):
        patterns = tuple(f"{tmp_path}/{pattern}" for pattern in patterns)
        outputs, _ = collect(lambda pipeline: pipeline | ListImages(patterns, **flags))
        names = sorted(os.path.relpath(os.fsdecode(ref.key), tmp_path) for ref in outputs["main"])
        return names, {(each.why, each.name): each.files for each in outputs["left_out"]}

    hidden = {("hidden", "._*"): 1, ("hidden", ".DS_Store"): 1}
    images = ["a.jpg", "b.JPG", "sub/c.png"]
    assert counts("**") == (images, hidden | {("other", ".txt"): 2})
    assert counts("**", "**") == (images, hidden | {("other", ".txt"): 2})
    assert counts("**", "**.txt") == (sorted([*images, "a.txt", "b.txt"]), hidden)
    beside = {("beside", ".JPG"): 1, ("beside", ".png"): 1, ("hidden", "._*"): 1}
    assert counts("**/*.jpg") == (["a.jpg"], beside)
    everything, other = counts("**", include_hidden=True)
    assert everything == sorted([*images, "._a.jpg", "sub/.DS_Store"]) and other == {("other", ".txt"): 2}
    of_images = {("other", ".jpg"): 1, ("other", ".JPG"): 1, ("other", ".png"): 1}
    assert counts("**", input_format="tar")[1] == hidden | of_images | {("other", ".txt"): 2}
    assert counts("**", input_format="list")[1] == hidden | of_images


def test_a_column_of_lists(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "l.csv").write_text("place;n\n./a.jpg;1\n")
    outputs, _ = collect(lambda pipeline: pipeline | ListImages((f"{tmp_path}/l.csv",), "list", uri_column="place"))
    assert [ref.key for ref in outputs["main"]] == [os.fsencode(tmp_path / "a.jpg")]
    outputs, _ = collect(lambda pipeline: pipeline | ListImages((f"{tmp_path}/l.csv",), "list"))
    (failure,) = outputs["failures"]
    assert (failure.key, failure.error, failure.retryable) == (os.fsencode(tmp_path / "l.csv"), "NoUriColumn", False)


def test_a_list_that_was_packed(paging):
    stored = upload(a=b"1")
    blob = gcs.client().bucket("photos").blob("l.csv")
    blob.content_encoding = "gzip"  # as `gsutil cp -Z` stores it
    blob.upload_from_string(gzip.compress(b"url,n\na,1\n"))
    outputs, _ = collect(lambda pipeline: pipeline | ListImages(("gs://photos/l.csv",), "list"))
    assert outputs["main"] == [stored["a"]]


def test_version_changes_with_the_content(tmp_path):
    from transforms.storage import files

    path = tmp_path / "a"
    path.write_bytes(b"1")
    os.utime(path, (1, 1))
    versions = {files.described(str(path)).version}
    os.utime(path, (2, 2))
    versions.add(files.described(str(path)).version)
    path.write_bytes(b"22")
    os.utime(path, (2, 2))
    versions.add(files.described(str(path)).version)
    assert versions == {"1-1.000000", "1-2.000000", "2-2.000000"}


def test_lists(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a.jpg", "sub/c.jpg", "with,comma.jpg"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "1.txt").write_text(f"{tmp_path}/a.jpg\n\n# a comment\ngone.jpg\nsub/c.jpg\n{tmp_path}/a.jpg\n")
    (tmp_path / "2.csv").write_text(f'label,uri\ncat,"{tmp_path}/with,comma.jpg"\ndog,\nowl,nowhere://b/d.jpg\n')
    listed(
        [tmp_path / "*.txt", tmp_path / "*.csv"],
        "list",
        [tmp_path / "a.jpg", tmp_path / "sub/c.jpg", tmp_path / "with,comma.jpg"],
        [
            (f"{tmp_path}/2.csv#1", "ValueError"),
            (tmp_path / "gone.jpg", "FileNotFoundError"),
            ("nowhere://b/d.jpg", "ValueError"),
        ],
    )


def test_a_list_that_cannot_be_read(tmp_path):
    os.symlink(tmp_path, tmp_path / "list.txt")  # a directory: it is listed, and opening it fails
    listed([tmp_path / "list.txt"], "list", [], [(tmp_path / "list.txt", "NotARegularFile")])


def test_names_in_lists_that_are_not_utf_8(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    with open(name, "wb") as file:
        file.write(b"x")
    (tmp_path / "l.txt").write_bytes(b"caf\xe9.jpg\n")
    listed([tmp_path / "l.txt"], "list", [name])


def test_rows_that_hold_nul(tmp_path):
    (tmp_path / "l.txt").write_bytes(b"a\0b.jpg\n")
    listed([tmp_path / "l.txt"], "list", [], [(os.fsencode(tmp_path) + b"/a\0b.jpg", "ValueError")])


def test_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    os.symlink("/dev/zero", tmp_path / "zero.jpg")
    os.symlink("loop.jpg", tmp_path / "loop.jpg")
    os.symlink("nothing", tmp_path / "dangling.jpg")
    (tmp_path / "good.jpg").write_bytes(b"x")
    errors = {
        tmp_path / "pipe.jpg": "NotARegularFile",
        tmp_path / "zero.jpg": "NotARegularFile",
        tmp_path / "loop.jpg": "NotARegularFile",
        tmp_path / "dangling.jpg": "FileNotFoundError",
    }
    # Each key once, though two patterns match it.
    listed([tmp_path / "*", tmp_path / "*.jpg"], "images", [tmp_path / "good.jpg"], errors.items())


def test_a_list_in_a_bucket_names_no_file_of_the_worker(server):
    rows = ["/etc/passwd", "file:///etc/passwd", "FILE:///x", "//etc/passwd", "/a://../etc/passwd", "x/a://b"]
    upload(**{"lists/l.txt": "\n".join(rows).encode()})
    message = "{!r}: a list that is not local names objects, not files of the worker: expected gs://BUCKET/NAME, "
    message += "or a name relative to the list"
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        outputs = pipeline | ListImages(("gs://photos/lists/l.txt",), "list")
        failed = outputs.failures | beam.Map(lambda f: (f.key, f.error, f.message, f.retryable))
        expected = [
            (b"gs://photos/lists/l.txt#%d" % number, "LocalPathInRemoteList", message.format(row), False)
            for number, row in enumerate(rows)
        ]
        assert_that(failed, equal_to(expected), label="failed")
        assert_that(outputs.main, equal_to([]), label="refs")


def test_names_in_a_list_in_a_bucket_stay_names_of_objects(paging):
    stored = upload(
        **{"lists/../a": b"1", "lists/.": b"2", "lists/~/b": b"3", "l": b"lists/../a\nlists/.\nlists/~/b\n.."}
    )
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        outputs = pipeline | ListImages(("gs://photos/l",), "list")
        names = ("lists/../a", "lists/.", "lists/~/b")
        expected = [stored[name] for name in names]
        failed = outputs.failures | beam.Map(lambda f: (f.key, f.error))
        assert_that(outputs.main, equal_to(expected), label="refs")
        assert_that(failed, equal_to([(b"gs://photos/..", "ValueError")]), label="failed")


def test_a_local_list_names_objects_too(server, tmp_path):
    stored = upload(a=b"1")
    (tmp_path / "l.txt").write_text("gs://photos/a\n")
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        refs = (pipeline | ListImages((str(tmp_path / "l.txt"),), "list")).main
        assert_that(refs, equal_to([stored["a"]]))


def described(refs, expected, failures=(), **options):
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        outputs = pipeline | beam.Create(refs) | DescribeImages(**options)
        failed = outputs.failures | beam.Map(lambda f: (f.key, f.stage, f.error, f.retryable))
        assert_that(outputs.main, equal_to(expected), label="refs")
        assert_that(failed, equal_to(list(failures)), label="failures")


def test_refs_of_a_list_are_described(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"12345")
    os.utime(tmp_path / "a.jpg", (7, 7))
    (tmp_path / "l.txt").write_text("a.jpg\n")
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        refs = (pipeline | ListImages((str(tmp_path / "l.txt"),), "list")).main
        assert_that(refs, equal_to([ImageRef(os.fsencode(tmp_path / "a.jpg"), "5-7.000000", 5)]))


def upload(**contents):
    for name, content in contents.items():
        gcs.client().bucket("photos").blob(name).upload_from_string(content)
    """Uploads objects, and returns the refs that a listing gives: by name."""
    return {name: versioned.ref_of(gcs.described(DEFAULT_STORAGE, f"gs://photos/{name}")) for name in contents}


def test_a_bucket_is_listed_with_version_size_and_checksum(paging, monkeypatch):
    stored = upload(**{f"in{i:03}": b"x" * i for i in range(200)})
    monkeypatch.setattr(gcs, "PAGE_SIZE", 7)
    monkeypatch.setattr(object_listing, "STRAIGHT", 7)
    paging.requests.clear()
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        refs = (pipeline | ListImages(("gs://photos/*", "gs://photos/in0*"), "images", Storage("payer"))).main
        assert_that(refs, equal_to(list(stored.values())))
    assert all(query["userProject"] == ["payer"] for query in paging.queries())
    assert len({tuple(query.get("startOffset", "")) for query in paging.queries() if "endOffset" in query}) > 10


def test_images_in_a_bucket_that_a_list_names(server):
    stored = upload(a=b"123", l=b"a\ngs://photos/gone\n")
    server.requests.clear()
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        outputs = pipeline | ListImages(("gs://photos/l",), "list", Storage("payer"))
        failed = outputs.failures | beam.Map(lambda f: (f.key, f.stage, f.error, f.retryable))
        assert_that(outputs.main, equal_to([stored["a"]]), label="refs")
        assert_that(failed, equal_to([(b"gs://photos/gone", "list", "FileNotFoundError", True)]), label="failures")
    assert len(server.queries("/o/a")) == len(server.queries("/o/gone")) == 1
    assert all(query["userProject"] == ["payer"] for query in server.queries())


def test_what_is_not_there_may_still_come_or_is_given_up(server, tmp_path):
    upload(other=b"1")
    for key in (b"gs://photos/gone", os.fsencode(tmp_path / "gone")):
        for may_still_come in (True, False):
            failure = (key, "list", "FileNotFoundError", may_still_come)
            described([ImageRef(key, "", -1)], [], [failure], may_still_come=may_still_come)


def test_what_cannot_be_seen_may_be_seen_the_next_time(server):
    upload(a=b"123")
    server.answer = lambda url: 403
    described([ImageRef(b"gs://photos/a", "", -1)], [], [(b"gs://photos/a", "list", "Forbidden", True)])


def test_a_ref_with_a_version_is_not_asked_for(server):
    known = ImageRef(b"gs://photos/a", "7", 3, "4waSgw==", True)
    described([known], [known])
    assert server.requests == []


def test_many_are_asked_for_at_once(server):
    stored = upload(**{f"n{i}": b"%d" % i for i in range(40)})
    server.delay, server.largest_at_once = 0.05, 0
    described([ImageRef(ref.key, "", -1) for ref in stored.values()], list(stored.values()), read_concurrency=8)
    assert 4 <= server.largest_at_once <= 8
