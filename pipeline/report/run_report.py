"""The run report: what became of every image, combined in the pipeline itself, then as JSON and as text.

The last step of the job writes it, after everything that it speaks of: a job that nobody waits for tells as much.
"""

import dataclasses
import datetime
import functools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

from pipeline import presets
from pipeline.options import EmbedConfig
from pipeline.report import verdict as verdicts
from pipeline.report.verdict import Busy, Measured
from transforms import write_tfrecord
from transforms.cores import usable_cores
from transforms.formats import SHARD_FORMATS
from transforms.models.spec import ModelSpec
from transforms.records import Failure, Shard, StageSeconds
from transforms.storage import files

# What a sum is of: its kind, a name or stage, and an error or a device.
Entry = tuple[str, str, str]
# Of how many values it is, their sum, the largest, how many calls made them, when the first of these began and the last
# ended, in seconds since 1970.
Amount = tuple[int, float, float, float, float, float]
_COUNT, _BUSY, _ERROR = "count", "busy", "error"

COUNTS = ("listed", "embedded", "reused", "duplicate", "failed", "skipped")


class FailureRateExceeded(RuntimeError):
    """More images failed than the run was allowed to lose; everything written is kept."""


@dataclasses.dataclass(frozen=True)
class RunReport:
    """What `runs/<run_id>.json` holds.

    Attributes:
      counts: images: listed = embedded + reused + duplicate + failed + skipped.
      failures: stage → error → images.
      pruned: rows removed from the table, of images that are gone.
      inputs: the patterns that were listed.
      model: the ModelSpec, of its classes only how many they are.
      shards: files of embeddings.
      seconds: stage → seconds that the workers' threads were busy with it, all threads together: `list`;
        `digest` and `read`, waiting for files in flight, for their digests and for their pixels; `decode`; `load`,
        waiting for the model to be loaded; `wait`, for a turn to call it; `embed`, the model; `write`, encoding and
        writing files. Not in it is what Beam does by itself, as loading rows into BigQuery.
      timings: stage → how long its things took: number, mean and longest (ms); of embed `batch_size`, images a call;
        `from_s` and `to_s`, when the first began and the last ended, in seconds after the start of the command.
      elapsed_seconds: from the start of the command to the report.
      images_per_second: embedded images over elapsed seconds.
      verdict: what limited this run, in one sentence.
      phases: the elapsed seconds by what the run was at, as verdict.phases has them; they add up.
      device: what the model ran on, "" where it did not run.
    """

    run_id: str
    started_at: str
    finished_at: str
    counts: dict[str, int]
    pruned: int
    failures: dict[str, dict[str, int]]
    inputs: list[str]
    model: dict[str, Any]
    shards: int
    seconds: dict[str, float]
    timings: dict[str, dict[str, float]]
    elapsed_seconds: float
    images_per_second: float
    verdict: str
    phases: dict[str, float] = dataclasses.field(default_factory=dict)
    device: str = ""

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "RunReport":
        return cls(**json.loads(text))

    @property
    def failure_rate(self) -> float:
        return self.counts["failed"] / self.counts["listed"] if self.counts["listed"] else 0.0

    def exceeds(self, max_failure_rate: float) -> str | None:
        """Returns what to say where more failed than allowed, else None."""
        if self.failure_rate <= max_failure_rate:
            return None
        return (
            f"{self.counts['failed']} of {self.counts['listed']} images failed, {self.failure_rate:.2%}: "
            f"more than --max_failure_rate {max_failure_rate:.2%}"
        )


def path(output: str, run_id: str) -> str:
    """Returns where the report of a run lies."""
    return f"{output}/runs/{run_id}.json"


def read(output: str, run_id: str) -> RunReport | None:
    """Returns the report of a run, None where there is none (yet)."""
    place = path(output, run_id)
    return RunReport.from_json(files.read(place)) if files.match(place) else None


def write(output: str, report: RunReport) -> None:
    """Writes the report of a run, by which it counts as complete."""
    files.write(path(output, report.run_id), report.to_json().encode())


