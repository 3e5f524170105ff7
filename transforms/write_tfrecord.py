"""Writing: `Embedding`s → TFRecord files of tf.Examples, with the schema that describes them."""

import dataclasses
import functools
from collections.abc import Sequence

import apache_beam as beam

from transforms.encoding import examples, tfrecord
from transforms.records import Embedding
from transforms.shards import WriteShards
from transforms.storage import files

SCHEMA = "schema.pbtxt"


@dataclasses.dataclass(eq=False)
class WriteTFRecords(beam.PTransform):
    """Embedding, in one collection or several → Shard, and `StageSeconds` under their tag.

    Writes `<output>/embeddings/<run_id>/part-….tfrecord`.

    Attributes:
      output: a directory, local or in a cloud.
      run_id: names the run.
      written: what all records of the run have in common.
    """

    output: str
    run_id: str
    written: examples.Written

    def expand(self, embeddings: tuple[beam.PCollection[Embedding], ...]) -> dict[str, beam.PCollection]:
        encode = functools.partial(_encode, written=self.written)
        return embeddings | "Write" >> WriteShards(directory(self.output, self.run_id), ".tfrecord", encode)


def directory(output: str, run_id: str) -> str:
    """Returns where the shards of a run lie."""
    return f"{output}/embeddings/{run_id}"


def write_schema(output: str, written: examples.Written) -> None:
    """Writes `<output>/schema.pbtxt`."""
    files.write(f"{output}/{SCHEMA}", examples.schema_text(written).encode())


def _encode(embeddings: Sequence[Embedding], written: examples.Written) -> list[bytes]:
    return [tfrecord.frame(record) for record in examples.encode_embeddings(embeddings, written)]
