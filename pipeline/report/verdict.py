"""The verdict of a run: one sentence on its limit and on remedies, from the run's own measurements."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from pipeline.report.input_rate import InputRate, of_run
from pipeline.report.phases import COMPARE, DIGEST, FINISH, LIST, START_UP, WORK, phases
from transforms.concurrent import in_flight
from transforms.decode import STAGE as DECODE
from transforms.decode_in_processes import WAIT as WAIT_DECODE
from transforms.elements.records import StageSeconds
from transforms.embed import BUNDLE, LOAD, WAIT
from transforms.embed import STAGE as EMBED
from transforms.output.shards import STAGE as WRITE
from transforms.read import STAGE as READ

# With less than half a thread at work on average, no stage can be the limit of a run.
_MIN_BUSY_THREADS = 0.5
# The GIL can be the limit once a run reaches this share of the rate that the GIL allows. The share is small, because
# threads lose time when they take turns.
_LOCKED_SHARE = 0.2
# A larger batch size helps only if the mean batch fills this share of the present size. Otherwise bundles end earlier.
_FULL_BATCH_SHARE = 0.9

_LOCK = "lock"
_NEARER = "workers nearer to the storage"
_TWICE_THE_CORES = "twice the cores (for about twice the images a second)"

# The longest phase of a run that embedded nothing → what the run did in it.
_ACTIVITIES = {
    START_UP: "starting",
    LIST: "listing",
    COMPARE: "comparing the images with earlier runs and each other",
    DIGEST: "reading",
    WORK: "reading",
    FINISH: "finishing",
}
# The longest phase of any other run → its verdict. The verdict on WORK depends on its stages.
_OF_PHASES = {
    START_UP: "start-up-bound: {part} went into starting and loading the model; more images in one run would share it",
    LIST: "list-bound: {part} went into listing; a narrower --input, or --input_format list, would help",
    COMPARE: f"compare-bound: {{part}} went into {_ACTIVITIES[COMPARE]}; a runner with more workers would help",
    DIGEST: "digest-bound: {part} went into reading files to find equal ones; {faster_files}",
    FINISH: "finish-bound: {part} passed after the model's last call; more images in one run would share it",
}


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
      decodes_in_processes, decodes_elsewhere, worker_processes, decoder_processes: see input_rate.of_run.
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
    decoder_processes: int | None = None

    @property
    def input_rate(self) -> InputRate | None:
        return of_run(
            self.stages,
            decodes_in_processes=self.decodes_in_processes,
            decodes_elsewhere=self.decodes_elsewhere,
            cores=self.cores,
            worker_processes=self.worker_processes,
            decoder_processes=self.decoder_processes,
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


def verdict(run: Measured) -> str:
    """Returns the limit of a run, the measurement that shows it, and the changes that would help."""
    seconds = phases(run.stages, run.elapsed)
    longest = max(seconds, key=seconds.__getitem__)
    part = f"{_duration(seconds[longest])} of {_duration(run.elapsed)}"
    if not run.counts["embedded"]:
        outcomes = [f"{run.counts[name]} {name}" for name in ("skipped", "reused", "failed") if run.counts[name]]
        why = ", ".join(outcomes) or "no image was listed"
        return f"nothing to embed: {why}; {part} went into {_ACTIVITIES[longest]}"
    if longest == WORK:
        return _of_work(run, seconds[WORK])
    return _OF_PHASES[longest].format(part=part, faster_files=_faster_files(run, waiting=0.5))


def _of_work(run: Measured, work: float) -> str:
    """Returns the verdict of a run whose longest phase was WORK, of `work` seconds."""
    seconds = _seconds_of_threads(run)
    total = sum(seconds.values())
    if total < _MIN_BUSY_THREADS * work:
        return (
            f"runner-bound: the stages were busy for {_duration(total)} of the {_duration(work)} between reading the "
            "first image and the model's last call; the runner spent the rest"
        )
    limit = _limit(run, seconds, work)
    return _OF_STAGES[limit](run, seconds[limit] / total)


def _seconds_of_threads(run: Measured) -> dict[str, float]:
    """Returns the seconds of the threads by what they did. In _LOCK they ran Python, or waited for the GIL."""
    seconds = {EMBED: run.seconds(EMBED) + run.seconds(WAIT), WRITE: run.seconds(WRITE)}
    if run.decodes_in_processes:
        before = {WAIT_DECODE: run.seconds(WAIT_DECODE)}
    else:
        # A thread in the decoder that keeps no core busy waits for the GIL.
        core_seconds = run.stages[DECODE].core_seconds if DECODE in run.stages else 0.0
        before = {READ: run.seconds(READ), DECODE: core_seconds or run.seconds(DECODE)}
    if BUNDLE in run.stages:
        others = sum(seconds.values()) + (0.0 if run.decodes_elsewhere else sum(before.values()))
        seconds[_LOCK] = max(run.seconds(BUNDLE) - others - run.seconds(LOAD), 0.0)
    return seconds | before


def _limit(run: Measured, seconds: Mapping[str, float], work: float) -> str:
    """Returns the activity on which the threads spent most of their time, among those that can be the limit."""
    # A model that threads wait for longer than it works is always busy, whatever else they do.
    if run.seconds(WAIT) > run.seconds(EMBED):
        return EMBED
    rate = run.input_rate
    is_locked = rate is not None and run.stages[BUNDLE].items >= _LOCKED_SHARE * rate.of_lock * work
    return max((stage for stage in seconds if stage != _LOCK or is_locked), key=seconds.__getitem__)


def _reading(run: Measured, share: float) -> str:
    flag = f" with --read_concurrency {run.read_concurrency}" if run.read_concurrency else ""
    measurement = f"{_of_time(share)} went into waiting for files, {run.image_ms(READ)} an image{flag}"
    return f"read-bound: {measurement}; {_faster_files(run, waiting=share)}"


def _decoding(run: Measured, share: float) -> str:
    return _decode_bound(run, f"{_of_time(share)} went into decoding")


def _waiting_for_decoders(run: Measured, share: float) -> str:
    return _decode_bound(run, f"{_of_time(share)} went into waiting for the decoder processes")


def _decode_bound(run: Measured, measurement: str) -> str:
    if not run.on_gpu:
        return f"decode-bound: {measurement}, {run.image_ms(DECODE)} an image; {_any_of([_TWICE_THE_CORES])}"
    needed = max(math.ceil(run.seconds(DECODE) / max(run.seconds(EMBED), 1e-9)), run.cores + 1)
    return (
        f"decode-bound: an image takes {run.image_ms(DECODE)} of a core and {run.image_ms(EMBED)} of the GPU; "
        f"{needed} cores for each GPU would keep it busy, {needed - run.cores} more than now"
    )


def _embedding(run: Measured, share: float) -> str:
    waiting = " or into waiting for its turn" if run.seconds(WAIT) else ""
    place = " on the GPU" if run.on_gpu else " on the CPU" if run.device else ""
    measurement = f"{_of_time(share)} went into the model{waiting}, {run.image_ms(EMBED)} an image{place}"
    precision = ["--precision auto where the hardware has bfloat16"] if run.precision == "float32" else []
    if not run.on_gpu:
        gpu = ["a GPU"] if run.device else []
        return f"embed-bound: {measurement}; {_any_of([_TWICE_THE_CORES, *precision, *gpu, 'a smaller --model'])}"
    mean_batch = run.stages[EMBED].items / run.stages[EMBED].calls
    is_full = mean_batch >= _FULL_BATCH_SHARE * run.batch_size
    batch_size = [f"a --batch_size above {run.batch_size}"] if is_full else []
    no_cores = ", more cores would not" if run.seconds(WAIT) > run.seconds(EMBED) else ""
    return f"embed-bound: {measurement}; {_any_of([*batch_size, *precision, 'more GPUs'])}{no_cores}"


def _waiting_for_lock(run: Measured, share: float) -> str:
    assert run.input_rate  # noqa: S101 - else the lock is no limit
    change = "more worker processes" if run.decodes_in_processes else "--decode_processes cores"
    return (
        f"lock-bound: {_of_time(share)} went into Python, or into waiting for its lock, which an image takes for "
        f"{run.input_rate.lock_seconds * 1e3:.2f} ms; {change} would help"
    )


def _writing(run: Measured, share: float) -> str:
    return (
        f"write-bound: {_of_time(share)} went into writing, {run.image_ms(WRITE)} an image; "
        "an --output that is faster or nearer to the workers would help"
    )


# What the threads spent most of their time on → the run and its share of that time → the verdict.
_OF_STAGES: Mapping[str, Callable[[Measured, float], str]] = {
    READ: _reading,
    DECODE: _decoding,
    WAIT_DECODE: _waiting_for_decoders,
    EMBED: _embedding,
    _LOCK: _waiting_for_lock,
    WRITE: _writing,
}


def _faster_files(run: Measured, waiting: float) -> str:
    """Returns what would make files arrive in time; `waiting` is the share of the threads' time spent waiting."""
    if not run.read_concurrency:
        return _any_of([_NEARER])
    enough = min(math.ceil(run.read_concurrency / max(1 - waiting, 1e-9)), in_flight.CONCURRENCY_MAX)
    more = [f"--read_concurrency {enough}"] if enough > run.read_concurrency else []
    return _any_of([*more, _NEARER])


def _any_of(changes: Sequence[str]) -> str:
    *others, last = changes
    return (f"{', '.join(others)} or {last}" if others else last) + " would help"


def _of_time(share: float) -> str:
    return f"{share:.0%} of the threads' time"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
