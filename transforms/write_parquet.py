"""Writing: `Embedding`s → Parquet files, with the schema that describes a run's records."""

import dataclasses
import functools
from collections.abc import Callable

import apache_beam as beam

from transforms.encoding.parquet import ParquetFormat
from transforms.formats import check_vector_type
from transforms.models.spec import ModelFields
from transforms.parts import Label
from transforms.records import Embedding
from transforms.shards import MAX_SHARD_SECONDS, WriteParts, WriteShards, check_run
from transforms.stage import Stage, WriteOutput
from transforms.vector_files import directory, write_schema


@dataclasses.dataclass(eq=False)
class WriteParquet(Stage):
    """Embedding, in a tuple of collections → WriteOutput.

    Writes `<output>/embeddings/<run_id>/part-….parquet`, and `<output>/schema.pbtxt`. A run that writes TFRecords too
    needs another `run_id` for them, because each of the two removes what is not its own.

    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> import pyarrow.parquet
    >>> from transforms.records import ImageInfo, ImageRef
    >>> embedding = Embedding(ImageInfo(ImageRef(b"a.jpg"), "", "jpeg", 8, 8), np.arange(3, dtype=np.float32))
    >>> output = tempfile.mkdtemp()
    >>> write = WriteParquet(output, "first", ModelFields("m", "d" * 64, dimension=3), "float16")
    >>> with beam.Pipeline(runner="FnApiRunner") as pipeline:
    ...     _ = (pipeline | beam.Create([embedding]),) | write
    >>> (path,) = pathlib.Path(output).rglob("part-00000-of-00001.parquet")
    >>> pyarrow.parquet.ParquetFile(path).read(["key", "embedding"]).to_pylist()
    [{'key': 'a.jpg', 'embedding': [0.0, 1.0, 2.0]}]

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
        make_ready = functools.partial(_make_ready, self.output, self.model, self.before_naming)
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
    return WriteParts(directory(output, run_id), ParquetFormat(model, vector_type), labels, max_seconds=max_seconds)


def _make_ready(output: str, model: ModelFields, before_naming: Callable[[], None] | None) -> None:
    if before_naming:
        before_naming()
    write_schema(output, model)
