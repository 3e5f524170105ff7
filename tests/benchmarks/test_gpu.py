"""The benchmark of a GPU, on a CPU in its place. No test asserts a time, and no number here says anything of a GPU."""

import dataclasses
import json
import subprocess
import sys
import time

import pytest

from benchmarks.gpu import command, contenders, devices, inputs, measuring, table
from benchmarks.gpu.devices import CPU, CPU_IN_PLACE, GPU, Devices
from benchmarks.models import ROOT

IMAGES, BATCH = 32, 8
TWO_CPUS = Devices(CPU, (CPU_IN_PLACE,) * 2, (), "2", False, (), True)
JOBS = [
    "ours-processes-float32",
    "ours-threads-float16",
    "tf-data-float16",
    "ours-processes-2-gpus-float32",
    "ours-processes-onnx-float32",
]
ALONE = ["model-ours-float16", "model-saved-model-float32", "model-onnx-float32"]
ALL = [
    "cpu",
    "decode",
    "out-of-memory",
    *(
        f"{name}-{precision}"
        for name in ("ours-processes", "ours-threads", "tf-data", "model-ours", "model-saved-model")
        for precision in ("float32", "float16")
    ),
    "ours-processes-2-gpus-float32",
    "ours-processes-onnx-float32",
    "model-onnx-float32",
]


def nvidia_smi(directory, listed):
    """Puts a script in the place of `nvidia-smi`, which lists one GPU that is busy for 75 % of the time."""
    path = directory / "nvidia-smi"
    path.write_text(
        f'#!/bin/sh\ncase "$*" in\n*utilization*) while true; do echo "0:4.0, 75, 9"; sleep 0.02; done;;\n'
        f"*) {listed};;\nesac\n"
    )
    path.chmod(0o755)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def results(cache, tmp_path_factory):
    path, bin_directory = cache / "results.json", tmp_path_factory.mktemp("bin")
    nvidia_smi(bin_directory, "exit 9")
    flags = ["--device", "CPU", "--images", str(IMAGES), "--batch_size", str(BATCH), "--seconds", "0.2"]
    flags += [
        "--only",
        "decode",
        "out-of-memory",
        *JOBS,
        *ALONE,
    ]  # each kind of part, and each precision of it or of another
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PATH", str(bin_directory), prepend=":")
        assert command.main([*flags, "--minutes", "30", "--cache", str(cache), "--json", str(path)]) == 0
    return json.loads(path.read_text())


@pytest.mark.slow
def test_every_part_runs_and_vectors_agree(results):
    assert results["skipped"] == []
    assert {f"{job['name']}-{job['precision']}" for job in results["whole_jobs"]} == set(JOBS)
    for job in results["whole_jobs"]:
        assert job["error"] is None
        assert job["whole_job"] == pytest.approx(IMAGES / job["seconds"])
        assert job["steady_state"] > 0
        assert 0.99 < job["least_cosine"] <= job["mean_cosine"]
        if job["use"]:  # so short a run may have had no sample
            assert (job["use"]["mean"], job["use"]["low"], job["use"]["memory_mib"]) == (75.0, 0.0, 9.0)
    assert any(job["use"] for job in results["whole_jobs"])
    rates = {f"{each['name']}-{each['precision']}": each["images_per_second"] for each in results["models_alone"]}
    assert rates.keys() == set(ALONE) and all(rate > 0 for rate in rates.values())
    assert results["decode"][0]["steady_state"] > 0


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_halved_and_every_image_is_embedded(results):
    (part,) = results["out_of_memory"]
    assert (part["error"], part["images"]) == (None, IMAGES)
    assert (part["batch_size"], part["halved_to"]) == (256, 64)  # 4.6 MiB an image, of 512 MiB
    assert part["least_cosine"] > 0.999


@pytest.mark.slow
def test_the_tables_are_markdown_and_say_what_a_cpu_is_worth(results):
    text = table.text(results)
    rows = [line for line in text.splitlines() if line.startswith("| ours-processes | float32 |")]
    (head,) = (line for line in text.splitlines() if line.startswith("|  | precision |"))
    assert len(rows) == 1 and rows[0].count("|") == head.count("|")
    assert "A CPU took the place of GPUs" in text and "halved to 64. All 32 images were embedded" in text


