"""Writing: `Embedding`s → files of vectors, with the schema that describes their records, for any format."""

import dataclasses
import functools
from collections.abc import Callable

import apache_beam as beam

from transforms.elements.formats import check_vector_type
from transforms.elements.records import Embedding
from transforms.elements.stage import Stage, WriteOutput
from transforms.models.spec import ModelFields
from transforms.output import layout, schema
from transforms.output.parts import Check, Format, Label
from transforms.output.shards import MAX_SHARD_SECONDS, WriteParts, WriteShards, check_run


@dataclasses.dataclass(eq=False)
class WriteVectors(Stage):
    """Embedding, in a tuple of collections → WriteOutput. Each format has a subclass.

    Attributes:
      output: a directory, local or in cloud storage.
      run_id: names the run.
      model: the fields of the model in each record.
      vector_type: `float32` or `float16`.
      before_naming: see WriteShards.

    Raises:
      ValueError: if an attribute is invalid.
    """

    output: str
    run_id: str
    model: ModelFields
    vector_type: str = "float32"
    before_naming: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        check_run(self.output, self.run_id)
        check_vector_type(self.vector_type)

    def file_format(self) -> Format:
        raise NotImplementedError

    def record_type(self) -> str:
        """Returns the type of a vector in the schema, which describes TFRecords."""
        return "float32"

    def expand(self, embeddings: tuple[beam.PCollection[Embedding], ...]) -> WriteOutput:
        make_ready = functools.partial(_make_ready, self.output, self.model, self.record_type(), self.before_naming)
        return embeddings | "Write" >> WriteShards(
            write_parts(self.output, self.run_id, self.file_format()), make_ready
        )


def write_parts(
    output: str,
    run_id: str,
    file_format: Format,
    labels: tuple[Label, ...] = (),
    max_seconds: float = MAX_SHARD_SECONDS,
    check: Check | None = None,
) -> WriteParts:
    """Returns the transform that writes a run's parts, without naming them. See WriteParts for the last three."""
    return WriteParts(layout.vectors(output, run_id), file_format, labels, max_seconds=max_seconds, check=check)


def _make_ready(output: str, model: ModelFields, record_type: str, before_naming: Callable[[], None] | None) -> None:
    if before_naming:
        before_naming()
    schema.write(output, model, record_type)
