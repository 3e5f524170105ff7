"""Beam with its own handler for ONNX, `OnnxModelHandlerNumpy`, keyed by the path of the image.

https://beam.apache.org/documentation/ml/about-ml/. The handler gets a function that records each batch, and then calls
the function that is the handler's default.
"""

import functools
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import contract
import numpy as np
import pyarrow as pa
from apache_beam.io import fileio
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.ml.inference.onnx_inference import OnnxModelHandlerNumpy, default_numpy_inference_fn
from apache_beam.options.pipeline_options import PipelineOptions
from PIL import Image

Example = tuple[str, np.ndarray]


class Decode(beam.DoFn):
    def __init__(self, height: int, width: int):
        self._size = width, height

    def process(self, file: fileio.ReadableFile) -> Iterable[Example]:
        with Image.open(io.BytesIO(file.read())) as image:
            pixels = np.asarray(image.convert("RGB").resize(self._size, Image.Resampling.BILINEAR))
            yield file.metadata.path, pixels.transpose(2, 0, 1).astype(np.float32) / 255


def recorded(output: str, session: Any, batch: Sequence[np.ndarray], inference_args: dict | None = None) -> Any:
    with contract.batch(output, len(batch)):
        return default_numpy_inference_fn(session, batch, inference_args)


def main() -> None:
    args = contract.arguments(threads=1)
    options = PipelineOptions(
        runner="apache_beam.runners.portability.fn_api_runner.FnApiRunner",
        direct_num_workers=args.threads,
        direct_running_mode="multi_threading" if args.threads > 1 else "in_memory",
    )
    handler = OnnxModelHandlerNumpy(
        str(Path(args.model, "model.onnx")),
        providers=["CPUExecutionProvider"],
        inference_fn=functools.partial(recorded, str(args.output)),
        min_batch_size=args.batch_size,
        max_batch_size=args.batch_size,
    )
    with beam.Pipeline(options=options) as pipeline:
        _ = (
            pipeline
            | fileio.MatchFiles(f"{args.photographs}/*.jpg")
            | beam.Reshuffle()
            | fileio.ReadMatches()
            | beam.ParDo(Decode(*args.image_size))
            | RunInference(KeyedModelHandler(handler))
            | beam.MapTuple(lambda path, result: {"path": path, "vector": result.inference.ravel()})
            | beam.io.WriteToParquet(
                f"{args.output}/vectors",
                pa.schema([("path", pa.string()), ("vector", pa.list_(pa.float32()))]),
                file_name_suffix=".parquet",
            )
        )


if __name__ == "__main__":
    main()
