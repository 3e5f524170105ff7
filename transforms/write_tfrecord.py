"""Writing: `Embedding`s → TFRecord files of tf.Examples, with the schema that describes them."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import apache_beam as beam

from transforms.encoding import examples, tfrecord
from transforms.formats import check_vector_type
from transforms.models.spec import ModelFields
from transforms.parts import Framed, Label
from transforms.records import Embedding
from transforms.shards import MAX_SHARD_SECONDS, WriteParts, WriteShards, check_run
from transforms.stage import Stage, WriteOutput
from transforms.vector_files import directory, write_schema

SUFFIX = ".tfrecord"


@dataclasses.dataclass(eq=False)
class WriteTFRecords(Stage):
    """Embedding, in a tuple of collections → WriteOutput.

    Writes `<output>/embeddings/<run_id>/part-….tfrecord`, and `<output>/schema.pbtxt` for TensorFlow Data Validation.

    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from transforms.records import ImageInfo, ImageRef
    >>> embedding = Embedding(ImageInfo(ImageRef(b"a.jpg"), "", "jpeg", 8, 8), np.zeros(4, np.float32))
    >>> output = tempfile.mkdtemp()
    >>> write = WriteTFRecords(output, "first", ModelFields("zeros", "d" * 64, dimension=4))
    >>> with beam.Pipeline(runner="FnApiRunner") as pipeline:
    ...     _ = (pipeline | beam.Create([embedding]),) | write
    >>> sorted(path.name for path in pathlib.Path(output).rglob("*.*"))
    ['part-00000-of-00001.tfrecord', 'schema.pbtxt']

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

    def expand(self, embeddings: tuple[beam.PCollection[Embedding], ...]) -> WriteOutput:
        make_ready = functools.partial(_make_ready, self.output, self.model, self.vector_type, self.before_naming)
        write = parts(self.output, self.run_id, self.model, vector_type=self.vector_type)
        return embeddings | "Write" >> WriteShards(write, make_ready)


def parts(
    output: str,
    run_id: str,
    model: ModelFields,
    labels: tuple[Label, ...] = (),
    max_seconds: float = MAX_SHARD_SECONDS,
    vector_type: str = "float32",
) -> WriteParts:
    """Returns the transform that writes a run's parts, without naming them. See WriteParts for `labels`."""
    records = Framed(SUFFIX, functools.partial(_encode, model=model, vector_type=vector_type))
    return WriteParts(directory(output, run_id), records, labels, max_seconds=max_seconds)


def _make_ready(output: str, model: ModelFields, vector_type: str, before_naming: Callable[[], None] | None) -> None:
    if before_naming:
        before_naming()
    write_schema(output, model, vector_type)


def _encode(embeddings: Sequence[Embedding], model: ModelFields, vector_type: str) -> list[bytes]:
    return [tfrecord.frame(record) for record in examples.encode_embeddings(embeddings, model, vector_type)]
