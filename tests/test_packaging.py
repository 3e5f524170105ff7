"""The distributions: a wheel and an sdist, each used from an empty directory, with nothing but what they hold."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from pipeline.flags import options
from tests.helpers.running import ROOT

SAMPLES = {path.name for path in Path(options.SAMPLES).parent.iterdir()}


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """Builds the sdist, and from it the wheel, by the setuptools of this environment: another would be fetched."""
    directory = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", directory, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    return directory


def test_the_wheel_holds_the_data_and_no_tests(dist):
    (wheel,) = dist.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"pipeline/samples/images/{name}" for name in SAMPLES} <= names
    assert {
        "run_pipeline.py",
        "pipeline/commands/quote/prices.toml",
        "pipeline/samples/SOURCES.md",
        "transforms/models/weights/efficientnet_lite0.npz",
        "transforms/models/weights/SOURCES.md",
    } <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "examples/"))]
    assert wheel.stat().st_size < 15 * 2**20


def test_the_sdist_holds_what_the_wheel_is_built_from(dist):
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as tar:
        names = {name.split("/", 1)[-1] for name in tar.getnames()}
    assert {"setup.py", "LICENSE", "README.md", "transforms/models/weights/efficientnet_lite0.npz"} <= names


@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"], ids=["wheel", "sdist"])
def test_installed_it_embeds_the_samples_from_an_empty_directory(dist, tmp_path, kind):
    (distribution,) = dist.glob(kind)
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    flags = ["--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([sys.executable, "-m", "pip", "install", *flags, "--target", site, distribution], check=True)
    # Not this checkout: python -P leaves the current directory out, PYTHONPATH comes before site-packages.
    code = f"import pipeline; assert pipeline.__file__.startswith({str(site)!r}), pipeline.__file__"
    env = os.environ | {"PYTHONPATH": str(site)}
    subprocess.run([sys.executable, "-c", code], cwd=empty, env=env, check=True)
    command = site / "bin" / "embed-images"
    done = subprocess.run([sys.executable, command], cwd=empty, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (report,) = (empty / "output" / "runs").glob("*.json")
    counts = json.loads(report.read_text())["counts"]
    assert counts["listed"] == counts["embedded"] == len(SAMPLES)
