"""pipeline.commands.verify.stored: the files of an output, and nothing that is no file."""

import os
import tracemalloc

import pytest

from pipeline.commands.verify.stored import NotRegular, Stored


def make(output, *names):
    for name in names:
        path = output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content")


def test_the_files_of_an_output(tmp_path):
    names = ["embeddings/r/.parts/x.tfrecord", "embeddings/r/part-0", "runs/r.json", "schema.pbtxt"]
    make(tmp_path, *names, "notes.txt", ".temp/x")
    assert Stored(str(tmp_path)).names == names


def test_no_output(tmp_path):
    assert Stored(str(tmp_path / "none")).names == []


def test_what_lies_there_in_place_of_files(tmp_path):
    make(tmp_path, "runs", "failures/r/x")
    (tmp_path / "failures" / "r" / "link").symlink_to(tmp_path)
    (tmp_path / "failures" / "r" / "gone").symlink_to(tmp_path / "none")
    os.mkfifo(tmp_path / "failures" / "r" / "pipe")
    stored = Stored(str(tmp_path))
    assert stored.names == ["failures/r/gone", "failures/r/link", "failures/r/pipe", "failures/r/x", "runs"]
    for name in ("failures/r/link", "failures/r/pipe"):
        with pytest.raises(NotRegular, match="expected a regular file"):
            stored.open(name)
    with pytest.raises(FileNotFoundError):
        stored.open("failures/r/gone")


def test_reading(tmp_path):
    make(tmp_path, "runs/r.json", "runs/\udcff.json.gz")
    stored = Stored(str(tmp_path))
    assert [stored.read(name, 7) for name in stored.names] == [b"content"] * 2
    with pytest.raises(ValueError, match="expected at most 6 bytes"):
        stored.read("runs/r.json", 6)


@pytest.mark.slow
def test_a_bucket(cloud):
    from google.cloud import storage

    storage.Client().create_bucket("stored")
    for name in ("out/embeddings/r/.parts/x", "out/runs/r.json", "out/schema.pbtxt", "out/other", "out2/runs/x"):
        storage.Client().bucket("stored").blob(name).upload_from_string(b"content")
    stored = Stored("gs://stored/out")
    assert stored.names == ["embeddings/r/.parts/x", "runs/r.json", "schema.pbtxt"]
    assert stored.read("runs/r.json", 7) == b"content"


def test_a_file_that_is_too_large_is_not_read_whole(tmp_path):
    make(tmp_path, "runs/r.json")
    os.truncate(tmp_path / "runs" / "r.json", 2**28)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="expected at most 1,000 bytes"):
            Stored(str(tmp_path)).read("runs/r.json", 1000)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