def compose(
    config: EmbedConfig,
    model: ModelSpec,
    *,
    counted: Mapping[str, int],
    failures: Mapping[tuple[str, str], int],
    busy: Mapping[tuple[str, str], Amount],
    finished_at: datetime.datetime,
) -> RunReport:
    """Returns the report of what was counted.

    Args:
      config: the run; model: what it embedded with.
      counted: images by what became of them, and where files are written, the `records` and `lines` in the `shards`.
      failures: (stage, error) → images.
      busy: (stage, device) → seconds.
      finished_at: when the last file was complete.

    Raises:
      RuntimeError: if an image is unaccounted for; a report that cannot be true is not written.
    """
    counts = {name: counted.get(name, 0) for name in COUNTS}
    vectors = counts["embedded"] + counts["reused"] + counts["duplicate"]
    holds = counts["listed"] == vectors + counts["failed"] + counts["skipped"]
    if config.output:
        holds = holds and (counted.get("records", 0), counted.get("lines", 0)) == (vectors, counts["failed"])
    if not holds or counts["failed"] != sum(failures.values()):
        raise RuntimeError(f"images are unaccounted for: {dict(counted)}, failures by error: {failures}")
    by_stage: dict[str, dict[str, int]] = {}
    for (stage, error), images in sorted(failures.items()):
        by_stage.setdefault(stage, {})[error] = images
    elapsed = (finished_at - config.started_at).total_seconds()
    stages = _stages(busy, config.started_at.timestamp())
    device = ", ".join(sorted({device for _, device in busy if device}))
    measured = Measured(
        counts,
        stages,
        elapsed,
        device,
        cores=_cores(config),
        batch_size=config.batch_size,
        read_concurrency=None if config.input_format in SHARD_FORMATS else config.read_concurrency,
        precision=config.precision,
    )
    return RunReport(
        run_id=config.run_id,
        started_at=config.started_at.isoformat(timespec="milliseconds"),
        finished_at=finished_at.isoformat(timespec="milliseconds"),
        counts=counts,
        pruned=counted.get("pruned", 0),
        failures=by_stage,
        inputs=list(config.inputs),
        model=_described(model),
        shards=counted.get("shards", 0),
        seconds={stage: round(found.seconds, 3) for stage, found in stages.items()},
        timings={stage: _timing(found) for stage, found in stages.items()},
        elapsed_seconds=round(elapsed, 3),
        images_per_second=round(counts["embedded"] / elapsed, 3) if elapsed > 0 else 0.0,
        verdict=verdicts.verdict(measured),
        phases={phase: round(spent, 3) for phase, spent in verdicts.phases(stages, elapsed).items()},
        device=device,
    )


def _stages(busy: Mapping[tuple[str, str], Amount], started_at: float) -> dict[str, Busy]:
    by_stage: dict[str, list[Amount]] = {}
    for (stage, _), amount in sorted(busy.items()):
        by_stage.setdefault(stage, []).append(amount)
    return {stage: _since(_merge(amounts), started_at) for stage, amounts in by_stage.items()}


def _since(amount: Amount, started_at: float) -> Busy:
    things, seconds, longest, calls, first, last = amount
    return Busy(things, seconds, longest, calls, first - started_at, last - started_at)


def _cores(config: EmbedConfig) -> int:
    """Returns how many cores a machine that embeds has."""
    asked = config.runs_on
    if asked.preset != "dataflow-gpu":
        return usable_cores()  # the report is composed by a worker like those that embed
    gpu = asked.gpu or str(presets.settings(asked.preset)["gpu"])
    return presets.shape(presets.accelerator(gpu, asked.gpu_count, asked.gpu_machine_type).machine_type).vcpus


