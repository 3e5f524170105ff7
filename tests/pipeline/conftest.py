"""Fixtures that tests of the job share."""

import shutil

import pytest

from pipeline import graph, launch
from pipeline.attempts import interruption
from tests.helpers import data_generation as data
from tests.helpers.earlier_runs import write_runs
from tests.helpers.running import THREAD, Left, Run


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A directory that three runs have written to, the last with another model."""
    directory = tmp_path_factory.mktemp("written")
    write_runs(directory)
    return directory


@pytest.fixture
def output(written, tmp_path):
    """The same, for this test alone."""
    return shutil.copytree(written, tmp_path / "output")


@pytest.fixture
def leaves(monkeypatch):
    """Raises Left in the place of the end of this process."""

    def leave(code):
        raise Left(code)

    monkeypatch.setattr(interruption, "leave", leave)


@pytest.fixture
def start(tmp_path, monkeypatch, capfd):
    """Runs the command into an output of the test's own, and returns what it left."""
    logs = tmp_path / "logs"
    logs.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(logs))

    def run(*flags):
        code = launch.main([f"--output={tmp_path / 'out'}", *THREAD, *map(str, flags)])
        return Run(code, *capfd.readouterr(), tmp_path / "out")

    return run


@pytest.fixture
def photos(tmp_path):
    """Three images and one that is none."""
    data.write_images(tmp_path / "photos", 3, height=24, width=32)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no image")
    return f"--input={tmp_path / 'photos'}"


@pytest.fixture
def instead(monkeypatch):
    """Puts another job in the place of ours."""

    def replace(build):
        monkeypatch.setattr(graph, "build", lambda pipeline, *_, **__: build(pipeline))

    return replace
