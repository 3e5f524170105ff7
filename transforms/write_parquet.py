"""Writing: `Embedding`s → Parquet files, with the schema that describes a run's records."""

from transforms.encoding.parquet import ParquetFormat
from transforms.output.write_vectors import WriteVectors


class WriteParquet(WriteVectors):
    """Embedding, in a tuple of collections → WriteOutput.

    Writes `<output>/embeddings/<run_id>/part-….parquet`, and `<output>/schema.pbtxt`. A run that writes TFRecords too
    needs another `run_id` for them, because each of the two removes files that are not its own.

    >>> import pathlib, tempfile
    >>> import apache_beam as beam
    >>> import numpy as np
    >>> import pyarrow.parquet
    >>> from transforms.models.spec import ModelFields
    >>> from transforms.elements.records import Embedding, ImageInfo, ImageRef
    >>> embedding = Embedding(ImageInfo(ImageRef(b"a.jpg"), "", "jpeg", 8, 8), np.arange(3, dtype=np.float32))
    >>> output = tempfile.mkdtemp()
    >>> write = WriteParquet(output, "first", ModelFields("m", "d" * 64, dimension=3), "float16")
    >>> with beam.Pipeline(runner="FnApiRunner") as pipeline:
    ...     _ = (pipeline | beam.Create([embedding]),) | write
    >>> (path,) = pathlib.Path(output).rglob("part-00000-of-00001.parquet")
    >>> pyarrow.parquet.ParquetFile(path).read(["key", "embedding"]).to_pylist()
    [{'key': 'a.jpg', 'embedding': [0.0, 1.0, 2.0]}]

    Attributes: those of WriteVectors.
    """

    def file_format(self) -> ParquetFormat:
        return ParquetFormat(self.model, self.vector_type)
