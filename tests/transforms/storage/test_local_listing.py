"""transforms.storage.local_listing: what a glob matches, whatever it is."""

import os
import socket

import pytest

from transforms.storage import files, local_listing


def listed(pattern):
    """Returns what a pattern matches: size by path, None for what is no file."""
    return {path: metadata and metadata.size_in_bytes for path, metadata in local_listing.match(str(pattern))}


def fill(directory, *names):
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))


def test_files_as_beam_lists_them(tmp_path):
    fill(tmp_path, "a.jpg", "b.png", "sub/c.jpg", "sub/deep/d.jpg", "name [1].jpg", "new\nline.jpg", "back\\slash.jpg")
    for pattern in (
        "*.jpg",
        "**",
        "**.jpg",
        "*/*.jpg",
        "sub/**",
        "?.jpg",
        "a.jpg",
        "[ab].*",
        "no*",
        "gone.jpg",
        "gone/*",
    ):
        by_beam = {file.path: file.size_in_bytes for file in files.match(f"{tmp_path}/{pattern}")}
        assert listed(f"{tmp_path}/{pattern}") == by_beam, pattern
        versions = {files.version(metadata) for _, metadata in local_listing.match(f"{tmp_path}/{pattern}") if metadata}
        assert versions == {files.version(file) for file in files.match(f"{tmp_path}/{pattern}")}


def test_what_is_no_file_is_listed_too(tmp_path):
    fill(tmp_path, "good.jpg", "album/inside.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    for name, target in {
        "zero.jpg": "/dev/zero",
        "loop.jpg": "loop.jpg",
        "dangling.jpg": "nothing",
        "folder.jpg": "album",
        "link.jpg": "good.jpg",
    }.items():
        (tmp_path / name).symlink_to(target)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.jpg"))
        assert listed(tmp_path / "**.jpg") == {
            f"{tmp_path}/{name}": size
            for name, size in {
                "good.jpg": 8,
                "link.jpg": 8,
                "album/inside.jpg": 16,
                "pipe.jpg": None,
                "zero.jpg": None,
                "loop.jpg": None,
                "dangling.jpg": None,
                "folder.jpg": None,
                "socket.jpg": None,
            }.items()
        }
    assert listed(tmp_path / "pipe.jpg") == {f"{tmp_path}/pipe.jpg": None}


def test_a_name_with_brackets_is_a_name_where_it_exists(tmp_path):
    fill(tmp_path, "a[1].jpg", "a1.jpg", "[2024] b/1.jpg", "2 b/2.jpg")
    assert list(listed(tmp_path / "a[1].jpg")) == [f"{tmp_path}/a[1].jpg"]
    assert list(listed(tmp_path / "[2024] b/**")) == [f"{tmp_path}/[2024] b/1.jpg"]
    (tmp_path / "a[1].jpg").unlink()
    assert list(listed(tmp_path / "a[1].jpg")) == [f"{tmp_path}/a1.jpg"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root lists any directory")
def test_a_directory_that_may_not_be_listed_is_listed_itself(tmp_path):
    fill(tmp_path, "good.jpg", "closed/inside.jpg")
    (tmp_path / "closed").chmod(0)
    try:
        assert listed(tmp_path / "**") == {f"{tmp_path}/good.jpg": 8, f"{tmp_path}/closed": None}
        assert listed(tmp_path / "*.jpg") == {f"{tmp_path}/good.jpg": 8}
        with pytest.raises(PermissionError, match="a directory that may not be listed"):
            files.metadata(str(tmp_path / "closed"))
    finally:
        (tmp_path / "closed").chmod(0o700)
