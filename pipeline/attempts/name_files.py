"""Naming: once all parts of a run are complete, they get their final names, in one step of one worker.

The step comes after the report is composed and the rows are published. So a run whose report does not add up, or that
the gate of the table refuses, replaces no file of an earlier run.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import apache_beam as beam

from pipeline.attempts.attempt import Attempt
from pipeline.report.run_report import RunReport
from transforms.elements.records import Shard
from transforms.models.spec import ModelFields
from transforms.output import layout, schema, shards


@dataclasses.dataclass(eq=False)
class NameFiles(beam.PTransform):
    """RunReport → the same, once the files of the run have their final names.

    Attributes:
      attempt: at the run.
      model: the fields of the model in each record.
      vectors, failures: the parts that become these files.
      record_type: see EmbedConfig.
    """

    attempt: Attempt
    model: ModelFields
    vectors: beam.PCollection[Shard]
    failures: beam.PCollection[Shard]
    record_type: str

    def expand(self, report: beam.PCollection[RunReport]) -> beam.PCollection[RunReport]:
        name = beam.ParDo(
            _Name(self.attempt, self.model, self.record_type),
            beam.pvalue.AsList(self.vectors),
            beam.pvalue.AsList(self.failures),
        )
        return report | "Name" >> name


class _Name(beam.DoFn):
    def __init__(self, attempt: Attempt, model: ModelFields, record_type: str):
        self._attempt = attempt
        self._model = model
        self._record_type = record_type

    def process(
        self, report: RunReport, vector_parts: Sequence[Shard], failure_parts: Sequence[Shard]
    ) -> Iterable[RunReport]:
        place, run_id = self._attempt.place, self._attempt.run_id
        check = self._attempt.check_claim
        self._attempt.retire()
        schema.write(place, self._model, self._record_type)
        shards.name_parts(vector_parts, layout.vectors(place, run_id), check)
        shards.name_parts(failure_parts, layout.failures(place, run_id), check)
        yield report
