"""transforms.decoders.journal: which image a thread was at when its process died."""

import gc
import os
import signal
import subprocess
import sys

import pytest

from tests.helpers import descriptors
from transforms.decoders.journal import NAME_BYTES, Journal, key, name, read
from transforms.elements.records import ImageRef

SCRIPT = """
import os, signal, sys
from transforms.decoders.journal import Journal
from transforms.elements.records import ImageRef
journal = Journal(sys.argv[1])
with journal.at(ImageRef(b"first.jpg", "1")):
    pass
with journal.at(ImageRef(b"second, with a longer name.jpg", "22")):
    pass
if sys.argv[2] == "inside":
    kept = journal.at(ImageRef(b"b.jpg", "3"))
    kept.__enter__()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("moment", "image"), [("inside", b"3\0b.jpg"), ("between", None)])
def test_it_outlives_a_process_that_is_killed(tmp_path, moment, image):
    path = str(tmp_path / "directory" / "x.key")
    process = subprocess.run([sys.executable, "-c", SCRIPT, path, moment], cwd=os.getcwd(), check=False)
    assert process.returncode == -signal.SIGKILL
    assert read(path) == image


def test_an_error_inside_ends_it(tmp_path):
    journal = Journal(str(tmp_path / "x.key"))
    with pytest.raises(ValueError, match="broken"), journal.at(ImageRef(b"a.jpg")):
        raise ValueError("broken")
    assert read(str(tmp_path / "x.key")) is None


def test_a_long_key_is_cut(tmp_path):
    journal = Journal(str(tmp_path / "x.key"))
    ref = ImageRef(b"k" * 10_000, "7")
    with journal.at(ref):
        assert read(str(tmp_path / "x.key")) == name(ref) == b"7\0" + b"k" * (NAME_BYTES - 2)


def test_another_version_is_another_image():
    names = {name(ImageRef(b"a\0.jpg", version)) for version in ("", "1", "2")}
    assert len(names) == 3 and {key(each) for each in names} == {b"a\0.jpg"}


@pytest.mark.parametrize("content", [b"", b"\x09", b"\xff\xff", b"\x05a.jpg", b"\x02\x007\0"])
def test_half_a_journal_names_no_image(tmp_path, content):
    (tmp_path / "x.key").write_bytes(content)
    assert read(str(tmp_path / "x.key")) is None


def test_a_journal_is_of_one_thread(tmp_path):
    path = str(tmp_path / "x.key")
    own = Journal(path)
    with pytest.raises(FileExistsError):
        Journal(path)
    with own.at(ImageRef(b"a.jpg")):
        assert key(read(path)) == b"a.jpg"


def test_a_journal_that_is_gone_leaves_no_descriptor_open(tmp_path):
    for number in range(3):
        Journal(str(tmp_path / f"{number}.key"))
    assert descriptors.of(tmp_path) == 0


def test_of_a_journal_that_cannot_be_made_one_error_is_seen(tmp_path, monkeypatch):
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    (tmp_path / "journal").touch()
    with pytest.raises(FileExistsError):
        Journal(str(tmp_path / "journal"))
    gc.collect()
    assert unraisable == []
