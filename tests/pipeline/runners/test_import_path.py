"""pipeline.runners.import_path: a started process imports this project, and not what its working directory holds."""

import os
import subprocess
import sys

import pipeline
from pipeline.runners import import_path

_WHICH = [sys.executable, "-c", "import pipeline, transforms; print(pipeline.__file__)"]


def test_a_process_that_starts_beside_packages_of_these_names_imports_this_project(tmp_path):
    for name in ("pipeline", "transforms"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('another package')")
    with import_path.for_children():
        found = subprocess.run(_WHICH, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert found.strip() == pipeline.__file__


def test_the_environment_is_as_before(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/a")
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    before = dict(os.environ)
    with import_path.for_children():
        assert os.environ["PYTHONPATH"].endswith(f"{os.pathsep}/a")
    assert dict(os.environ) == before
