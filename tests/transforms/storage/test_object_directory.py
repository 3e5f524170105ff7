"""transforms.storage.object_directory: a directory in a bucket is whole, or has no marker."""

import pytest

from transforms.storage import complete, http_get, object_directory
from transforms.storage.context import DEFAULT_STORAGE, Storage
from transforms.storage.errors import Forbidden, StorageError
from transforms.storage.stores import gcs
from transforms.storage.stores.store import Stored
from transforms.storage.versioned import ChangedSinceListed

ENTRIES = ("marker", "deep", "note")


def put(names, content=b"x"):
    for name in names:
        gcs.client().bucket("photos").blob(name).upload_from_string(content)


def names():
    return sorted(blob.name for blob in gcs.client().list_blobs("photos"))


def below(path):
    return [found.path for found in object_directory.below(DEFAULT_STORAGE, path)]


def copy_here(directory, objects=None, storage=DEFAULT_STORAGE):
    """Copies the objects below gs://photos/m, or those that were listed there earlier."""
    objects = object_directory.below(storage, "gs://photos/m") if objects is None else objects
    object_directory.download(storage, objects, "gs://photos/m", directory)


def upload(contents, overwrite=False, path="gs://photos/m"):
    policy = {"markers": {"marker"}, "named": f"destination={path!r}", "overwrite": overwrite, "entries": ENTRIES}
    object_directory.upload(Storage("payer"), contents, path, **policy)


def test_what_lies_below_and_no_sibling(paging):
    put(["m/a", "m/deep/b", "m2/c", "mm", "n"])
    put(["m/", "m/deep/"], b"")
    for path in ("gs://photos/m", "gs://photos/m/"):
        assert below(path) == ["gs://photos/m/a", "gs://photos/m/deep/b"]
    assert below("gs://photos/n") == ["gs://photos/n"]
    assert below("gs://photos/none") == []
    assert len(below("gs://photos")) == len(below("gs://photos/")) == 5


def test_a_copy_here_and_each_request_billed(server, tmp_path):
    put(["m/a", "m/deep/b"], b"content")
    server.requests.clear()
    copy_here(tmp_path, storage=Storage("payer"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "deep" / "b").read_bytes() == b"content"
    assert len(server.requests) == 3
    assert all(query["userProject"] == ["payer"] for query in server.queries())


def test_only_the_listed_generations_are_copied(paging, tmp_path):
    put(["m/a"], b"old")
    objects = object_directory.below(DEFAULT_STORAGE, "gs://photos/m")
    put(["m/a"], b"new")
    with pytest.raises(
        ChangedSinceListed, match=f"m/a: expected version {objects[0].version} as listed, found nothing"
    ):
        copy_here(tmp_path, objects)


def test_a_request_that_fails_is_sent_again(server, tmp_path):
    put(["m/a"], b"content")
    answers = [503, 429]
    server.answer = lambda url: answers.pop() if answers else None
    copy_here(tmp_path)
    assert (tmp_path / "a").read_bytes() == b"content" and not answers


@pytest.mark.parametrize("work", ["below", "download", "upload"])
def test_a_reply_that_never_comes_is_given_up(server, tmp_path, monkeypatch, work):
    put(["m/a"])
    objects = object_directory.below(DEFAULT_STORAGE, "gs://photos/m")
    monkeypatch.setattr(http_get, "TIMEOUT", (0.3, 0.3))
    for module in (gcs, http_get):
        monkeypatch.setattr(module, "RETRY", module.RETRY.with_timeout(1))
    if work == "upload":
        monkeypatch.setattr(object_directory, "below", lambda storage, path: [])
    server.delay = 2.5
    with pytest.raises(StorageError, match="Timeout of 1.0s exceeded"):
        if work == "below":
            object_directory.below(DEFAULT_STORAGE, "gs://photos/m")
        elif work == "download":
            copy_here(tmp_path, objects)
        else:
            upload({"marker": b"1"})


def test_a_name_that_leads_out_is_refused(tmp_path):
    for name in ("../../evil", "a/../../../evil", ".."):
        with pytest.raises(ValueError, match=f"leads out of its directory: 'gs://photos/m/{name}'"):
            copy_here(tmp_path, [Stored(f"gs://photos/m/{name}", "7", 1)])


def test_the_marker_is_written_last(server, tmp_path):
    (tmp_path / "file").write_bytes(b"from a file")
    upload({"marker": b"1", "deep/b": tmp_path / "file", "note": b"n"})
    assert names() == ["m/deep/b", "m/marker", "m/note"]
    assert gcs.client().bucket("photos").blob("m/deep/b").download_as_bytes() == b"from a file"
    assert all(query["userProject"] == ["payer"] for query in server.queries()[:4])
    uploads = []

    def refuse_the_second(url):
        uploads.append("uploadType" in url)
        return 403 if uploads[-1] and sum(uploads) == 2 else None

    server.answer = refuse_the_second
    with pytest.raises(Forbidden):
        upload({"marker": b"1", "note": b"n"}, path="gs://photos/other")
    assert "other/note" in names() and "other/marker" not in names()


def test_one_that_is_replaced_has_no_marker_meanwhile(server):
    upload({"marker": b"1", "deep/b": b"1", "note": b"n"})
    with pytest.raises(complete.Occupied, match="destination='gs://photos/m' exists: give another, or --overwrite"):
        upload({"marker": b"2"})
    server.answer = lambda url: 403 if "uploadType" in url else None
    with pytest.raises(Forbidden):
        upload({"marker": b"2", "note": b"2"}, overwrite=True)
    server.answer = lambda url: None
    assert names() == ["m/deep/b", "m/note"]
    upload({"marker": b"2", "note": b"2"})  # unfinished as it is, it is done anew unasked
    assert names() == ["m/marker", "m/note"]
    upload({"marker": b"3"}, overwrite=True)
    assert names() == ["m/marker"]
    assert gcs.client().bucket("photos").blob("m/marker").download_as_bytes() == b"3"


@pytest.mark.parametrize("stranger", ["m/thesis.tex", "m/work/thesis.tex", "m"])
@pytest.mark.parametrize("has_marker", [True, False])
def test_what_somebody_else_put_there_is_not_replaced(paging, stranger, has_marker):
    put([stranger, *(["m/marker"] if has_marker else [])])
    before = names()
    with pytest.raises(complete.Occupied, match="is not replaced, it holds more than this command writes"):
        upload({"marker": b"2"}, overwrite=True)
    assert names() == before


def test_a_file_with_another_checksum_than_listed_is_no_file_of_the_directory(paging, tmp_path):
    put(["m/a"], b"content")
    (listed,) = object_directory.below(DEFAULT_STORAGE, "gs://photos/m")
    object_directory.download(DEFAULT_STORAGE, [listed], "gs://photos/m", tmp_path)
    with pytest.raises(ChangedSinceListed, match="expected crc32c AAAAAA=="):
        object_directory.download(DEFAULT_STORAGE, [listed._replace(crc32c="AAAAAA==")], "gs://photos/m", tmp_path)
