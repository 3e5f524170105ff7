"""pipeline.commands.listed_images: what a run of some flags would list."""

import os

import pytest

from pipeline.commands.listed_images import ListedImages
from tests.helpers import cloud_storage
from tests.helpers import data_generation as data
from transforms.storage.stores import gcs


def keys(path, input_format="images"):
    return [image.key for image in ListedImages([str(path)], input_format)]


def test_images(tmp_path):
    for name in ("a.jpg", "caf\udce9.jpg"):
        (tmp_path / name).write_bytes(b"image")
    listed = sorted(ListedImages([f"{tmp_path}/*"]))
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
    listed = ListedImages([pattern], include_hidden=True)
    assert sorted(image.key for image in listed) == [bytes(tmp_path / "._a.jpg"), *expected]
    tar = data.write_tar(tmp_path / "a.tar", {"x.png": b"x", "._x.png": b"y"})
    assert keys(tar, "tar") == [bytes(tar) + b"#x.png"]
    (tmp_path / "l.csv").write_text("place;n\na.jpg;1\n")
    (image,) = ListedImages([f"{tmp_path}/l.csv"], "list", uri_column="place")
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
    (image,) = ListedImages([str(tar)], "tar")
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


def test_the_images_are_listed_anew_each_time(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"image")
    images = ListedImages([f"{tmp_path}/*"])
    assert len(list(images)) == 1
    (tmp_path / "b.jpg").write_bytes(b"image")
    assert len(list(images)) == 2
