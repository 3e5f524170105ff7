"""Writing: `Embedding`s → TFRecord files of tf.Examples, with the schema that describes them."""

import dataclasses
import functools
from collections.abc import Sequence

import apache_beam as beam

from transforms import examples, storage, tfrecord
from transforms.records import Embedding
from transforms.shards import WriteShards

SCHEMA = "schema.pbtxt"


@dataclasses.dataclass(eq=False)
class WriteTFRecords(beam.PTransform):
    """Embedding → Shard, and `StageSeconds` under their tag; writes `<output>/embeddings/<run_id>/part-….tfrecord`.

    Attributes:
      output: a directory, local or in a cloud.
      run_id: names the run.
      model_name, model_digest: recorded with each vector.
    """

    output: str
    run_id: str
    model_name: str
    model_digest: str

    def expand(self, embeddings: beam.PCollection[Embedding]) -> dict[str, beam.PCollection]:
        encode = functools.partial(_encode, model_name=self.model_name, model_digest=self.model_digest)
        return embeddings | "Write" >> WriteShards(directory(self.output, self.run_id), ".tfrecord", encode)


def directory(output: str, run_id: str) -> str:
    """Returns where the shards of a run lie."""
    return f"{output}/embeddings/{run_id}"


def write_schema(output: str, dimension: int) -> None:
    """Writes `<output>/schema.pbtxt` for vectors of `dimension` components."""
    storage.write(f"{output}/{SCHEMA}", examples.schema_text(dimension).encode())


def _encode(embeddings: Sequence[Embedding], model_name: str, model_digest: str) -> list[bytes]:
    return [tfrecord.frame(record) for record in examples.encode_embeddings(embeddings, model_name, model_digest)]
