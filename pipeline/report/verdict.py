"""The verdict of a run: what limited it and what would help, in one sentence, from what that run measured of itself."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from transforms.concurrent import in_flight

START_UP, LIST, DIGEST, WORK, FINISH = "start_up", "list", "digest", "work", "finish"

# Below it batches are cut short by the ends of bundles, and a larger batch size changes nothing.
_FULL_BATCH = 0.9
# Less than half a thread at work on average: no stage can be what limits the run.
_IDLE = 0.5
_WENT = {START_UP: "starting", LIST: "listing", DIGEST: "reading", WORK: "reading", FINISH: "finishing"}
_TWICE = "twice the cores (for about twice the images a second)"


class Busy(NamedTuple):
    """How busy the workers' threads were in a stage, all together.

    Attributes:
      things: images, files or lists.
      seconds: of all threads.
      longest: seconds of the thing that took longest.
      calls: fewer than things where one call is for several, as for the images of a batch.
      first, last: when the first call began and the last ended, in seconds after the start of the command.
    """

    things: int
    seconds: float
    longest: float
    calls: float
    first: float
    last: float


@dataclasses.dataclass(frozen=True)
class Measured:
    """A run, as far as it decides on the verdict.

    Attributes:
      counts: images by what became of them, as in the report.
      stages: stage → how busy; `embed` is the model at work, `wait` a thread that waits for its turn to call it, `load`
        one that waits for it to be loaded.
      elapsed: seconds from the start of the command to the report.
      device: what the model ran on; begins with GPU where it is one, "" where that is not known.
      cores: of a machine that embeds.
      batch_size: the most images that a call of the model may have.
      read_concurrency: files that a process may have in flight; None for shards, which are streamed.
      precision: as asked for.
    """

    counts: Mapping[str, int]
    stages: Mapping[str, Busy]
    elapsed: float
    device: str
    cores: int
    batch_size: int
    read_concurrency: int | None
    precision: str

    @property
    def on_gpu(self) -> bool:
        return self.device.startswith("GPU")

    def seconds(self, stage: str) -> float:
        """Returns how long the threads were busy in a stage, 0.0 where it did not occur."""
        return self.stages[stage].seconds if stage in self.stages else 0.0

    def image_ms(self, stage: str) -> str:
        """Returns what an embedded image takes in a stage."""
        return f"{self.seconds(stage) / self.counts['embedded'] * 1e3:.1f} ms"


def phases(stages: Mapping[str, Busy], elapsed: float) -> dict[str, float]:
    """Returns the seconds of a run by what it was at, which add up to `elapsed`.

    `work` is from the first image's reading to the end of the model's last call, but for loading the model; `finish`
    what follows. Before it are `list`, `digest`, reading for the digests that show which images are equal, and
    `start_up`, the rest, and loading.
    """
    before = [(stage, stages[stage]) for stage in (LIST, DIGEST) if stage in stages]
    at_work = [stages[stage] for stage in ("read", "decode", "embed") if stage in stages]
    idle = max((busy.last for _, busy in before), default=elapsed)
    # Clocks of several machines differ a little.
    begin = min(max(min((busy.first for busy in at_work), default=idle), 0.0), elapsed)
    end = min(max(max((busy.last for busy in at_work), default=idle), begin), elapsed)
    spent = {LIST: 0.0, DIGEST: 0.0}
    at = 0.0
    for stage, busy in before:
        start, at = max(at, busy.first), min(max(at, busy.last), begin)
        spent[stage] = max(0.0, at - start)
    load = stages.get("load")
    # Each worker loads when it has its first batch, its threads at once.
    loading = min(load.seconds / load.calls, end - begin) if load else 0.0
    start_up = begin - sum(spent.values()) + loading
    return {START_UP: start_up, **spent, WORK: end - begin - loading, FINISH: elapsed - end}


def verdict(run: Measured) -> str:
    """Returns what limited a run, the measurement that shows it, and what that measurement says would help."""
    spent = phases(run.stages, run.elapsed)
    phase = max(spent, key=lambda phase: spent[phase])
    passed = f"{_duration(spent[phase])} of {_duration(run.elapsed)}"
    if not run.counts["embedded"]:
        became = [f"{run.counts[name]} {name}" for name in ("skipped", "reused", "failed") if run.counts[name]]
        return f"nothing to embed: {', '.join(became) or 'no image was listed'}; {passed} went into {_WENT[phase]}"
    if phase == START_UP:
        went = "went into starting and loading the model"
        return f"start-up-bound: {passed} {went}; more images in one run would share it"
    if phase == LIST:
        return f"list-bound: {passed} went into listing; a narrower --input, or --input_format list, would help"
    if phase == DIGEST:
        faster = _any_of([*_more_in_flight(run, 0.5), "workers nearer to the storage"])
        return f"digest-bound: {passed} went into reading files to find equal ones; {faster}"
    if phase == FINISH:
        return f"finish-bound: {passed} passed after the model's last call; more images in one run would share it"
    return _of_work(run, spent[WORK])


def _of_work(run: Measured, work: float) -> str:
    busy = {stage: run.seconds(stage) for stage in ("read", "decode", "embed", "write")}
    wait = run.seconds("wait")
    busy["embed"] += wait
    total = sum(busy.values())
    if total < _IDLE * work:
        return (
            f"runner-bound: the stages took {_duration(total)} of the {_duration(work)} between the first image's "
            "reading and the model's last call; the rest is the runner's own"
        )
    # Threads that wait longer for the model than it takes: it is busy all the time, whatever else the threads do.
    limit = "embed" if wait > run.seconds("embed") else max(busy, key=lambda stage: busy[stage])
    share = f"{busy[limit] / total:.0%} of the threads' time"
    if limit == "read":
        return _read(run, share, busy["read"] / total)
    if limit == "decode":
        return _decode(run, share)
    if limit == "embed":
        return _embed(run, share, wait)
    return (
        f"write-bound: {share} went into writing, {run.image_ms('write')} an image; "
        "an --output that is faster or nearer to the workers would help"
    )


def _read(run: Measured, share: str, waiting: float) -> str:
    within = f" with --read_concurrency {run.read_concurrency}" if run.read_concurrency else ""
    said = f"{share} was waiting for files, {run.image_ms('read')} an image{within}"
    return f"read-bound: {said}; {_any_of([*_more_in_flight(run, waiting), 'workers nearer to the storage'])}"


def _more_in_flight(run: Measured, waiting: float) -> list[str]:
    """Returns what would make files come no later than threads ask for them that wait for a part of their time."""
    if not run.read_concurrency:
        return []
    enough = min(math.ceil(run.read_concurrency / max(1 - waiting, 1e-9)), in_flight.CONCURRENCY_MAX)
    return [f"--read_concurrency {enough}"] if enough > run.read_concurrency else []


def _decode(run: Measured, share: str) -> str:
    if not run.on_gpu:
        said = f"{share} went into decoding, {run.image_ms('decode')} an image"
        return f"decode-bound: {said}; {_any_of([_TWICE])}"
    needed = max(math.ceil(run.seconds("decode") / max(run.seconds("embed"), 1e-9)), run.cores + 1)
    return (
        f"decode-bound: an image takes {run.image_ms('decode')} of a core and {run.image_ms('embed')} of the GPU; "
        f"{needed} cores for each GPU would keep it busy, {needed - run.cores} more than now"
    )


def _embed(run: Measured, share: str, wait: float) -> str:
    took = f"{run.image_ms('embed')} an image"
    precision = [] if run.precision != "float32" else ["--precision auto where the hardware has bfloat16"]
    if not run.on_gpu:
        on_cpu, gpu = (" on the CPU", ["a GPU"]) if run.device else ("", [])
        said = f"{share} went into the model{_waiting(wait)}, {took}{on_cpu}"
        return f"embed-bound: {said}; {_any_of([_TWICE, *precision, *gpu, 'a smaller --model'])}"
    embed = run.stages["embed"]
    is_full = embed.things / embed.calls >= _FULL_BATCH * run.batch_size
    helps = [*([f"a --batch_size above {run.batch_size}"] if is_full else []), *precision, "more GPUs"]
    spared = ", more cores would not" if wait > run.seconds("embed") else ""
    said = f"{share} went into the model{_waiting(wait)}, {took} on the GPU"
    return f"embed-bound: {said}; {_any_of(helps)}{spared}"


def _waiting(wait: float) -> str:
    return " or into waiting for its turn" if wait else ""


def _any_of(helps: Sequence[str]) -> str:
    *others, last = helps
    return (f"{', '.join(others)} or {last}" if others else last) + " would help"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
