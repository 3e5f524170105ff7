"""pipeline.runners.presets: one table, the machines that it names, and what the command line changes in it."""

import runpy

import pytest

from pipeline.runners import presets
from pipeline.runners.presets import Shape


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
