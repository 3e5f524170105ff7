"""Fixtures that tests of the job share."""

import shutil

import pytest

from pipeline.attempts import interruption
from tests.helpers.earlier_runs import write_runs
from tests.helpers.running import Left


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
