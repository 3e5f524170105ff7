"""One run of a contender: starts it in a process of its own, times it, and checks the vectors that it wrote."""

import dataclasses
import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks import measures, output_vectors, processor_time
from benchmarks.models import ROOT
from benchmarks.peers import contract

# Other resize filters and decoders give slightly other vectors. Below this, the work is not the same.
LEAST_COSINE = 0.99
_TIMEOUT = 3600
# Ray and Daft report their usage. Without a network, they would wait for that.
_NO_TELEMETRY = {"RAY_USAGE_STATS_ENABLED": "0", "DO_NOT_TRACK": "1"}

Vectors = dict[str, npt.NDArray[np.float32]]


@dataclasses.dataclass
class Run:
    """The measurements of one run of a contender, with rates in images per second.

    Attributes:
      seconds: seconds from the start of the process to its end.
      whole_job: images divided by `seconds`; None if the contender does only a part of the job.
      steady_state: see measures.steady_state.
      second_half: the steady state of the second half of the batches.
      first_batch: seconds from the start of the process to the end of its first batch.
      core_ms: milliseconds of a core an image in the steady state, of all its processes.
      server_ms: the same of the servers that it reads from.
      cosine: the median and the least cosine to the vectors of the reference, over the images.
      error: the reason why the run does not count, with all rates None; None if it counts.
    """

    seconds: float
    whole_job: float | None = None
    steady_state: float | None = None
    second_half: float | None = None
    first_batch: float | None = None
    core_ms: float | None = None
    server_ms: float | None = None
    cosine: tuple[float, float] | None = None
    error: str | None = None


def run(
    command: Sequence[str],
    environment_variables: Mapping[str, str],
    output: Path,
    images: int,
    writes_vectors: bool,
    reference: Vectors,
    timeout: float = _TIMEOUT,
    servers: processor_time.Processes | None = None,
) -> Run:
    """Runs a contender, and returns its measurements.

    Args:
      command: the command, which runs from this project's root.
      environment_variables: additions to the current environment.
      output: the output directory, which does not exist yet; the log is written beside it.
      images: the number of photographs.
      writes_vectors: whether the contender does the whole job.
      reference: the vectors to compare with; if it is empty, this run's vectors become the reference.
      timeout: seconds after which the contender is killed.
      servers: those that it reads from.
    """
    output.mkdir(parents=True)
    log = output.with_suffix(".log")
    began = time.time()
    processes = processor_time.Processes()
    with (
        log.open("wb") as file,
        processes.sampled() as samples,
        (servers or processor_time.Processes()).sampled() as server_samples,
    ):
        try:
            environment = os.environ | _NO_TELEMETRY | processes.variables | environment_variables
            code = subprocess.run(
                command, cwd=ROOT, env=environment, stdout=file, stderr=file, timeout=timeout
            ).returncode
        except subprocess.TimeoutExpired:
            return Run(time.time() - began, error=f"not done after {timeout:.0f} s")
    result = Run(time.time() - began)
    if code:
        result.error = f"exit code {code}: {last_line(log.read_text(errors='replace'))}"
        return result
    try:
        batches = measures.read_batches(output / contract.BATCHES)
        if (recorded := sum(batch.images for batch in batches)) != images:
            raise ValueError(f"batches of {recorded} images, expected {images}")
        if writes_vectors:
            result.cosine = _compare(output_vectors.read(output), images, reference)
    except (ValueError, OSError, json.JSONDecodeError) as error:
        result.error = f"{error}"
        return result
    result.whole_job = images / result.seconds if writes_vectors else None
    result.steady_state = measures.steady_state(batches)
    result.second_half = measures.steady_state(batches[len(batches) // 2 :])
    result.first_batch = batches[0].ended - began
    if result.steady_state:
        window = batches[0].ended, batches[-1].ended
        of_window = result.steady_state * (window[1] - window[0])
        result.core_ms = 1000 * samples.between(*window) / of_window
        result.server_ms = 1000 * server_samples.between(*window) / of_window if servers else None
    return result


def _compare(vectors: Vectors, images: int, reference: Vectors) -> tuple[float, float]:
    """Returns the median and the least cosine to the reference.

    Raises:
      ValueError: if vectors are missing, not finite, or too different from the reference.
    """
    if len(vectors) != images:
        raise ValueError(f"{len(vectors)} vectors, expected {images}")
    if not all(np.isfinite(vector).all() for vector in vectors.values()):
        raise ValueError("vectors with NaN or infinite components")
    if not reference:
        reference.update(vectors)
    if missing := reference.keys() - vectors.keys():
        raise ValueError(f"no vector of {min(missing)!r}")
    cosines = output_vectors.cosines(vectors, reference)
    median, least = float(np.median(cosines)), float(cosines.min())
    if not median >= LEAST_COSINE:
        raise ValueError(f"a median cosine of {median:.4f} to the reference, expected at least {LEAST_COSINE}")
    return median, least


def last_line(log: str) -> str:
    """Returns the last line of a log, which says why a process failed."""
    lines = log.strip().splitlines()
    return lines[-1] if lines else "it wrote no log"
