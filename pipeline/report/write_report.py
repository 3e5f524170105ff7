"""The last steps of the job: the report is composed once everything that it counts is written, and is then written.

They are steps of the pipeline, so the report is written even if nobody waits for the job.
"""

import dataclasses
import datetime
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam

from pipeline.options import EmbedConfig
from pipeline.report import run_report
from pipeline.report.run_report import RunReport
from pipeline.report.tally import SumTallies, Tally
from transforms.models.spec import ModelSpec
from transforms.records import Failure, Shard, StageSeconds


class FailureRateExceeded(RuntimeError):
    """More images failed than --max_failure_rate allows. Everything that was written stays."""


@dataclasses.dataclass(eq=False)
class ComposeReport(beam.PTransform):
    """Pipeline → RunReport, once everything that it counts is written.

    Attributes:
      config: the configuration of the run.
      model: the model that it embeds with.
      counted: (name in COUNTS or `pruned`, collection whose elements count under it); a name may occur several times.
      failures: all failures.
      written: (`records` or `lines`, collection of the files that hold them).
      seconds: times, in several collections.
    """

    config: EmbedConfig
    model: ModelSpec
    counted: Sequence[tuple[str, beam.PCollection]]
    failures: beam.PCollection[Failure]
    written: Sequence[tuple[str, beam.PCollection[Shard]]]
    seconds: Sequence[beam.PCollection[StageSeconds]]

    def expand(self, root: Any) -> beam.PCollection[RunReport]:
        tally = root | "Tally" >> SumTallies(self.counted, self.failures, self.written, self.seconds)
        compose = beam.ParDo(_Compose(self.config, self.model), beam.pvalue.AsSingleton(tally, default_value=Tally()))
        return root | "Once" >> beam.Impulse() | "Compose" >> compose


class _Compose(beam.DoFn):
    def __init__(self, config: EmbedConfig, model: ModelSpec):
        self._config = config
        self._model = model

    def process(self, _: bytes, tally: Tally) -> Iterable[RunReport]:
        output, run_id = self._config.output, self._config.run_id
        # Here and not where the report is written, because the table gets the report too.
        digests = run_report.file_digests(output, run_id) if output else {}
        yield run_report.compose(self._config, self._model, tally, datetime.datetime.now(datetime.UTC), digests)


@dataclasses.dataclass(eq=False)
class WriteReport(beam.PTransform):
    """RunReport → the same, written to `<output>/runs/<run_id>.json` if the run has an output.

    The job fails afterwards if more images failed than --max_failure_rate allows.
    """

    config: EmbedConfig
    model: ModelSpec

    def expand(self, report: beam.PCollection[RunReport]) -> beam.PCollection[RunReport]:
        return report | "Write" >> beam.Map(_write, self.config, self.model)


def _write(report: RunReport, config: EmbedConfig, model: ModelSpec) -> RunReport:
    if config.output:
        run_report.write(config.output, report)
    if excess := report.exceeds(config.max_failure_rate):
        raise FailureRateExceeded(excess)
    return report
