"""The run report: what became of every image, combined in the pipeline itself, then as JSON and as text.

The last step of the job writes it, after everything that it speaks of: a job that nobody waits for tells as much.
"""

import dataclasses
import datetime
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import apache_beam as beam

from pipeline.options import EmbedConfig
from transforms import storage, write_tfrecord
from transforms.models.spec import ModelSpec
from transforms.records import Failure, Shard, StageSeconds


class FailureRateExceeded(RuntimeError):
    """More images failed than the run was allowed to lose; everything written is kept."""


@dataclasses.dataclass(frozen=True)
class RunReport:
    """What `runs/<run_id>.json` holds.

    Attributes:
      counts: images: listed = embedded + reused + duplicate + failed + skipped.
      failures: stage → error → images.
      model: the ModelSpec, of its classes only how many they are.
      shards: files of embeddings.
      seconds: stage → seconds that the workers' threads were busy with it, all threads together.
      elapsed_seconds: from the start of the command to the report.
      images_per_second: embedded images over elapsed seconds.
      verdict: what limited this run, in one sentence.
    """

    run_id: str
    started_at: str
    finished_at: str
    counts: dict[str, int]
    failures: dict[str, dict[str, int]]
    model: dict[str, Any]
    shards: int
    seconds: dict[str, float]
    elapsed_seconds: float
    images_per_second: float
    verdict: str

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
    return RunReport.from_json(storage.read(place)) if storage.match(place) else None


def compose(
    config: EmbedConfig,
    model: ModelSpec,
    *,
    listed: int,
    failures: Mapping[tuple[str, str], int],
    embeddings: Sequence[Shard],
    failed: Sequence[Shard],
    seconds: Mapping[str, float],
    finished_at: datetime.datetime,
) -> RunReport:
    """Returns the report of what was counted.

    Args:
      config: the run; model: what it embedded with.
      listed: images found.
      failures: (stage, error) → images.
      embeddings, failed: the files written, whose records are the embedded and the failed images.
      seconds: stage → busy seconds.
      finished_at: when the last file was complete.

    Raises:
      RuntimeError: if an image is unaccounted for; a report that cannot be true is not written.
    """
    counts = {
        "listed": listed,
        "embedded": sum(shard.records for shard in embeddings),
        "reused": 0,
        "duplicate": 0,
        "failed": sum(shard.records for shard in failed),
        "skipped": 0,
    }
    if listed != sum(counts.values()) - listed or counts["failed"] != sum(failures.values()):
        raise RuntimeError(f"images are unaccounted for: {counts}, failures by error: {failures}")
    by_stage: dict[str, dict[str, int]] = {}
    for (stage, error), images in sorted(failures.items()):
        by_stage.setdefault(stage, {})[error] = images
    elapsed = (finished_at - config.started_at).total_seconds()
    return RunReport(
        run_id=config.run_id,
        started_at=config.started_at.isoformat(timespec="milliseconds"),
        finished_at=finished_at.isoformat(timespec="milliseconds"),
        counts=counts,
        failures=by_stage,
        model=_described(model),
        shards=len(embeddings),
        seconds={stage: round(busy, 3) for stage, busy in sorted(seconds.items())},
        elapsed_seconds=round(elapsed, 3),
        images_per_second=round(counts["embedded"] / elapsed, 3) if elapsed > 0 else 0.0,
        verdict=verdict(seconds),
    )


def _described(model: ModelSpec) -> dict[str, Any]:
    return dataclasses.asdict(model) | {"classes": len(model.classes)}


def verdict(seconds: Mapping[str, float]) -> str:
    """Returns in one sentence which stage the workers were busiest with, from their busy seconds by stage."""
    busy = sum(seconds.values())
    if not busy:
        return "no image was worked on"
    stage = max(seconds, key=lambda stage: seconds[stage])
    return f"{stage}-bound: {seconds[stage] / busy:.0%} of the workers' busy time went into the stage {stage}"


