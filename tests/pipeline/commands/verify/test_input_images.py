"""pipeline.commands.verify.input_images: what is listed, and whether it has its place."""

import os

import pytest

from pipeline.commands.verify import input_images, schema_file
from pipeline.commands.verify.findings import Findings
from pipeline.commands.verify.identities import ContentVectors, Identities, identity
from pipeline.commands.verify.input_images import Image
from pipeline.commands.verify.run_files import RunFiles
from pipeline.commands.verify.stored import Stored
from tests.helpers import cloud_storage, outputs
from tests.helpers import data_generation as data
from tests.helpers.outputs import embedding, failure
from transforms.storage import gcs


def keys(path, input_format="images"):
    return [image.key for image in input_images.images([str(path)], input_format, None)]


# Listing.


def test_images(tmp_path):
    for name in ("a.jpg", "caf\udce9.jpg"):
        (tmp_path / name).write_bytes(b"image")
    listed = sorted(input_images.images([f"{tmp_path}/*"], "images", None))
    assert [image.key for image in listed] == [bytes(tmp_path) + name for name in (b"/a.jpg", b"/caf\xe9.jpg")]
    assert all(image.version.startswith(b"5-") and image.encoded is None for image in listed)


def test_what_a_run_leaves_out_is_not_listed(tmp_path):
    for name in ("a.jpg", "a.txt", "._a.jpg", "sub/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"image")
    (tmp_path / "link").symlink_to("sub")
    pattern = f"{tmp_path}/**"
    expected = [bytes(tmp_path / name) for name in ("a.jpg", "sub/b.jpg")]
    assert sorted(keys(pattern)) == expected
    listed = input_images.images([pattern], "images", None, include_hidden=True)
    assert sorted(image.key for image in listed) == [bytes(tmp_path / "._a.jpg"), *expected]
    tar = data.write_tar(tmp_path / "a.tar", {"x.png": b"x", "._x.png": b"y"})
    assert keys(tar, "tar") == [bytes(tar) + b"#x.png"]
    (tmp_path / "l.csv").write_text("place;n\na.jpg;1\n")
    (image,) = input_images.images([f"{tmp_path}/l.csv"], "list", None, uri_column="place")
    assert image.key == expected[0]


def test_lists(tmp_path):
    (tmp_path / "list.csv").write_text("uri,size\n/a.jpg,1\n,2\nb.jpg,3\n")
    own = bytes(tmp_path)
    assert keys(tmp_path / "list.csv", "list") == [b"/a.jpg", own + b"/list.csv#1", own + b"/b.jpg"]


def test_whatever_a_run_lists_on_a_disk_is_listed(tmp_path):
    """What is no file becomes a failure of the run, and brackets mean the directory of that name."""
    place = tmp_path / "photos [1]"
    place.mkdir()
    (place / "a.jpg").write_bytes(b"image")
    os.mkfifo(place / "pipe.jpg")
    (place / "nothing.jpg").symlink_to("gone")
    assert sorted(keys(f"{place}/**")) == [bytes(place / name) for name in ("a.jpg", "nothing.jpg", "pipe.jpg")]
    assert keys(place / "pipe.jpg", "list") == [bytes(place / "pipe.jpg")]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lists_of_spreadsheets(tmp_path, encoding):
    (tmp_path / "list.csv").write_text("uri,size\r\n/é.jpg,1\r\n", encoding, newline="")
    assert keys(tmp_path / "list.csv", "list") == ["/é.jpg".encode()]


@pytest.mark.slow
def test_a_local_path_in_a_remote_list_stands_for_its_row(monkeypatch):
    with cloud_storage.paging_server() as url, cloud_storage.clients_of(monkeypatch, url):
        gcs.client().create_bucket("lists").blob("l.txt").upload_from_string("gs://b/a.jpg\n/etc/passwd\nb.jpg\n")
        assert keys("gs://lists/l.txt", "list") == [b"gs://b/a.jpg", b"gs://lists/l.txt#1", b"gs://lists/b.jpg"]


def test_shards(tmp_path):
    tar = data.write_tar(tmp_path / "a.tar", {"x.png": b"x", "y.txt": b"y"})
    (image,) = input_images.images([str(tar)], "tar", None)
    assert (image.key, image.encoded) == (bytes(tar) + b"#x.png", b"x")
    records = [data.image_example(b"x", b"own"), b"none", data.image_example(b"z")]
    shard = data.write_tfrecords(tmp_path / "a.tfrecord", records)
    assert keys(shard, "tfrecord") == [b"own", bytes(shard) + b"#1", bytes(shard) + b"#2"]


@pytest.mark.parametrize("input_format", ["tar", "tfrecord"])
def test_a_shard_that_is_broken_stands_for_itself(tmp_path, input_format):
    (tmp_path / "shard").write_bytes(b"this is no shard")
    assert keys(tmp_path / "shard", input_format) == [bytes(tmp_path / "shard")]


def test_nothing_to_list(tmp_path):
    with pytest.raises(ValueError, match="matches nothing"):
        keys(tmp_path / "none*")
    with pytest.raises(ValueError, match="cannot be listed"):
        keys("gs://")


# Places.


def check(runs, listed):
    """Returns the problems and notes about listed images, `(key, version)`, by kind.

    Args:
      runs: of the output; all but the last are not checked.
      listed: the images.
    """
    findings, recorded, versions = Findings(), Identities(), Identities()

    def take(record):
        recorded.add(identity(record.key))
        versions.add(identity(record.key, record.version))

    for run in runs:
        run.check(ContentVectors(), take, Findings())
    input_images.check(lambda: [Image(*image) for image in listed], runs[-1:], recorded, versions, findings)
    return {kind: items.first for kind, items in (findings.problems | findings.notes).items()}


@pytest.fixture
def runs(tmp_path):
    outputs.write_run(tmp_path, [embedding(b"/a", 1), embedding(b"/b", 2), embedding(b"/c", 3)], run_id="1")
    outputs.write_run(tmp_path, [embedding(b"/c", 4, "2"), embedding(b"/d", 5)], [failure(b"/x")], run_id="2")
    stored = Stored(str(tmp_path))
    return [RunFiles(stored, run_id, schema_file.COLUMNS) for run_id in ("1", "2")]


ALL = [(b"/a", b"1"), (b"/b", b"1"), (b"/c", b"2"), (b"/d", b"1"), (b"/x", b"1")]


def test_each_image_has_its_place(runs):
    assert check(runs, ALL) == {}


def test_images_of_lists_have_no_version(runs):
    assert check(runs, [(key, None) for key, _ in ALL]) == {}


def test_an_image_that_two_lists_name_is_one(runs):
    findings = Findings()
    images = [Image(key, None) for key, _ in ALL]
    input_images.check(lambda: [*images, *images], runs, Identities(), Identities(), findings)
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
    stored = Stored(str(tmp_path))
    runs = [RunFiles(stored, run_id, schema_file.COLUMNS) for run_id in ("1", "2")]
    findings, recorded = Findings(), Identities()
    for run in runs:
        run.check(ContentVectors(), lambda record: recorded.add(identity(record.key)), findings)
    listed = [Image(key, None) for key in (b"/a", b"/b", b"/x", b"/y")]
    input_images.check(lambda: listed, runs, recorded, recorded, findings)
    assert findings.total == 0 and not findings.notes


def test_only_an_image_of_the_latest_run_may_have_changed_since(runs):
    findings, recorded, versions = Findings(), Identities(), Identities()
    for run in runs:
        run.check(ContentVectors(), lambda record: recorded.add(identity(record.key)), Findings())
    listed = [Image(b"/a", b"2"), Image(b"/d", b"2")]
    input_images.check(lambda: listed, runs, recorded, versions, findings)
    assert {kind: items.first for kind, items in findings.problems.items()} == {
        "an image of the input has a record of another version only": ["/a"]
    }
    assert findings.notes["an image of the input has changed since the run"].first == ["/d"]
