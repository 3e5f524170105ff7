"""Beam with a plain handler: a `ModelHandler` for a SavedModel, written as Beam's documentation recommends.

https://beam.apache.org/documentation/ml/about-ml/. Beam's own TensorFlow handlers load models with Keras, and Keras 3
opens no SavedModel. The local runner is named explicitly, because `DirectRunner` is Prism where Prism is installed.
"""

import io
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
import contract
import numpy as np
import pyarrow as pa
from apache_beam.io import fileio
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions
from PIL import Image

Example = tuple[str, np.ndarray]


class SavedModelHandler(ModelHandler[Example, dict, Any]):
    def __init__(self, model: str, batch_size: int, output: str):
        super().__init__(min_batch_size=batch_size, max_batch_size=batch_size)
        self._model, self._output = model, output

    def load_model(self) -> Any:
        import tensorflow as tf

        return tf.saved_model.load(self._model)

    def run_inference(self, batch: Sequence[Example], model: Any, inference_args: dict | None = None) -> Iterable[dict]:
        import tensorflow as tf

        pixels = np.stack([pixels for _, pixels in batch]).astype(np.float32) / 255
        with contract.batch(self._output, len(batch)):
            vectors = model.signatures["serving_default"](tf.constant(pixels))["default"].numpy()
        return [{"path": path, "vector": vector} for (path, _), vector in zip(batch, vectors, strict=True)]


class Decode(beam.DoFn):
    def __init__(self, height: int, width: int):
        self._size = width, height

    def process(self, file: fileio.ReadableFile) -> Iterable[Example]:
        with Image.open(io.BytesIO(file.read())) as image:
            pixels = image.convert("RGB").resize(self._size, Image.Resampling.BILINEAR)
            yield file.metadata.path, np.asarray(pixels)


def main() -> None:
    args = contract.arguments(threads=1)
    options = PipelineOptions(
        runner="apache_beam.runners.portability.fn_api_runner.FnApiRunner",
        direct_num_workers=args.threads,
        direct_running_mode="multi_threading" if args.threads > 1 else "in_memory",
    )
    with beam.Pipeline(options=options) as pipeline:
        _ = (
            pipeline
            | fileio.MatchFiles(f"{args.photographs}/*.jpg")
            | beam.Reshuffle()
            | fileio.ReadMatches()
            | beam.ParDo(Decode(*args.image_size))
            | RunInference(SavedModelHandler(args.model, args.batch_size, str(args.output)))
            | beam.io.WriteToParquet(
                f"{args.output}/vectors",
                pa.schema([("path", pa.string()), ("vector", pa.list_(pa.float32()))]),
                file_name_suffix=".parquet",
            )
        )


if __name__ == "__main__":
    main()
