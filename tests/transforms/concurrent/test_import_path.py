"""transforms.concurrent.import_path: a started process imports this project, not what its working directory holds."""

import os
import site
import subprocess
import sys
from pathlib import Path

import transforms
from transforms.concurrent import import_path

_WHICH = [sys.executable, "-c", "import pipeline, transforms; print(transforms.__file__)"]


def test_a_process_that_starts_beside_packages_of_these_names_imports_this_project(tmp_path):
    for name in ("pipeline", "transforms"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('another package')")
    with import_path.for_children():
        found = subprocess.run(_WHICH, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert found.strip() == transforms.__file__


def test_the_environment_is_as_before(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/a")
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    before = dict(os.environ)
    with import_path.for_children():
        assert os.environ["PYTHONPATH"].endswith(f"{os.pathsep}/a")
    assert dict(os.environ) == before


def test_what_is_installed_does_not_come_before_pythons_own_modules(monkeypatch):
    root = str(Path(transforms.__file__).parents[1])
    monkeypatch.setattr(site, "getsitepackages", lambda: [root])
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert import_path.variables() == {"PYTHONSAFEPATH": "1"}
