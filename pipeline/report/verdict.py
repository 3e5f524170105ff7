"""The verdict of a run: one sentence on its limit and on remedies, from the run's own measurements."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from pipeline.report import feed
from transforms.concurrent import in_flight
from transforms.copies import STAGE as DIGEST
from transforms.decode import STAGE as DECODE
from transforms.decode_in_processes import WAIT as WAIT_DECODE
from transforms.elements.records import StageSeconds
from transforms.embed import BUNDLE, LOAD, WAIT
from transforms.embed import STAGE as EMBED
from transforms.list import STAGE as LIST
from transforms.output.shards import STAGE as WRITE
from transforms.read import STAGE as READ

# The phases of a run. Two more, listing and reading for digests, have the names of their stages.
START_UP, COMPARE, WORK, FINISH = "start_up", "compare", "work", "finish"

# The share of the batch size that the mean batch has at least if the batch size is a limit. Smaller batches are cut by
# the ends of bundles, and a larger batch size would not help.
_FULL_BATCH_SHARE = 0.9
# With less than half a thread at work on average, no stage can be the limit of a run.
_MIN_BUSY_THREADS = 0.5
# The share of the images that the lock lets pass at most, from which on the lock can be the limit. It is small, because
# the seconds of the lock are the least that it is held, and threads that take turns lose time.
_LOCKED_SHARE = 0.2
_LOCK = "lock"
_ACTIVITIES = {
    START_UP: "starting",
    LIST: "listing",
    COMPARE: "comparing the images with earlier runs and each other",
    DIGEST: "reading",
    WORK: "reading",
    FINISH: "finishing",
}
_TWICE_THE_CORES = "twice the cores (for about twice the images a second)"


@dataclasses.dataclass(frozen=True)
class Measured:
    """The measurements of a run that its verdict rests on.

    Attributes:
      counts: numbers of images by outcome, as in the report.
      stages: stage → times, in seconds after the start of the command. EMBED is the model at work; in WAIT, threads
        wait for their turn to call it, in LOAD for it to be loaded.
      elapsed: seconds from the start of the command to the report.
      device: the device that the model ran on. The name of a GPU begins with GPU. "" if it is unknown.
      cores: of a machine that embeds.
      batch_size: the most images that a call of the model may have.
      read_concurrency: files that a process may have in flight; None for shards, which are streamed.
      precision: the value of the flag.
      decodes_in_processes, decodes_elsewhere, worker_processes: see feed.of.
    """

    counts: Mapping[str, int]
    stages: Mapping[str, StageSeconds]
    elapsed: float
    device: str
    cores: int
    batch_size: int
    read_concurrency: int | None
    precision: str
    decodes_in_processes: bool = False
    decodes_elsewhere: bool = False
    worker_processes: int = 1

    @property
    def feed(self) -> feed.Feed | None:
        return feed.of(
            self.stages,
            decodes_in_processes=self.decodes_in_processes,
            decodes_elsewhere=self.decodes_elsewhere,
            cores=self.cores,
            worker_processes=self.worker_processes,
        )

    @property
    def on_gpu(self) -> bool:
        return self.device.startswith("GPU")

    def seconds(self, stage: str) -> float:
        """Returns the seconds that the threads were busy in a stage, or 0.0 if there was no such stage."""
        return self.stages[stage].seconds if stage in self.stages else 0.0

    def image_ms(self, stage: str) -> str:
        """Returns the time that a stage takes per embedded image."""
        return f"{self.seconds(stage) / self.counts['embedded'] * 1e3:.1f} ms"


def phases(stages: Mapping[str, StageSeconds], elapsed: float) -> dict[str, float]:
    """Returns the phases of a run and their seconds, which add up to `elapsed`.

    START_UP lasts until listing begins, or the first other work, and has the time for loading the model. LIST follows.
    DIGEST reads files for digests that show which images are equal. COMPARE is the rest of the time before WORK, in
    which the runner joins the listing with earlier runs, and images of one size with each other. WORK begins with
    reading the first image and ends with the model's last call, without the time for loading the model. FINISH follows.
    """
    before = [(stage, stages[stage]) for stage in (LIST, DIGEST) if stage in stages]
    at_work = [stages[stage] for stage in (READ, DECODE, EMBED) if stage in stages]
    idle = max((time.ended for _, time in before), default=elapsed)
    # Limits the effect of clocks that differ between machines.
    begin = min(max(min((time.started for time in at_work), default=idle), 0.0), elapsed)
    end = min(max(max((time.ended for time in at_work), default=idle), begin), elapsed)
    listing = {LIST: 0.0, DIGEST: 0.0}
    until = 0.0
    for stage, time in before:
        start, until = max(until, time.started), min(max(until, time.ended), begin)
        listing[stage] = max(0.0, until - start)
    load = stages.get(LOAD)
    # A worker loads the model at its first batch, while all its threads wait.
    loading = min(load.seconds / load.calls, end - begin) if load else 0.0
    launch = min([begin, *(max(0.0, time.started) for _, time in before)])
    compare = max(0.0, begin - launch - sum(listing.values()))
    start_up = begin - compare - sum(listing.values()) + loading
    return {
        START_UP: start_up,
        LIST: listing[LIST],
        COMPARE: compare,
        DIGEST: listing[DIGEST],
        WORK: end - begin - loading,
        FINISH: elapsed - end,
    }


def verdict(run: Measured) -> str:
    """Returns the limit of a run, the measurement that shows it, and the changes that would help."""
    phase_seconds = phases(run.stages, run.elapsed)
    phase = max(phase_seconds, key=lambda phase: phase_seconds[phase])
    part = f"{_duration(phase_seconds[phase])} of {_duration(run.elapsed)}"
    if not run.counts["embedded"]:
        outcomes = [f"{run.counts[name]} {name}" for name in ("skipped", "reused", "failed") if run.counts[name]]
        return (
            f"nothing to embed: {', '.join(outcomes) or 'no image was listed'}; {part} went into {_ACTIVITIES[phase]}"
        )
    if phase == START_UP:
        share = f"{part} went into starting and loading the model"
        return f"start-up-bound: {share}; more images in one run would share it"
    if phase == LIST:
        return f"list-bound: {part} went into listing; a narrower --input, or --input_format list, would help"
    if phase == COMPARE:
        return f"compare-bound: {part} went into {_ACTIVITIES[COMPARE]}; a runner with more workers would help"
    if phase == DIGEST:
        faster = _any_of([*_more_in_flight(run, 0.5), "workers nearer to the storage"])
        return f"digest-bound: {part} went into reading files to find equal ones; {faster}"
    if phase == FINISH:
        return f"finish-bound: {part} passed after the model's last call; more images in one run would share it"
    return _of_work(run, phase_seconds[WORK])


def _of_work(run: Measured, work: float) -> str:
    seconds, wait = _of_threads(run), run.seconds(WAIT)
    total = sum(seconds.values())
    if total < _MIN_BUSY_THREADS * work:
        return (
            f"runner-bound: the stages were busy for {_duration(total)} of the {_duration(work)} between reading the "
            "first image and the model's last call; the runner spent the rest"
        )
    # If threads wait for the model longer than it works, it is always busy, whatever else the threads do.
    limit = EMBED if wait > run.seconds(EMBED) else max(seconds, key=lambda stage: seconds[stage])
    if limit == _LOCK and not _is_locked(run, work):
        limit = max(seconds.keys() - {_LOCK}, key=lambda stage: seconds[stage])
    share = f"{seconds[limit] / total:.0%} of the threads' time"
    if limit == READ:
        return _of_reading(run, share, seconds[READ] / total)
    if limit == DECODE:
        return _of_decoding(run, f"{share} went into decoding")
    if limit == WAIT_DECODE:
        return _of_decoding(run, f"{share} went into waiting for the decoder processes")
    if limit == EMBED:
        return _of_embedding(run, share, wait)
    if limit == _LOCK:
        return _of_lock(run, share)
    return (
        f"write-bound: {share} went into writing, {run.image_ms(WRITE)} an image; "
        "an --output that is faster or nearer to the workers would help"
    )


def _of_threads(run: Measured) -> dict[str, float]:
    """Returns the seconds of the threads by what they did. In _LOCK they ran Python, or waited for its lock."""
    here = {EMBED: run.seconds(EMBED) + run.seconds(WAIT), WRITE: run.seconds(WRITE)}
    if run.decodes_in_processes:
        decoding = {WAIT_DECODE: run.seconds(WAIT_DECODE)}
    else:
        # A thread in the decoder that keeps no core busy waits for the lock.
        core_seconds = run.stages[DECODE].core_seconds if DECODE in run.stages else 0.0
        decoding = {READ: run.seconds(READ), DECODE: core_seconds or run.seconds(DECODE)}
    if not run.decodes_elsewhere:
        here |= decoding
    locked = run.seconds(BUNDLE) - sum(here.values()) - run.seconds(LOAD)
    return here | decoding | ({_LOCK: max(locked, 0.0)} if BUNDLE in run.stages else {})


def _is_locked(run: Measured, work: float) -> bool:
    """Returns whether so many images passed through the lock that it can be the limit."""
    return run.feed is not None and run.stages[BUNDLE].items >= _LOCKED_SHARE * run.feed.of_lock * work


def _of_lock(run: Measured, share: str) -> str:
    assert run.feed  # noqa: S101 - without it there are no seconds of the lock
    change = "more worker processes" if run.decodes_in_processes else "--decode_processes cores"
    return (
        f"lock-bound: {share} went into Python, or into waiting for its lock, which an image takes for "
        f"{run.feed.lock_seconds * 1e3:.2f} ms; {change} would help"
    )


def _of_reading(run: Measured, share: str, waiting: float) -> str:
    flag = f" with --read_concurrency {run.read_concurrency}" if run.read_concurrency else ""
    measurement = f"{share} went into waiting for files, {run.image_ms(READ)} an image{flag}"
    return f"read-bound: {measurement}; {_any_of([*_more_in_flight(run, waiting), 'workers nearer to the storage'])}"


def _more_in_flight(run: Measured, waiting: float) -> list[str]:
    """Returns the flag with which files would arrive in time; `waiting` is the share of time that threads wait."""
    if not run.read_concurrency:
        return []
    enough = min(math.ceil(run.read_concurrency / max(1 - waiting, 1e-9)), in_flight.CONCURRENCY_MAX)
    return [f"--read_concurrency {enough}"] if enough > run.read_concurrency else []


def _of_decoding(run: Measured, measurement: str) -> str:
    if not run.on_gpu:
        measurement = f"{measurement}, {run.image_ms(DECODE)} an image"
        return f"decode-bound: {measurement}; {_any_of([_TWICE_THE_CORES])}"
    needed = max(math.ceil(run.seconds(DECODE) / max(run.seconds(EMBED), 1e-9)), run.cores + 1)
    return (
        f"decode-bound: an image takes {run.image_ms(DECODE)} of a core and {run.image_ms(EMBED)} of the GPU; "
        f"{needed} cores for each GPU would keep it busy, {needed - run.cores} more than now"
    )


def _of_embedding(run: Measured, share: str, wait: float) -> str:
    per_image = f"{run.image_ms(EMBED)} an image"
    precision = [] if run.precision != "float32" else ["--precision auto where the hardware has bfloat16"]
    if not run.on_gpu:
        on_cpu, gpu = (" on the CPU", ["a GPU"]) if run.device else ("", [])
        measurement = f"{share} went into the model{_waiting(wait)}, {per_image}{on_cpu}"
        return f"embed-bound: {measurement}; {_any_of([_TWICE_THE_CORES, *precision, *gpu, 'a smaller --model'])}"
    embed = run.stages[EMBED]
    is_full = embed.items / embed.calls >= _FULL_BATCH_SHARE * run.batch_size
    changes = [*([f"a --batch_size above {run.batch_size}"] if is_full else []), *precision, "more GPUs"]
    no_cores = ", more cores would not" if wait > run.seconds(EMBED) else ""
    measurement = f"{share} went into the model{_waiting(wait)}, {per_image} on the GPU"
    return f"embed-bound: {measurement}; {_any_of(changes)}{no_cores}"


def _waiting(wait: float) -> str:
    return " or into waiting for its turn" if wait else ""


def _any_of(changes: Sequence[str]) -> str:
    *others, last = changes
    return (f"{', '.join(others)} or {last}" if others else last) + " would help"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