def _timing(busy: Busy) -> dict[str, float]:
    timing = {
        "number": busy.things,
        "mean_ms": round(busy.seconds / busy.things * 1e3, 3),
        "longest_ms": round(busy.longest * 1e3, 3),
        "from_s": round(busy.first, 3),
        "to_s": round(busy.last, 3),
    }
    # Sums of thirds are not quite whole.
    is_batched = abs(busy.calls - busy.things) >= 1e-6 * busy.things
    return timing | {"batch_size": round(busy.things / busy.calls, 2)} if is_batched else timing


def _described(model: ModelSpec) -> dict[str, Any]:
    return dataclasses.asdict(model) | {"classes": len(model.classes)}


def summary(report: RunReport, config: EmbedConfig) -> str:
    """Returns what a person sees at the end of a run."""
    counts = report.counts
    others = "".join(f" + {counts[name]} {name}" for name in ("reused", "duplicate", "skipped") if counts[name])
    height, width = report.model["image_size"]
    dimension = report.model["dimension"]
    lines = [
        f"{counts['listed']} images listed = {counts['embedded']} embedded + {counts['failed']} failed{others}",
        "",
        f"  speed     {report.images_per_second:.1f} images/s, {report.elapsed_seconds:.1f} s in all",
        f"  limit     {report.verdict}",
        f"  model     {report.model['name']}, {dimension} dimensions from {height}x{width} pixels, "
        f"digest {report.model['digest'][:12]}",
    ]
    if config.output:
        vectors = write_tfrecord.directory(config.output, report.run_id)
        lines += [
            f"  vectors   {vectors}/part-*.tfrecord ({report.shards} files)",
            f"  report    {path(config.output, report.run_id)}",
        ]
        if counts["skipped"] and not config.output_table:
            lines.append(
                f"  skipped   their vectors are in {write_tfrecord.directory(config.output, '*')}/part-*.tfrecord"
            )
    if config.output_table:
        pruned = f", {report.pruned} rows pruned" if report.pruned else ""
        lines.append(f"  table     {config.output_table}{pruned}; failures in …_failures, this report in …_runs")
    for stage, errors in report.failures.items():
        for error, images in errors.items():
            lines.append(f"  failed    {images} × {error} in the stage {stage}")
    if report.failures and config.output:
        lines.append(f"            each one: {config.output}/failures/{report.run_id}/part-*.jsonl")
    if config.output and report.shards:
        lines += ["", "Read them:", "", _reading(vectors, dimension)]
    return "\n".join([*lines, ""])


def _reading(vectors: str, dimension: int) -> str:
    return (
        f'  files = tf.io.gfile.glob("{vectors}/part-*.tfrecord")\n'
        '  spec = {"image/key": tf.io.FixedLenFeature([], tf.string), '
        f'"embedding": tf.io.FixedLenFeature([{dimension}], tf.float32)}}\n'
        "  table = tf.data.TFRecordDataset(files).map(lambda record: tf.io.parse_single_example(record, spec))"
    )


@dataclasses.dataclass(eq=False)
class ComposeReport(beam.PTransform):
    """Pipeline → RunReport, once everything that it counts is written.

    Attributes:
      config: the run; model: what it embeds with.
      counted: (name in COUNTS or `pruned`, a collection of what counts under it); a name may come several times.
      failures: what failed.
      written: (`records` or `lines`, the files of them).
      seconds: busy times, in several collections.
    """

    config: EmbedConfig
    model: ModelSpec
    counted: Sequence[tuple[str, beam.PCollection]]
    failures: beam.PCollection[Failure]
    written: Sequence[tuple[str, beam.PCollection[Shard]]]
    seconds: Sequence[beam.PCollection[StageSeconds]]

    def expand(self, root: Any) -> beam.PCollection[RunReport]:
        # Summed where it is made, a bundle at a time, so that what is merged is a few numbers.
        summed: list[tuple[beam.PCollection, Callable[[Any], Iterable[tuple[Entry, Amount]]]]]
        summed = [(found, functools.partial(_count, name=name)) for name, found in self.counted]
        summed += [(shards, functools.partial(_in_shard, name=name)) for name, shards in self.written]
        summed += [(busy, _busy) for busy in self.seconds]
        summed.append((self.failures, _error))
        tallies = [
            found | f"Sum{i}" >> beam.ParDo(_Sum(entries)).with_output_types(tuple[Entry, Amount])
            for i, (found, entries) in enumerate(summed)
        ]
        totals = tallies | "Sums" >> beam.Flatten() | "Total" >> beam.CombinePerKey(_merge)
        return (
            root
            | "Once" >> beam.Impulse()
            | "Compose" >> beam.ParDo(_Compose(self.config, self.model), totals=beam.pvalue.AsDict(totals))
        )


