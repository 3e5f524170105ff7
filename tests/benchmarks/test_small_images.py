"""Thumbnails with and without a simulated device, a few of them. No test asserts a rate that a machine has to reach."""

import json
import subprocess
import sys

import pytest

from benchmarks import contenders, machine, models, photographs, rounds, small_images, suite, table
from benchmarks.models import AVERAGES

IMAGES = 96  # three batches


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def results(cache):
    path = cache / "results.json"
    flags = ["--images", str(IMAGES), "--runs", "1", "--only", "small_images", "--cores", "1"]
    assert suite.main([*flags, "--cache", str(cache), "--json", str(path)]) == 0
    return json.loads(path.read_text())


@pytest.mark.slow
def test_all_contenders_work_and_those_with_vectors_agree(results):
    rows = results["small_images"]["contenders"]
    assert {row["name"] for row in rows} == {each.name for each in small_images.contenders([1])}
    for row in rows:
        (run,) = row["runs"]
        assert run["error"] is None and run["steady_state"] > 0
        assert row["kind"] == contenders.ROOF or run["cosine"][0] > 0.999
    assert f"{IMAGES} of 64×64" in table.text(results)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ours-threads", "ours-processes"])
def test_the_command_is_no_faster_than_its_device(results, cache, tmp_path, mode):
    devices = small_images.simulated_devices([1])
    contender = next(each for each in devices if (each.name, each.device_rate) == (mode, 500))
    photographs.lay_out(
        photographs.make(cache / photographs.THUMBNAILS, IMAGES, photographs.THUMBNAIL), tmp_path / "in"
    )
    saved_model = models.make(AVERAGES, cache)
    command = contender.command(tmp_path / "in", saved_model, AVERAGES, tmp_path / "out", cache)
    variables = contender.environment_variables(tmp_path / "out", cache)
    run = rounds.run(command, variables, tmp_path / "out", IMAGES, True, {})
    assert run.error is None
    assert 0 < run.steady_state < 500 * 1.01  # a clock's resolution, for 64 images


@pytest.mark.slow
def test_a_contender_on_one_core_has_one():
    code = "from transforms.concurrent.cores import usable_cores; print(usable_cores())"
    done = subprocess.run(
        [*machine.on_cores(1), sys.executable, "-c", code], cwd=models.ROOT, capture_output=True, check=True
    )
    assert done.stdout.split() == [b"1"]


@pytest.mark.parametrize("make", [small_images.contenders, small_images.simulated_devices])
def test_each_contender_has_a_directory_of_its_own(make):
    selection = make([1, 2])
    assert len({each.directory for each in selection}) == len(selection) == 2 * len(make([1]))


def test_ratios_are_to_tf_data_on_as_many_cores_and_to_the_fewest_cores(results_of):
    rates = {("ours-threads", 1): 100, ("ours-threads", 2): 180, ("tf-data", 1): 80, ("tf-data", 2): 120}
    rows = [results_of(name, cores, rate) for (name, cores), rate in rates.items()]
    lines = table.small_images_table({"images": 9, "runs": 1, "contenders": rows})
    cells = [line.split() for line in lines if line.startswith("ours")]
    assert [(cell[1], *cell[4:6]) for cell in cells] == [("1", "1.25", "1.00"), ("2", "1.50", "1.80")]


def test_a_device_is_compared_with_the_lesser_of_its_rate_and_what_the_cores_decode(results_of):
    rows = [results_of("ours-threads", 1, 450, 500), results_of("ours-threads", 1, 900, 2000)]
    lines = table.devices_table({"images": 9, "runs": 1, "contenders": [*rows, results_of("decode", 1, 1000)]})
    cells = [line.split() for line in lines if line.startswith("ours")]
    assert [cell[7:10] for cell in cells] == [["0.90", "0.45", "0.90"], ["0.45", "0.90", "0.90"]]


@pytest.fixture
def results_of():
    def row(name, cores, rate, device=None):
        runs = [{"error": None, "steady_state": float(rate)}]
        return {"name": name, "cores": cores, "device_rate": device, "what": "words", "runs": runs}

    return row
