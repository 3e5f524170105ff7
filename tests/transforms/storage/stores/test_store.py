"""transforms.storage.stores.store: paths, and objects that are written as a whole."""

import gc
import io
import tracemalloc

import pytest

from transforms.storage.stores import store


@pytest.mark.parametrize("scheme", ["gs", "s3", "az"])
@pytest.mark.parametrize("rest", ["", "/a", "b*/a", "b?/a", "b[1]/a"])
def test_paths_without_a_bucket(scheme, rest):
    for call in (store.split, store.object_of):
        with pytest.raises(ValueError, match=f"expected {scheme}://BUCKET/NAME"):
            call(f"{scheme}://{rest}")


@pytest.mark.parametrize("name", ["a", "a/b", "a//b/", "/", "*[?", "é\n\x00", "gs://c/d", "..a", "../a"])
def test_a_path_has_a_bucket_and_a_name(name):
    assert store.split(f"gs://photos/{name}") == store.object_of(f"gs://photos/{name}") == ("photos", name)


def test_a_bucket_alone():
    assert store.split("s3://photos") == store.split("s3://photos/") == ("photos", "")


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_names_that_no_object_has(name):
    with pytest.raises(ValueError, match="s3://BUCKET/NAME of an object"):
        store.object_of(f"s3://photos/{name}")


def test_ranges_have_their_start_and_not_their_end():
    names = ["a", "b", "ba", "c"]
    assert [name for name in names if store.in_range(name, "b", "c")] == ["b", "ba"]
    assert [name for name in names if store.in_range(name, "", "b")] == ["a"]
    assert [name for name in names if store.in_range(name, "b", "")] == ["b", "ba", "c"]
    assert all(store.in_range(name, "", "") for name in names)


class Uploads(list):
    """What was uploaded."""

    def __call__(self, file):
        self.append(file.read())


def test_a_file_is_uploaded_once_when_it_is_closed():
    uploads = Uploads()
    with store.written_whole(uploads) as file:
        assert file.write(b"one ") == 4 and file.write(memoryview(b"two")) == 3
        assert file.tell() == 7 and file.writable() and not uploads
    assert uploads == [b"one two"] and file.closed
    file.close()
    del file
    gc.collect()
    assert uploads == [b"one two"]


def test_a_file_without_content_is_an_object_too():
    uploads = Uploads()
    store.written_whole(uploads).close()
    assert uploads == [b""]


def test_nothing_is_uploaded_if_the_block_raises():
    uploads = Uploads()
    with pytest.raises(KeyError), store.written_whole(uploads) as file:
        file.write(b"half")
        raise KeyError
    file.close()
    assert not uploads and file.closed


def test_nothing_is_uploaded_of_a_file_that_is_forgotten():
    uploads = Uploads()
    store.written_whole(uploads).write(b"half")
    gc.collect()
    assert not uploads


def test_an_upload_that_fails_raises_and_is_not_tried_by_a_second_close():
    calls = []

    def refuse(file):
        calls.append(file.read())
        raise PermissionError("403")

    file = store.written_whole(refuse)
    file.write(b"one")
    with pytest.raises(PermissionError):
        file.close()
    file.close()
    assert file.closed and calls == [b"one"]


def test_wrapped_files_are_uploaded_whole():
    """As pyarrow, tarfile and gzip write: in their own blocks, and with a buffer."""
    uploads = Uploads()
    with io.BufferedWriter(store.written_whole(uploads), 10) as file:
        for number in range(100):
            file.write(b"%d," % number)
    assert uploads == [b"".join(b"%d," % number for number in range(100))]


def test_a_large_file_is_not_held_in_memory():
    sizes = []

    def upload(file):
        while block := file.read(2**20):
            sizes.append(len(block))

    block = bytes(2**20)
    tracemalloc.start()
    try:
        with store.written_whole(upload) as file:
            for _ in range(64):
                file.write(block)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(sizes) == 2**26 and peak < 2**23


@pytest.mark.parametrize(("version", "text"), [("", "no such object"), (None, "no such object"), ("7", "of version 7")])
def test_an_object_that_is_gone_is_named_with_its_version(version, text):
    error = store.gone("gs://b/a", version)
    assert type(error) is FileNotFoundError and str(error).startswith("gs://b/a: no such object")
    assert str(error).endswith(text)