class _Sum(beam.DoFn):
    """Any element → what it adds to, and how much, one sum a bundle for each."""

    def __init__(self, entries: Callable[[Any], Iterable[tuple[Entry, Amount]]]):
        self._entries = entries

    def start_bundle(self) -> None:
        self._sums: dict[Entry, Amount] = {}

    def process(self, element: Any) -> None:
        for entry, amount in self._entries(element):
            self._sums[entry] = _merge([self._sums[entry], amount]) if entry in self._sums else amount

    def finish_bundle(self) -> Iterable[Any]:
        for entry, amount in self._sums.items():
            yield GlobalWindows.windowed_value((entry, amount))


class _Compose(beam.DoFn):
    def __init__(self, config: EmbedConfig, model: ModelSpec):
        self._config = config
        self._model = model

    def process(self, _: bytes, totals: dict[Entry, Amount]) -> Iterable[RunReport]:
        yield compose(
            self._config,
            self._model,
            counted={name: int(total) for (kind, name, _), (_, total, *_) in totals.items() if kind == _COUNT},
            failures={
                (stage, error): number for (kind, stage, error), (number, *_) in totals.items() if kind == _ERROR
            },
            busy={(stage, device): amount for (kind, stage, device), amount in totals.items() if kind == _BUSY},
            finished_at=datetime.datetime.now(datetime.UTC),
        )


@dataclasses.dataclass(eq=False)
class WriteReport(beam.PTransform):
    """RunReport → the same, written under `<output>/runs/<run_id>.json` where there is an output.

    Fails the job, after the report is written, where more images failed than allowed.
    """

    config: EmbedConfig
    model: ModelSpec

    def expand(self, report: beam.PCollection[RunReport]) -> beam.PCollection[RunReport]:
        return report | "Write" >> beam.Map(_write, self.config, self.model)


def _write(report: RunReport, config: EmbedConfig, model: ModelSpec) -> RunReport:
    if config.output:
        write_tfrecord.write_schema(config.output, config.written(model))
        write(config.output, report)
    if said := report.exceeds(config.max_failure_rate):
        raise FailureRateExceeded(said)
    return report


def _merge(amounts: Iterable[Amount]) -> Amount:
    numbers, totals, largest, calls, first, last = zip(*amounts, strict=True)
    return sum(numbers), sum(totals), max(largest), sum(calls), min(first), max(last)


def _many(value: float) -> Amount:
    return 1, value, value, 1, math.inf, -math.inf


def _count(_: Any, name: str) -> Iterable[tuple[Entry, Amount]]:
    yield (_COUNT, name, ""), _many(1)


def _in_shard(shard: Shard, name: str) -> Iterable[tuple[Entry, Amount]]:
    yield (_COUNT, name, ""), _many(shard.records)
    if name == "records":
        yield (_COUNT, "shards", ""), _many(1)


def _busy(busy: StageSeconds) -> Iterable[tuple[Entry, Amount]]:
    # A call that several share lasts as long as all that it is for.
    began = busy.ended - busy.seconds / busy.calls
    yield (_BUSY, busy.stage, busy.device), (1, busy.seconds, busy.seconds, busy.calls, began, busy.ended)


def _error(failure: Failure) -> Iterable[tuple[Entry, Amount]]:
    yield (_ERROR, failure.stage, failure.error), _many(1)
