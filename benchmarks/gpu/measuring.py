"""The parts of the benchmark. Each runs in processes of its own, and returns its measurements as a dictionary.

Rates are images per second. A part that fails has an `error`, and its log stays in the cache.
"""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import contenders, measures, models, output_vectors, photographs, rounds
from benchmarks.contenders import Contender
from benchmarks.gpu import contenders as gpu_contenders
from benchmarks.gpu import inputs, utilization
from benchmarks.gpu.contenders import OnGpu
from benchmarks.gpu.devices import Devices, without_gpu
from benchmarks.gpu.model_alone import ONNX, OURS
from benchmarks.gpu.ours import HALVINGS
from benchmarks.models import ROOT, Model
from benchmarks.peers import contract

MODEL = models.MODELS["efficientnet_lite0"]
# So many photographs are embedded by the CPU too.
CPU_IMAGES = inputs.PICTURES
# Enough for a steady state of all cores, and a fraction of a second to each.
DECODED_IMAGES = 4096
_DECODE_BATCH = 16
LOGS = "gpu-logs"


@dataclasses.dataclass
class Bench:
    """What all parts share.

    Attributes:
      devices: the devices to measure.
      model: the model, with the number of images per call.
      cache: the directory for pictures, models and logs of failures.
      scratch: a directory for photographs and outputs that are removed at the end.
      size: (width, height) of the photographs in pixels.
      seconds: how long a steady state should take.
      ends: when all must be done, by `time.monotonic`.
      images: the number of photographs so far.
      reference: vectors of the first photographs, by the CPU.
    """

    devices: Devices
    model: Model
    cache: Path
    scratch: Path
    size: tuple[int, int]
    seconds: float
    ends: float
    images: int = 0
    reference: rounds.Vectors = dataclasses.field(default_factory=dict)

    @property
    def seconds_left(self) -> float:
        """Seconds until all must be done."""
        return self.ends - time.monotonic()

    @property
    def inputs(self) -> Path:
        """The directory of all photographs."""
        return self.scratch / "photographs"

    def photographs(self, count: int) -> None:
        """Makes so many photographs, if there are fewer."""
        if count > self.images:
            width, height = self.size
            directory = self.cache / f"photographs-{width}x{height}-1"
            pictures = photographs.make(directory, min(count, inputs.PICTURES), self.size)
            inputs.extend(self.inputs, pictures, self.images, count)
            self.images = count

    def first(self, count: int) -> Path:
        """Returns a directory with so many of the photographs alone, the first ones."""
        if count == self.images:
            return self.inputs
        directory = self.scratch / f"first-{count}"
        if not directory.exists():
            photographs.lay_out([self.inputs / inputs.name(number) for number in range(count)], directory)
        return directory

    def run(
        self,
        contender: Contender,
        directory: Path,
        count: int,
        variables: Mapping[str, str],
        model: Model | None = None,
    ) -> tuple[rounds.Run, Path]:
        """Runs a contender over the photographs of a directory, and returns its measurements and its output."""
        output = Path(tempfile.mkdtemp(dir=self.scratch, prefix=f"{contender.name}-")) / "output"
        model = model or self.model
        command = contender.command(directory, models.make(model, self.cache), model, output, self.cache)
        variables = {**contenders.cache_variables(self.cache / "models-cache"), **variables}
        timeout = max(1.0, self.seconds_left)
        run = rounds.run(command, variables, output, count, contender.writes_vectors, self.reference, timeout)
        return run, output

    def save_log(self, name: str, log: bytes) -> Path:
        """Writes the log of a part that failed into the cache, and returns its path."""
        path = self.cache / LOGS / f"{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(log)
        return path


def cpu_vectors(bench: Bench, count: int) -> dict[str, Any]:
    """Embeds the first photographs on the CPU, as the reference for all others."""
    run, output = bench.run(gpu_contenders.cpu(), bench.first(count), count, without_gpu())
    return _finished(bench, "cpu", run, output, {"name": "cpu", "images": count})


def decoding(bench: Bench) -> dict[str, Any]:
    """Measures how many photographs the cores decode."""
    model = dataclasses.replace(bench.model, batch_size=_DECODE_BATCH)
    run, output = bench.run(gpu_contenders.decode(), bench.inputs, bench.images, without_gpu(), model)
    return _finished(bench, "decode", run, output, {"name": "decode"})


