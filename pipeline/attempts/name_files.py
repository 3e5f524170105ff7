"""Naming: once all parts of a run are complete, they get their final names, in one step of one worker.

The step comes after the report is composed and the rows are published. So a run whose report does not add up, or that
the gate of the table refuses, replaces no file of an earlier run.
"""

import dataclasses
from collections.abc import Sequence

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
        parts = beam.pvalue.AsList(self.vectors), beam.pvalue.AsList(self.failures)
        name = beam.Map(_name, self.attempt, self.model, self.record_type, *parts)
        return report | "Name" >> name.with_output_types(RunReport)


def _name(
    report: RunReport,
    attempt: Attempt,
    model: ModelFields,
    record_type: str,
    vectors: Sequence[Shard],
    failures: Sequence[Shard],
) -> RunReport:
    place, run_id = attempt.place, attempt.run_id
    attempt.retire()
    schema.write(place, model, record_type)
    shards.name_parts(vectors, layout.vectors(place, run_id), attempt.check_claim)
    shards.name_parts(failures, layout.failures(place, run_id), attempt.check_claim)
    return report
