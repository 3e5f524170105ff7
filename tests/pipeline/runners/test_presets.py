"""pipeline.runners.presets: one table, the machines that it names, and what the command line changes in it."""

import runpy
import subprocess

import pytest

from pipeline.flags import options, parser
from pipeline.runners import pipeline_options, presets
from pipeline.runners.presets import Shape
from tests.helpers.running import ROOT, command

WHERE = ["--input=gs://b/photos/**", "--output=gs://b/vectors"]


def resolved(*argv):
    """Returns what --explain says: name → (value, source)."""
    config, others = options.parse([*argv, *WHERE])
    beam_options = pipeline_options.beam_options(others, parser.known_flags(), config.runs_on)
    rows = pipeline_options.explain(others, config, beam_options).partition("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in row.split("  ") if cell.strip()] for row in rows]
    return {name: (value, source) for name, value, source in cells}


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("local", {"runner": presets.LOCAL_RUNNER, "direct_running_mode": "in_memory", "batch_size": "32"}),
        (
            "flink",
            {
                "runner": "FlinkRunner",
                "environment_type": "EXTERNAL",
                "environment_cache_millis": "60000",
                "parallelism": "2",
                "batch_size": "32",
            },
        ),
        ("dataflow", {"runner": "DataflowRunner", "machine_type": "n1-standard-4", "max_num_workers": "10"}),
        (
            "dataflow-gpu",
            {
                "runner": "DataflowRunner",
                "experiments": "no_use_multiple_sdk_containers",
                "number_of_worker_harness_threads": "8",
                "sdk_location": "container",
                "gpu": "nvidia-l4",
                "batch_size": "64",
            },
        ),
    ],
)
def test_what_a_preset_sets(preset, expected):
    found = resolved("--preset", preset)
    assert {name: found[name] for name in expected} == {
        name: (value, f"preset {preset}") for name, value in expected.items()
    }
    # All of them, and each once.
    assert set(presets.settings(preset)) <= set(found)


def test_the_command_line_wins():
    found = resolved(
        "--preset=dataflow-gpu",
        "--machine_type=e2-standard-8",
        "--number_of_worker_harness_threads=3",
        "--batch_size=7",
        "--gpu=nvidia-tesla-t4",
        "--gpu_count=2",
        "--runner=DataflowRunner",
        "--experiments=shuffle_mode=service",
    )
    assert found["machine_type"] == ("e2-standard-8", "flag")
    assert found["number_of_worker_harness_threads"] == ("3", "flag")
    assert found["batch_size"] == ("7", "flag")
    assert found["runner"] == ("DataflowRunner", "flag")
    assert found["gpu"] == ("nvidia-tesla-t4", "flag") and found["gpu_count"] == ("2", "flag")
    assert found["gpu_machine_type"] == ("n1-standard-16", "by the GPU")
    # Experiments are a list: the preset's stays where it is not contradicted.
    said = "no_use_multiple_sdk_containers,shuffle_mode=service"
    assert found["experiments"] == (said, "preset dataflow-gpu and flag")
    assert resolved("--preset=dataflow-gpu", "--experiments=use_multiple_sdk_containers")["experiments"] == (
        "use_multiple_sdk_containers",
        "flag",
    )


def test_threads_follow_the_gpus_machine():
    found = resolved("--preset=dataflow-gpu", "--gpu_machine_type=g2-standard-32")
    assert found["number_of_worker_harness_threads"] == ("32", "preset dataflow-gpu")


def test_an_image_needs_no_setup_file():
    assert resolved("--preset=dataflow")["setup_file"] == (presets.SETUP_FILE, "preset dataflow")
    assert resolved("--preset=dataflow", "--sdk_container_image=i")["setup_file"][0] == "None"


