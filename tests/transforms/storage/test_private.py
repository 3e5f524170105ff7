"""transforms.storage.private: a directory of one's own, or none."""

import os
from pathlib import Path

import pytest

from transforms.storage import private

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to another user")


def test_a_new_directory_is_ones_own_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        made = private.make(tmp_path / "a" / "b", "CACHE")
    finally:
        os.umask(before)
    assert made.stat().st_mode & 0o777 == 0o700
    assert private.make(made, "CACHE") == made


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_a_directory_that_others_may_write_to_is_refused(tmp_path, mode):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(mode)
    with pytest.raises(private.NotPrivate, match=rf"^CACHE='.*shared' may be written .* mode {mode:o}: .*`chmod go-w "):
        private.make(tmp_path / "shared", "CACHE")
    (tmp_path / "link").symlink_to(tmp_path / "shared")
    with pytest.raises(private.NotPrivate, match="^CACHE='.*link' may be written by others"):
        private.make(tmp_path / "link", "CACHE")


def test_a_directory_of_ones_own_in_a_sticky_one_is_taken(tmp_path):
    tmp_path.chmod(0o1777)
    (tmp_path / "mine").mkdir(mode=0o755)
    assert private.make(tmp_path / "mine", "CACHE")


@AS_ROOT
@pytest.mark.parametrize("link", [False, True])
def test_a_directory_of_another_user_is_refused(tmp_path, link):
    path = tmp_path / "theirs"
    if link:
        path.symlink_to(tmp_path, target_is_directory=True)
    else:
        path.mkdir(mode=0o755)
    os.chown(path, 12345, -1, follow_symlinks=False)
    with pytest.raises(private.NotPrivate, match="^CACHE='.*theirs' belongs to user 12345: "):
        private.make(path, "CACHE")


def test_a_file_is_no_directory(tmp_path):
    Path(tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        private.make(tmp_path / "file", "CACHE")


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o757])
def test_one_bit_for_others_is_enough(tmp_path, mode):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(mode)
    with pytest.raises(private.NotPrivate, match="may be written by others"):
        private.make(tmp_path / "shared", "CACHE")
    (tmp_path / "shared").chmod(mode & 0o755)
    assert private.make(tmp_path / "shared", "CACHE") == tmp_path / "shared"


@AS_ROOT
def test_a_link_of_ones_own_to_a_directory_of_another_user_is_refused(tmp_path):
    (tmp_path / "theirs").mkdir(mode=0o755)
    os.chown(tmp_path / "theirs", 12345, -1)
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    with pytest.raises(private.NotPrivate, match="^CACHE='.*link' belongs to user 12345: "):
        private.make(tmp_path / "link", "CACHE")


@AS_ROOT
def test_a_directory_of_root_is_taken_by_any_user(tmp_path, monkeypatch):
    """Root may write anywhere in any case."""
    (tmp_path / "theirs").mkdir(mode=0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert private.make(tmp_path / "theirs", "CACHE") == tmp_path / "theirs"
    os.chown(tmp_path / "theirs", 12346, -1)
    with pytest.raises(private.NotPrivate, match="belongs to user 12346"):
        private.make(tmp_path / "theirs", "CACHE")
