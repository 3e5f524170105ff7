"""Writing: `Embedding`s → TFRecord files of tf.Examples, with the schema that describes them."""

import functools
from collections.abc import Sequence

from transforms.elements.records import Embedding
from transforms.encoding import examples, tfrecord
from transforms.models.spec import ModelFields
from transforms.output.parts import Framed
from transforms.output.write_vectors import WriteVectors

SUFFIX = ".tfrecord"


class WriteTFRecords(WriteVectors):
    """Embedding, in a tuple of collections → WriteOutput.

    Writes `<output>/embeddings/<run_id>/part-….tfrecord`, and `<output>/schema.pbtxt` for TensorFlow Data Validation.

    >>> import pathlib, tempfile
    >>> import apache_beam as beam
    >>> import numpy as np
    >>> from transforms.elements.records import ImageInfo, ImageRef
    >>> embedding = Embedding(ImageInfo(ImageRef(b"a.jpg"), "", "jpeg", 8, 8), np.zeros(4, np.float32))
    >>> output = tempfile.mkdtemp()
    >>> write = WriteTFRecords(output, "first", ModelFields("zeros", "d" * 64, dimension=4))
    >>> with beam.Pipeline(runner="FnApiRunner") as pipeline:
    ...     _ = (pipeline | beam.Create([embedding]),) | write
    >>> sorted(path.name for path in pathlib.Path(output).rglob("*.*"))
    ['part-00000-of-00001.tfrecord', 'schema.pbtxt']

    Attributes: those of WriteVectors.
    """

    def file_format(self) -> Framed:
        return file_format(self.model, self.vector_type)

    def record_type(self) -> str:
        return self.vector_type


def file_format(model: ModelFields, vector_type: str = "float32") -> Framed:
    """Returns the format of a file whose records have these fields of the model and vectors of this type."""
    return Framed(SUFFIX, functools.partial(_encode, model=model, vector_type=vector_type))


def _encode(embeddings: Sequence[Embedding], model: ModelFields, vector_type: str) -> list[bytes]:
    return [tfrecord.frame(record) for record in examples.encode_embeddings(embeddings, model, vector_type)]
