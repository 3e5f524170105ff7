"""One contender, once: run in a process of its own, timed from outside, and what it wrote looked at."""

import dataclasses
import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks import measures, vectors_found
from benchmarks.models import ROOT
from benchmarks.peers import contract

# Other resize filters and decoders give other vectors; below this it is not the same work.
LEAST_COSINE = 0.99
_TIMEOUT = 3600
# Ray and Daft report their use, which where there is no network would be a wait of theirs.
_SILENT = {"RAY_USAGE_STATS_ENABLED": "0", "DO_NOT_TRACK": "1"}

Vectors = dict[str, npt.NDArray[np.float32]]


@dataclasses.dataclass
class Run:
    """What one run of a contender gave; rates in images a second.

    Attributes:
      seconds: from the start of the process to its end.
      whole_job: images by `seconds`; None for what does a part of the job.
      steady_state: see measures.steady_state.
      second_half: the same, of the second half of the batches.
      first_batch: seconds from the start of the process to the end of its first batch.
      cosine: median over the images of the cosine to the vectors of the reference, and its least.
      error: why it does not count; the rates are None then.
    """

    seconds: float
    whole_job: float | None = None
    steady_state: float | None = None
    second_half: float | None = None
    first_batch: float | None = None
    cosine: tuple[float, float] | None = None
    error: str | None = None


def run(
    command: Sequence[str],
    environment_variables: Mapping[str, str],
    output: Path,
    images: int,
    writes_vectors: bool,
    reference: Vectors,
) -> Run:
    """Runs a contender, and returns what it gave.

    Args:
      command: to be run from this project's root, with these environment_variables beside those there are.
      output: its output directory, which does not exist yet; the log is beside it.
      images: how many it is given.
      writes_vectors: whether it does the whole job.
      reference: the vectors that its own should agree with; filled with its own where empty.
    """
    output.mkdir(parents=True)
    log = output.with_suffix(".log")
    began = time.time()
    with log.open("wb") as file:
        try:
            environment = os.environ | _SILENT | environment_variables
            code = subprocess.run(
                command, cwd=ROOT, env=environment, stdout=file, stderr=file, timeout=_TIMEOUT
            ).returncode
        except subprocess.TimeoutExpired:
            return Run(time.time() - began, error=f"not done after {_TIMEOUT} s")
    found = Run(time.time() - began)
    if code:
        found.error = f"exit code {code}: {_last_line(log)}"
        return found
    try:
        batches = measures.read_batches(output / contract.BATCHES)
        if (noted := sum(batch.images for batch in batches)) != images:
            raise ValueError(f"batches of {noted} images, expected {images}")
        if writes_vectors:
            found.cosine = _compare(vectors_found.read(output), images, reference)
    except (ValueError, OSError, json.JSONDecodeError) as error:
        found.error = f"{error}"
        return found
    found.whole_job = images / found.seconds if writes_vectors else None
    found.steady_state = measures.steady_state(batches)
    found.second_half = measures.steady_state(batches[len(batches) // 2 :])
    found.first_batch = batches[0].ended - began
    return found


def _compare(vectors: Vectors, images: int, reference: Vectors) -> tuple[float, float]:
    """Returns the median and the least cosine to the reference.

    Raises:
      ValueError: if the vectors are not those of the images.
    """
    if len(vectors) != images:
        raise ValueError(f"{len(vectors)} vectors, expected {images}")
    if not all(np.isfinite(vector).all() for vector in vectors.values()):
        raise ValueError("vectors with NaN or infinite components")
    if not reference:
        reference.update(vectors)
    if missing := reference.keys() - vectors.keys():
        raise ValueError(f"no vector of {min(missing)!r}")
    cosines = vectors_found.cosines(vectors, reference)
    median, least = float(np.median(cosines)), float(cosines.min())
    if not median >= LEAST_COSINE:
        raise ValueError(f"a median cosine of {median:.4f} to the reference, expected at least {LEAST_COSINE}")
    return median, least


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
