"""docs/library.md and the examples in docstrings: they run as they stand."""

import doctest
import importlib
import os
import re
import subprocess
import sys

import pytest

import transforms
from tests.helpers import data_generation as data
from tests.helpers.running import ROOT
from transforms.encoding import vectors
from transforms.storage import files

EXAMPLES = sorted({getattr(transforms, name).__module__ for name in transforms.__all__} | {"transforms.elements.keys"})


@pytest.mark.slow
def test_the_pipeline_of_your_own(tmp_path):
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "library.md").read_text(), re.DOTALL)
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    (tmp_path / "photos" / "a.jpg").write_bytes(data.jpeg(1))
    (tmp_path / "photos" / "sub" / "b.jpg").write_bytes(data.jpeg(2))
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"no image")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
    shards = (tmp_path / "vectors" / "embeddings" / "first").glob("part-*.tfrecord")
    table = vectors.read(sorted(map(str, shards)), files.open_stored)
    assert {key.rpartition(b"/")[2] for key in table.keys} == {b"a.jpg", b"b.jpg"} and table.matrix.shape == (2, 1280)
    (failures,) = (tmp_path / "vectors" / "failures" / "first").iterdir()
    assert '"stage": "decode", "error": "UnknownFormat"' in failures.read_text()


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples_in_docstrings(module, monkeypatch):
    monkeypatch.chdir(ROOT)
    failed, attempted = doctest.testmod(importlib.import_module(module))
    assert not failed and attempted


@pytest.mark.parametrize("name", transforms.__all__)
def test_each_published_transform_has_an_example(name):
    assert ">>> " in getattr(transforms, name).__doc__


@pytest.mark.parametrize("name", transforms.__all__)
def test_the_table_of_stages_has_each(name):
    assert f"| `{name}` |" in (ROOT / "docs" / "library.md").read_text()
