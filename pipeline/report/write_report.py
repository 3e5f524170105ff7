"""The last steps of the job: the report is composed once everything that it counts is written, and is then written.

They are steps of the pipeline, so the report is written even if nobody waits for the job.
"""

import dataclasses
import datetime
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam

from pipeline.attempts.attempt import Attempt
from pipeline.flags.options import EmbedConfig
from pipeline.report import recall, run_report
from pipeline.report.run_report import RunReport
from pipeline.report.tally import SumTallies, Tally
from transforms.elements.records import Failure, LeftOut, Shard, StageSeconds
from transforms.models.spec import ModelSpec
from transforms.output import schema


class FailureRateExceeded(RuntimeError):
    """More images failed than --max_failure_rate allows, or all images failed. All written files and rows stay."""


@dataclasses.dataclass(eq=False)
class ComposeReport(beam.PTransform):
    """Pipeline → RunReport, once everything that it counts is written.

    Attributes:
      config: the configuration of the run.
      model: the model that it embeds with.
      counted: (name in COUNTS, `pruned`, or name in PRUNING; collection whose elements count under it); a name may
        occur several times.
      failures: all failures.
      written: (`lines` or a format of embeddings, collection of the files that hold them).
      seconds: times, in several collections.
      origins: the attempt and the outcome of each vector that an earlier attempt has stored; None if there is none.
      hidden: the places for which rows are not pruned, as Prune returns them; None if nothing is pruned.
      has_many_processes: whether a machine runs a worker process for each core.
      left_out: counts of files that were passed over for their names, in several collections.
      sample: the vectors that float16 is compared over, as SampleVectors returns them; None in float32.
      attempt: the number of the attempt, for the report.
    """

    config: EmbedConfig
    model: ModelSpec
    counted: Sequence[tuple[str, beam.PCollection]]
    failures: beam.PCollection[Failure]
    written: Sequence[tuple[str, beam.PCollection[Shard]]]
    seconds: Sequence[beam.PCollection[StageSeconds]]
    origins: beam.PCollection[tuple[str, str]] | None = None
    hidden: beam.PCollection[str] | None = None
    has_many_processes: bool = False
    sample: beam.PCollection[list[bytes]] | None = None
    left_out: Sequence[beam.PCollection[LeftOut]] = ()
    attempt: int = 0

    def expand(self, root: Any) -> beam.PCollection[RunReport]:
        tally = root | "Tally" >> SumTallies(
            self.counted, self.failures, self.written, self.seconds, self.origins, self.hidden, self.left_out
        )
        hashed = [shards for name, shards in self.written if name in ("lines", "parquet")]
        compose = beam.ParDo(
            _Compose(self.config, self.model, self.has_many_processes, self.attempt),
            beam.pvalue.AsSingleton(tally, default_value=Tally()),
            beam.pvalue.AsList(hashed | "Hashed" >> beam.Flatten()) if hashed else (),
            beam.pvalue.AsSingleton(self.sample, default_value=[]) if self.sample else (),
        )
        return root | "Once" >> beam.Impulse() | "Compose" >> compose


class _Compose(beam.DoFn):
    def __init__(self, config: EmbedConfig, model: ModelSpec, has_many_processes: bool, attempt: int):
        self._config = config
        self._model = model
        self._has_many_processes = has_many_processes
        self._attempt = attempt

    def process(self, _: bytes, tally: Tally, hashed: Sequence[Shard], sample: Sequence[bytes]) -> Iterable[RunReport]:
        config, digests = self._config, {}
        if config.output:
            described = schema.content(self._model.fields(config.top_classes), config.record_type)
            digests = run_report.file_digests(config.run_id, described, hashed)
        finished_at = max(datetime.datetime.now(datetime.UTC), config.started_at)  # a clock may be set back meanwhile
        report = run_report.compose(config, self._model, tally, finished_at, digests, self._has_many_processes)
        yield dataclasses.replace(report, recall=recall.facts(sample), attempt=self._attempt)


@dataclasses.dataclass(eq=False)
class WriteReport(beam.PTransform):
    """RunReport → the same, written to `<output>/runs/<run_id>.json` if the run has an output.

    Then the parts are removed. At the end, the job fails if more images failed than --max_failure_rate allows.
    """

    config: EmbedConfig
    attempt: Attempt

    def expand(self, report: beam.PCollection[RunReport]) -> beam.PCollection[RunReport]:
        return report | "Write" >> beam.Map(_write, self.config, self.attempt)


def _write(report: RunReport, config: EmbedConfig, attempt: Attempt) -> RunReport:
    if config.output:
        run_report.write(config.output, report, attempt.check_claim)
    attempt.finish()
    if excess := report.exceeds(config.max_failure_rate):
        raise FailureRateExceeded(excess)
    return report