def model_alone(bench: Bench, engine: str, precision: str) -> dict[str, Any]:
    """Measures the model alone: see `benchmarks.gpu.model_alone`."""
    model = bench.model
    handle = model.handle if engine == OURS else models.make(models.ONNX if engine == ONNX else model, bench.cache)
    flags = ("--engine", engine, "--image_size", *model.image_size, "--batch_size", model.batch_size)
    command = [sys.executable, "-m", "benchmarks.gpu.model_alone", handle, *flags, "--precision", precision]
    command += ["--seconds", bench.seconds / 2, *bench.devices.flags()]
    name = f"model-{engine.replace('_', '-')}"
    facts: dict[str, Any] = {"name": name, "engine": engine, "precision": precision}
    facts |= {"images_per_second": None, "error": None}
    environment = os.environ | contenders.cache_variables(bench.cache / "models-cache") | bench.devices.variables()
    try:
        done = subprocess.run(
            [*map(str, command)], cwd=ROOT, env=environment, capture_output=True, timeout=max(1.0, bench.seconds_left)
        )
    except subprocess.TimeoutExpired as error:
        log = bench.save_log(f"{name}-{precision}", error.stderr or b"")
        return facts | {"error": f"not done after {error.timeout:.0f} s ({log})"}
    if done.returncode:
        log = bench.save_log(f"{name}-{precision}", done.stderr)
        last_line = rounds.last_line(done.stderr.decode(errors="replace"))
        return facts | {"error": f"exit code {done.returncode}: {last_line} ({log})"}
    return facts | json.loads(done.stdout.splitlines()[-1])


def whole_job(bench: Bench, job: OnGpu, count: int) -> dict[str, Any]:
    """Measures a contender over the first photographs, and how busy the GPU is meanwhile."""
    devices = bench.devices
    bus_ids = devices.bus_ids if job.all_devices else devices.bus_ids[:1]
    with utilization.sampled(bus_ids) as samples:
        model = dataclasses.replace(models.ONNX, batch_size=bench.model.batch_size) if job.is_onnx else None
        run, output = bench.run(job.contender, bench.first(count), count, devices.variables(job.all_devices), model)
    facts: dict[str, Any] = {
        "name": job.contender.name,
        "kind": job.contender.kind,
        "what": job.contender.description,
        "precision": job.precision,
        "is_onnx": job.is_onnx,
        "use": None,
    }
    if not run.error:
        batches = measures.read_batches(output / contract.BATCHES)
        use = utilization.between(samples, batches[0].ended, batches[-1].ended)
        facts |= {"use": dataclasses.asdict(use) if use else None, **_cosines(bench, output)}
    return _finished(bench, job.name, run, output, facts)


def out_of_memory(bench: Bench, count: int) -> dict[str, Any]:
    """Embeds the first photographs on a GPU with too little memory for a batch."""
    model = dataclasses.replace(bench.model, batch_size=gpu_contenders.TOO_LARGE_BATCH)
    contender = gpu_contenders.out_of_memory(bench.devices)
    run, output = bench.run(contender, bench.first(count), count, bench.devices.variables(), model)
    halvings = output / HALVINGS
    sizes = [json.loads(line) for line in halvings.read_text().splitlines()] if halvings.exists() else []
    facts: dict[str, Any] = {
        "name": "out-of-memory",
        "images": count,
        "memory_limit_mib": gpu_contenders.MEMORY_LIMIT_MIB,
        "batch_size": model.batch_size,
        "halved_to": min((after for _, after in sizes), default=None),
    }
    if not run.error and not sizes:
        run.error = f"batches of {model.batch_size} fit into {gpu_contenders.MEMORY_LIMIT_MIB} MiB: nothing was halved"
    if not run.error:
        facts |= _cosines(bench, output)
    return _finished(bench, "out-of-memory", run, output, facts)


def _cosines(bench: Bench, output: Path) -> dict[str, float]:
    """Returns the least and the mean cosine of an output's vectors to the CPU's."""
    vectors = output_vectors.read(output)
    expected = {name: vector for name, vector in bench.reference.items() if name in vectors}
    cosines = output_vectors.cosines(vectors, expected)
    return {"least_cosine": float(cosines.min()), "mean_cosine": float(np.mean(cosines))}


def _finished(bench: Bench, name: str, run: rounds.Run, output: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Returns the measurements of a run with further facts, and removes its output."""
    if run.error:
        run.error += f" ({bench.save_log(name, output.with_suffix('.log').read_bytes())})"
    shutil.rmtree(output.parent)
    return facts | dataclasses.asdict(run)
