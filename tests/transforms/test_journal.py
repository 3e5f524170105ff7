"""transforms.journal: which image a thread was at when its process died."""

import os
import signal
import subprocess
import sys

import pytest

from transforms.journal import KEY_BYTES, Journal, read

SCRIPT = """
import os, signal, sys
from transforms.journal import Journal
journal = Journal(sys.argv[1])
with journal.at(b"first.jpg"):
    pass
with journal.at(b"second, with a longer name.jpg"):
    pass
if sys.argv[2] == "inside":
    journal.at(b"b.jpg").__enter__()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("moment", "key"), [("inside", b"b.jpg"), ("between", None)])
def test_it_outlives_a_process_that_is_killed(tmp_path, moment, key):
    path = str(tmp_path / "directory" / "x.key")
    process = subprocess.run([sys.executable, "-c", SCRIPT, path, moment], cwd=os.getcwd(), check=False)
    assert process.returncode == -signal.SIGKILL
    assert read(path) == key


def test_an_error_inside_ends_it(tmp_path):
    journal = Journal(str(tmp_path / "x.key"))
    with pytest.raises(ValueError, match="broken"), journal.at(b"a.jpg"):
        raise ValueError("broken")
    assert read(str(tmp_path / "x.key")) is None


def test_a_long_key_is_cut(tmp_path):
    journal = Journal(str(tmp_path / "x.key"))
    with journal.at(b"k" * 10_000):
        assert read(str(tmp_path / "x.key")) == b"k" * KEY_BYTES


@pytest.mark.parametrize("content", [b"", b"\x09", b"\xff\xff"])
def test_half_a_journal_names_no_image(tmp_path, content):
    (tmp_path / "x.key").write_bytes(content)
    assert read(str(tmp_path / "x.key")) is None