@pytest.mark.slow
def test_explain_ends_well_and_touches_nothing(tmp_path):
    # In an empty directory, whose output would appear there; nothing matches the input, which a run would mind.
    done = subprocess.run(
        [*command()[:1], ROOT / "run_pipeline.py", "--explain", f"--input={tmp_path}/none", f"--output={tmp_path}/o"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "FnApiRunner" in done.stdout and "preset local" in done.stdout
    assert not list(tmp_path.iterdir())


def test_explain_says_why_it_cannot_run_yet():
    config, others = options.parse(["--preset=dataflow", *WHERE])
    beam_options = pipeline_options.beam_options(others, parser.known_flags(), config.runs_on)
    assert pipeline_options.explain(others, config, beam_options).endswith(
        "give --project my-project --region us-central1 --temp_location gs://BUCKET/tmp"
    )


@pytest.mark.parametrize(
    ("machine_type", "expected"),
    [
        ("n1-standard-4", Shape(4, 15)),
        ("n1-highmem-2", Shape(2, 13)),
        ("g2-standard-8", Shape(8, 32)),
        ("a2-highgpu-2g", Shape(24, 170)),
    ],
)
def test_the_shape_of_a_machine_is_read_from_its_name(machine_type, expected):
    assert presets.shape(machine_type) == expected


@pytest.mark.parametrize(
    "machine_type", ["n1-standard", "n1-standard-4g", "a2-highgpu-2", "my-machine-3", "G2-standard-8"]
)
def test_unknown_machines(machine_type):
    with pytest.raises(ValueError, match=f"machine type {machine_type!r} is unknown here: expected n1-standard, "):
        presets.shape(machine_type)


@pytest.mark.parametrize("gpu", presets.GPUS)
def test_every_gpu_has_a_known_machine(gpu):
    for count in presets.GPUS[gpu]:
        found = presets.accelerator(gpu, count, None)
        assert presets.shape(found.machine_type).vcpus >= 4
        assert found.hint == f"type:{gpu};count:{count};machine_type:{found.machine_type};install-nvidia-driver"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("nvidia-l5", 1, None), "--gpu 'nvidia-l5' is unknown: expected one of nvidia-l4, nvidia-tesla-t4, "),
        (("nvidia-l4", 3, None), "--gpu_count 3: a worker can have 1, 2, 4, 8 of nvidia-l4"),
        (("nvidia-l4", 1, "n1-standard-8"), "expected a machine with nvidia-l4, as in 'g2-standard-8'"),
    ],
)
def test_wrong_gpus(given, said):
    with pytest.raises(ValueError) as raised:
        presets.accelerator(*given)
    assert said in str(raised.value)


@pytest.mark.parametrize(("cores", "workers"), [(1, 2), (2, 2), (7, 7)])
def test_two_threads_at_least(monkeypatch, cores, workers):
    """While one waits for a device, the other one decodes the next batch."""
    monkeypatch.setattr("transforms.concurrent.cores.usable_cores", lambda: cores)
    assert runpy.run_path(presets.__file__)["settings"]("local")["direct_num_workers"] == workers


@pytest.mark.parametrize(
    ("preset", "batch_size", "decode_processes"),
    [("local", 32, "0"), ("flink", 32, "0"), ("dataflow", 32, "0"), ("dataflow-gpu", 64, "cores")],
)
def test_the_batch_size_and_the_decoder_processes_of_a_preset(preset, batch_size, decode_processes):
    assert (presets.batch_size(preset), presets.decode_processes(preset)) == (batch_size, decode_processes)


def test_what_dataflow_may_cost_at_most():
    for preset in ("dataflow", "dataflow-gpu"):
        found = presets.settings(preset)
        assert (found["max_num_workers"], found["disk_size_gb"], found["machine_type"]) == (10, 50, "n1-standard-4")
    assert "gpu" not in presets.settings("dataflow") and "setup_file" not in presets.settings("dataflow-gpu")


@pytest.mark.parametrize(
    ("machine_type", "expected"),
    [
        ("n1-highcpu-10", Shape(10, 9)),
        ("n2-highmem-4", Shape(4, 32)),
        ("n2d-highcpu-4", Shape(4, 4)),
        ("e2-standard-2", Shape(2, 8)),
        ("a2-ultragpu-4g", Shape(48, 680)),
    ],
)
def test_more_machines(machine_type, expected):
    assert presets.shape(machine_type) == expected


@pytest.mark.parametrize(
    ("gpu", "count", "machine_type", "expected"),
    [
        ("nvidia-tesla-t4", 4, None, "n1-standard-32"),
        ("nvidia-l4", 2, None, "g2-standard-24"),
        ("nvidia-tesla-a100", 8, None, "a2-highgpu-8g"),
        ("nvidia-a100-80gb", 2, None, "a2-ultragpu-2g"),
        ("nvidia-l4", 1, "g2-standard-32", "g2-standard-32"),
    ],
)
def test_the_machine_of_a_number_of_gpus(gpu, count, machine_type, expected):
    assert presets.accelerator(gpu, count, machine_type) == presets.Accelerator(gpu, count, expected)
