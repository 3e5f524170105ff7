"""How busy a GPU is: lines of `nvidia-smi`, as a script in its place writes them."""

import os
import time

import pytest

from benchmarks.gpu import utilization
from benchmarks.gpu.utilization import Sample

BUS_ID = "0000:00:04.0"


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Returns a function that puts a script in the place of `nvidia-smi`."""

    def put(script):
        path = tmp_path / "nvidia-smi"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    return put


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("00000000:00:04.0, 97, 5123\r\n", Sample(1.0, 97.0, 5123.0)),
        ("00000000:00:05.0, 97, 5123", None),
        ("00000000:00:04.0, [N/A], 5123", None),
        ("Unable to determine the device handle for GPU0: GPU is lost.", None),
        ("", None),
    ],
    ids=["sample", "another GPU", "not counted", "message", "empty"],
)
def test_a_line_of_nvidia_smi_is_a_sample_or_none(line, expected):
    assert utilization.parse(line, 1.0, [BUS_ID]) == expected


def test_without_addresses_all_gpus_count():
    assert utilization.parse("00000000:00:05.0, 1, 2", 0.0, []) == Sample(0.0, 1.0, 2.0)


def test_samples_are_those_between_two_moments():
    samples = [Sample(at, busy, 100 + at) for at, busy in [(0, 1), (10, 0), (14, 100), (19.9, 80), (20, 40), (21, 1)]]
    use = utilization.between(samples, 10.0, 20.0)
    assert (use.samples, use.mean, use.low, use.memory_mib) == (4, 55.0, 50.0, 120.0)
    assert use.tenths == [0.0, None, None, None, 100.0, None, None, None, None, 60.0]


def test_without_samples_nothing_is_known():
    assert utilization.between([Sample(1.0, 5.0, 5.0)], 2.0, 3.0) is None
    assert utilization.between([Sample(2.0, 5.0, 5.0)], 2.0, 2.0).mean == 5.0


def test_samples_arrive_while_the_block_runs(nvidia_smi):
    nvidia_smi(f"while true; do echo '0000{BUS_ID}, 30, 7'; sleep 0.01; done")
    with utilization.sampled([BUS_ID]) as samples:
        while len(samples) < 3:
            time.sleep(0.01)
    number = len(samples)
    assert {(sample.busy, sample.memory_mib) for sample in samples} == {(30.0, 7.0)}
    assert samples[0].at < samples[2].at <= time.time()
    assert len(samples) == number  # it has ended


def test_a_sampler_that_ends_by_itself_leaves_what_it_wrote(nvidia_smi):
    nvidia_smi(f"echo '0000{BUS_ID}, 30, 7'; exit 9")
    with utilization.sampled([BUS_ID]) as samples:
        while not samples:
            time.sleep(0.01)
    assert len(samples) == 1


def test_without_nvidia_smi_there_are_no_samples(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with utilization.sampled([BUS_ID]) as samples:
        pass
    assert samples == []