def summary(report: RunReport, output: str) -> str:
    """Returns what a person sees at the end of a run."""
    counts = report.counts
    others = ", ".join(f"{counts[name]} {name}" for name in ("reused", "duplicate", "skipped") if counts[name])
    vectors = write_tfrecord.directory(output, report.run_id)
    height, width = report.model["image_size"]
    lines = [
        f"{counts['listed']} images listed = {counts['embedded']} embedded + {counts['failed']} failed"
        + (f" ({others})" if others else ""),
        "",
        f"  speed     {report.images_per_second:.1f} images/s, {report.elapsed_seconds:.1f} s in all; {report.verdict}",
        f"  model     {report.model['name']}, {report.model['dimension']} dimensions from {height}x{width} pixels, "
        f"digest {report.model['digest'][:12]}",
        f"  vectors   {vectors}/part-*.tfrecord ({report.shards} files)",
        f"  report    {path(output, report.run_id)}",
    ]
    for stage, errors in report.failures.items():
        for error, images in errors.items():
            lines.append(f"  failed    {images} × {error} in the stage {stage}")
    if report.failures:
        lines.append(f"            each one: {output}/failures/{report.run_id}/part-*.jsonl")
    return "\n".join([*lines, "", "Read them:", "", _reading(vectors, report.model["dimension"]), ""])


def _reading(vectors: str, dimension: int) -> str:
    return (
        f'  files = tf.io.gfile.glob("{vectors}/part-*.tfrecord")\n'
        '  spec = {"image/key": tf.io.FixedLenFeature([], tf.string), '
        f'"embedding": tf.io.FixedLenFeature([{dimension}], tf.float32)}}\n'
        "  table = tf.data.TFRecordDataset(files).map(lambda record: tf.io.parse_single_example(record, spec))"
    )


class WriteReport(beam.PTransform):
    """Pipeline → the report under `<output>/runs/<run_id>.json`, once everything that it counts is written.

    Fails the job, after the report is written, where more images failed than allowed.
    """

    def __init__(
        self,
        config: EmbedConfig,
        model: ModelSpec,
        *,
        listed: tuple[beam.PCollection, ...],
        failures: beam.PCollection[Failure],
        embeddings: beam.PCollection[Shard],
        failed: beam.PCollection[Shard],
        seconds: tuple[beam.PCollection[StageSeconds], ...],
    ):
        """Takes what the stages gave.

        Args:
          config: the run; model: what it embeds with.
          listed: whatever was found, in several collections that together are all.
          failures: what failed.
          embeddings, failed: the files written.
          seconds: busy times, in several collections too.
        """
        super().__init__()
        self._config = config
        self._model = model
        self._listed = listed
        self._failures = failures
        self._embeddings = embeddings
        self._failed = failed
        self._seconds = seconds

    def expand(self, root: Any) -> beam.PCollection:
        # Each collection is reduced where it is made, then merged: to merge first would collect every element.
        listed = tuple(found | f"Count{i}" >> beam.combiners.Count.Globally() for i, found in enumerate(self._listed))
        seconds = tuple(
            busy | f"ByStage{i}" >> beam.Map(_by_stage) | f"Sum{i}" >> beam.CombinePerKey(sum)
            for i, busy in enumerate(self._seconds)
        )
        failures = (
            self._failures | "ByError" >> beam.Map(_by_error) | "CountErrors" >> beam.combiners.Count.PerElement()
        )
        return (
            root
            | "Once" >> beam.Impulse()
            | "Write"
            >> beam.ParDo(
                _Write(self._config, self._model),
                listed=beam.pvalue.AsList(listed | "Listed" >> beam.Flatten()),
                failures=beam.pvalue.AsDict(failures),
                embeddings=beam.pvalue.AsList(self._embeddings),
                failed=beam.pvalue.AsList(self._failed),
                seconds=beam.pvalue.AsList(seconds | "Seconds" >> beam.Flatten()),
            )
        )


class _Write(beam.DoFn):
    def __init__(self, config: EmbedConfig, model: ModelSpec):
        self._config = config
        self._model = model

    def process(
        self,
        _: bytes,
        listed: list[int],
        failures: dict[tuple[str, str], int],
        embeddings: list[Shard],
        failed: list[Shard],
        seconds: list[tuple[str, float]],
    ) -> Iterable[RunReport]:
        by_stage: dict[str, float] = {}
        for stage, busy in seconds:
            by_stage[stage] = by_stage.get(stage, 0.0) + busy
        report = compose(
            self._config,
            self._model,
            listed=sum(listed),
            failures=failures,
            embeddings=embeddings,
            failed=failed,
            seconds=by_stage,
            finished_at=datetime.datetime.now(datetime.UTC),
        )
        write_tfrecord.write_schema(self._config.output, self._config.written(self._model))
        storage.write(path(self._config.output, self._config.run_id), report.to_json().encode())
        if said := report.exceeds(self._config.max_failure_rate):
            raise FailureRateExceeded(said)
        yield report


def _by_stage(busy: StageSeconds) -> tuple[str, float]:
    return busy.stage, busy.seconds


def _by_error(failure: Failure) -> tuple[str, str]:
    return failure.stage, failure.error
