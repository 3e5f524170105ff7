"""The command on files that are none, and on buckets that cannot be reached: it neither hangs nor loses anything."""

import os
import socket
import time

import pytest

from tests.helpers import data_generation as data
from tests.helpers.emulators import free_port, write_credentials
from tests.helpers.running import run_pipeline

pytestmark = pytest.mark.slow


def test_a_directory_of_things_that_are_no_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    photos = tmp_path / "photos [2024]"
    good, *_ = data.write_images(photos / "album", 1)
    os.mkfifo(photos / "pipe.jpg")
    (photos / "zero.jpg").symlink_to("/dev/zero")
    (photos / "loop.jpg").symlink_to("loop.jpg")
    (photos / "dangling.jpg").symlink_to("nothing")
    (photos / "folder.jpg").symlink_to("album")  # is listed under its own name
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("photos [2024]/socket.jpg")
        run = run_pipeline(tmp_path / "out", "--input", photos, timeout=120)
    assert run.code == 0, run.stderr
    assert run.counts == {"listed": 6, "embedded": 1, "failed": 5}
    assert list(run.vectors()) == [os.fsencode(good)]
    reasons = {
        "pipe.jpg": "not a regular file: a named pipe",
        "zero.jpg": "not a regular file: a link to a device",
        "socket.jpg": "not a regular file: a socket",
        "loop.jpg": "not a regular file: links in a loop",
        "dangling.jpg": "a link to a file that does not exist",
    }
    assert {failure["key"]: failure["message"] for failure in run.failures} == {
        f"{photos}/{name}": f"{reason}: '{photos}/{name}'" for name, reason in reasons.items()
    }


def test_a_file_whose_name_has_brackets(tmp_path):
    first, second = data.write_images(tmp_path, 2)
    named = first.rename(tmp_path / "a[1].jpg")
    second.rename(tmp_path / "a1.jpg")
    run = run_pipeline(tmp_path / "out", "--input", named)
    assert run.code == 0, run.stderr
    assert list(run.vectors()) == [os.fsencode(named)]


@pytest.mark.parametrize("flag", ["--input", "--output"])
@pytest.mark.parametrize("server", ["closed", "silent"])
def test_a_bucket_that_cannot_be_reached(tmp_path, flag, server):
    with socket.socket() as listener:
        if server == "silent":
            listener.bind(("127.0.0.1", 0))
            listener.listen(64)
        port = listener.getsockname()[1] if server == "silent" else free_port()
        environment = {
            "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}",
            "GOOGLE_CLOUD_PROJECT": "test",
            "GOOGLE_APPLICATION_CREDENTIALS": str(write_credentials(tmp_path)),
        }
        output = tmp_path / "out"
        flags = ["--input", "gs://photos/*"] if flag == "--input" else ["--output", "gs://photos/out"]
        start = time.monotonic()
        run = run_pipeline(output, *flags, env=os.environ | environment)
    # The launch has 20 s. Importing takes some of it, and more where other tests run beside.
    assert time.monotonic() - start < 40
    assert run.code == 2
    (line,) = run.stderr.splitlines()
    verb = "listed" if flag == "--input" else "written"
    assert f"{flag} '{flags[1]}' cannot be {verb}: no connection to 127.0.0.1:{port} (" in line
    assert line.endswith("check the network or STORAGE_EMULATOR_HOST")
