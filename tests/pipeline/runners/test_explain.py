"""pipeline.runners.explain: what a preset sets, what the command line changes in it, and why a job cannot run."""

import subprocess

import pytest

from pipeline.flags import options, parser
from pipeline.runners import explain, pipeline_options, presets
from tests.helpers.running import ROOT, command

WHERE = ["--input=gs://b/photos/**", "--output=gs://b/vectors"]


def resolved(*argv):
    """Returns what --explain says: name → (value, source)."""
    config, others = options.parse([*argv, *WHERE])
    beam_options = pipeline_options.beam_options(others, parser.known_flags(), config.runs_on)
    rows = explain.settings(others, config, beam_options).partition("\n\n")[0].splitlines()
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
    assert explain.settings(others, config, beam_options).endswith(
        "give --project my-project --region us-central1 --temp_location gs://BUCKET/tmp"
    )
