"""transforms.models.notes: what is noted beside a model is read back, and a note of anyone else's is an error."""

import json
import tracemalloc

import pytest

from transforms.models import notes


def write_file(directory, content):
    path = directory / notes.FILE
    path.parent.mkdir()
    path.write_bytes(content)


def test_a_note_is_read_back(tmp_path):
    notes.write(tmp_path, (240, 320), handle="https://tfhub.dev/google/module/1")
    assert notes.image_size(tmp_path) == (240, 320)
    assert notes.handle(tmp_path) == "https://tfhub.dev/google/module/1"
    # Loaders of SavedModels pass over this directory: https://www.tensorflow.org/guide/saved_model.
    assert json.loads((tmp_path / "assets.extra" / "image_model.json").read_text()) == {
        "image_size": [240, 320],
        "handle": "https://tfhub.dev/google/module/1",
    }


def test_the_last_note_counts(tmp_path):
    notes.write(tmp_path, (8, 8))
    notes.write(tmp_path, (9, 7))
    assert notes.image_size(tmp_path) == (9, 7)


def test_a_model_without_a_note(tmp_path):
    assert (notes.read_text(tmp_path), notes.handle(tmp_path), notes.image_size(tmp_path)) == ("", "", None)


def test_a_note_need_not_name_the_size_or_the_handle(tmp_path):
    write_file(tmp_path, notes.text(None, files_digest="f").encode())
    assert (notes.handle(tmp_path), notes.image_size(tmp_path)) == ("", None)


def test_the_content_is_all_of_it_whatever_it_holds(tmp_path):
    write_file(tmp_path, b'{"image_size": [8, 8], "by": "caf\xe9"}\n')
    assert notes.read_text(tmp_path) == '{"image_size": [8, 8], "by": "caf�"}\n'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "expected JSON"),
        (b"\xff", "expected JSON"),
        (b"[8, 8]", "expected a JSON object"),
        (b"[" * 100_000, "expected JSON"),
        (b" " * (2**20 + 1), "expected a note of at most 1048576 bytes"),
        (b'{"image_size": [1e999, 8]}', r'expected {"image_size": \[height, width\]}'),
        (b'{"image_size": [8]}', r'expected {"image_size": \[height, width\]}'),
        (b'{"image_size": [8, 8, 3]}', r'expected {"image_size": \[height, width\]}'),
        (b'{"image_size": ["wide", 8]}', r'expected {"image_size": \[height, width\]}'),
    ],
)
def test_a_note_of_anyone_elses_is_an_error_that_names_the_file(tmp_path, content, said):
    write_file(tmp_path, content)
    with pytest.raises(ValueError, match=f"image_model.json': {said}"):
        notes.image_size(tmp_path)


def test_a_file_that_is_too_large_for_a_note_is_not_read_whole(tmp_path):
    write_file(tmp_path, b"")
    with (tmp_path / notes.FILE).open("wb") as file:
        file.truncate(2**28)
    tracemalloc.start()
    try:
        for read in (notes.image_size, notes.handle, notes.read_text):
            with pytest.raises(ValueError, match="expected a note of at most 1048576 bytes"):
                read(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