@pytest.mark.slow
def test_without_a_gpu_one_line_says_what_is_needed(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    done = subprocess.run([sys.executable, "-m", "benchmarks.gpu"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("bench-gpu: needs a machine where TensorFlow sees a GPU: none is visible to TensorFlow 2.")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("listed", "message"),
    [("echo NVIDIA L4", "`nvidia-smi` lists NVIDIA L4"), ("echo failed; exit 9", "and `nvidia-smi` lists none$")],
    ids=["a GPU", "no driver"],
)
def test_the_line_says_whether_there_is_a_gpu_at_all(tmp_path, monkeypatch, listed, message):
    nvidia_smi(tmp_path, listed)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    with pytest.raises(devices.NoGpu, match=message):
        devices.seen(GPU)


@pytest.mark.slow
def test_when_time_is_over_each_part_is_named(cache, capsys):
    flags = ["--device", "CPU", "--images", "8", "--minutes", "0", "--cache", str(cache)]
    assert command.main(flags) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("- Skipped"))
    assert sorted(line.rstrip(".").partition(": ")[2].split(", ")) == sorted(ALL)


@pytest.mark.slow
def test_a_part_that_does_not_exist_is_refused(cache, capsys):
    assert command.main(["--device", "CPU", "--only", "decode", "encode", "--cache", str(cache)]) == 2
    assert capsys.readouterr().err.startswith("bench-gpu: only=['encode']: expected some of cpu, decode, ")


@pytest.fixture
def bench(cache, tmp_path):
    model = dataclasses.replace(measuring.MODEL, batch_size=2)
    made = measuring.Bench(TWO_CPUS, model, cache, tmp_path, (64, 64), 0.1, time.monotonic() + 600)
    made.photographs(4)
    return made


@pytest.mark.slow
def test_a_part_that_fails_says_why_and_its_log_stays(bench):
    bench.model = dataclasses.replace(bench.model, handle="no-such-model")
    part = measuring.model_alone(bench, "ours", "float32")
    assert part["images_per_second"] is None and "no-such-model" in part["error"]
    assert "no-such-model" in (bench.cache / measuring.LOGS / "model-ours-float32.log").read_text()


@pytest.mark.slow
def test_a_batch_that_fits_is_no_out_of_memory(bench, monkeypatch):
    monkeypatch.setattr(contenders, "TOO_LARGE_BATCH", 2)
    part = measuring.out_of_memory(bench, 4)
    assert "batches of 2 fit into 512 MiB: nothing was halved" in part["error"]


def test_a_process_gets_the_first_gpu_of_those_that_are_visible(monkeypatch):
    gpus = Devices(GPU, ("NVIDIA L4",) * 2, ("0000:00:04.0", "0000:00:05.0"), "2", True, (), False)
    assert gpus.variables() == {"CUDA_VISIBLE_DEVICES": "0"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert gpus.variables() == {"CUDA_VISIBLE_DEVICES": "3"}
    assert gpus.variables(all_devices=True) == {}


@pytest.mark.parametrize("names", [("NVIDIA L4",), ("NVIDIA L4",) * 2], ids=["one GPU", "two GPUs"])
def test_all_gpus_are_used_where_there_are_several(names):
    jobs = contenders.whole_jobs(Devices(GPU, names, (), "2", True, (), True))
    assert [job.contender.name for job in jobs if job.all_devices] == ["ours-processes-2-gpus"][: len(names) - 1]
    assert len({job.name for job in jobs}) == len(jobs)


@pytest.mark.parametrize(
    ("rates", "seconds", "count"),
    [((4000.0, 900.0), 10, 9024), ((50_000.0,), 10, 24_000), ((10.0,), 10, 1280)],
    ids=["the least rate", "the most", "the fewest"],
)
def test_photographs_last_for_some_seconds_in_whole_batches(rates, seconds, count):
    assert inputs.count_for(rates, seconds, 64) == count


def test_photographs_have_different_bytes(tmp_path):
    pictures = [tmp_path / "a", tmp_path / "b"]
    for picture, byte in zip(pictures, (b"1", b"2"), strict=True):
        picture.write_bytes(b"\xff\xd8" + byte)
    inputs.extend(tmp_path / "all", pictures, 0, 3)
    inputs.extend(tmp_path / "all", pictures, 3, 6)
    made = {path.name: path.read_bytes() for path in (tmp_path / "all").iterdir()}
    assert len(set(made.values())) == len(made) == 6
    assert made["000001.jpg"] == pictures[1].read_bytes() and made["000005.jpg"].endswith(b"2")


def test_ratios_are_to_the_same_precision():
    def job(name, precision, rate):
        facts = {"name": name, "precision": precision, "steady_state": rate, "whole_job": 1.0, "first_batch": 1.0}
        return facts | {"is_onnx": name.endswith("onnx"), "use": None, "error": None}

    def alone(precision, rate, engine="ours"):
        return {"name": "a model", "engine": engine, "precision": precision, "images_per_second": rate} | no_error

    no_error = {"error": None}
    results = {
        "at": "now",
        "commit": "1",
        "seconds": 1.0,
        "machine": {"cpu": "cpu", "cores": 2, "memory_gib": 1, "load_average": 0.0},
        "devices": dataclasses.asdict(TWO_CPUS),
        "model": "m",
        "batch_size": 8,
        "images": 9,
        "photograph_size": (640, 480),
        "cpu": [],
        "decode": [],
        "models_alone": [alone("float32", 400.0), alone("float16", 800.0), alone("float32", 500.0, "onnx")],
        "whole_jobs": [
            job("ours", "float32", 200.0),
            job("tf-data", "float32", 100.0),
            job("ours", "float16", 400.0),
            job("ours-onnx", "float32", 400.0),
        ],
        "out_of_memory": [],
        "skipped": [],
    }
    lines = table.text(results).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:7]] for line in lines if line.startswith("| ours")]
    assert [cell[1:5] for cell in cells] == [
        ["float32", "200.0", "2.00", "0.50"],
        ["float16", "400.0", "–", "0.50"],
        ["float32", "400.0", "4.00", "0.80"],
    ]
