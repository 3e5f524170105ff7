"""The model alone on the GPU, on one batch again and again: `python -m benchmarks.gpu.model_alone MODEL …`.

It prints the images a second in JSON. `ours` is the model as `run_pipeline.py` loads it, which gets pixels as bytes
from the machine's memory. `onnx` is the same for the network as ONNX. `saved_model` is the SavedModel's signature, as
the peers call it, on float32 that lies in the GPU's memory.
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.gpu import in_place
from transforms.models.engines import device, loading, mosaics, throughput
from transforms.models.resolve import resolve
from transforms.models.spec import in_precision

OURS, ONNX, SAVED_MODEL = "ours", "onnx", "saved_model"
_WARM_UP_SECONDS = 1.0


class _Signature:
    """A SavedModel's signature, called as often at once as this project calls a model on a GPU."""

    def __init__(self, directory: str, precision: str):
        import tensorflow as tf

        from transforms.models.engines import tensorflow_engine

        tf.config.optimizer.set_experimental_options({"auto_mixed_precision": precision == "float16"})
        self._loaded = tf.saved_model.load(directory)
        self._infer = self._loaded.signatures["serving_default"]
        self.calls_at_once = tensorflow_engine.calls_at_once()

    def __call__(self, images: Any) -> np.ndarray:
        return self._infer(images)["default"].numpy()


def images_per_second(
    engine: str, model: str, image_size: Sequence[int], batch_size: int, precision: str, seconds: float
) -> float:
    """Returns the images a second of a model, after a second that does not count.

    Args:
      engine: OURS, ONNX or SAVED_MODEL.
      model: what `run_pipeline.py --model` takes; the directory of a SavedModel for SAVED_MODEL.
      image_size: (height, width) in pixels.
      batch_size: images per call.
      precision: `float32` or `float16`.
      seconds: the shortest duration of the measurement.
    """
    if engine != ONNX:
        device.has_gpu()  # how the GPU's memory grows has to be set before TensorFlow's first use
    pixels: Any = mosaics.mosaics(batch_size, tuple(image_size))
    if engine in (OURS, ONNX):
        spec = resolve(model)
        if precision != spec.precision:
            spec = in_precision(spec, precision, None)
        called: Any = loading.load(spec, batch_size)
    else:
        import tensorflow as tf

        called = _Signature(model, precision)
        pixels = tf.constant(pixels.astype(np.float32) / 255)
    throughput.images_per_second(called, pixels, _WARM_UP_SECONDS)
    return throughput.images_per_second(called, pixels, seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--engine", choices=[OURS, ONNX, SAVED_MODEL], required=True)
    parser.add_argument("--image_size", type=int, nargs=2, required=True, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch_size", type=int, required=True)
    parser.add_argument("--precision", choices=["float32", "float16"], required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--cpus_in_place", type=int, default=0, metavar="N", help="CPUs in place of GPUs (0)")
    args = vars(parser.parse_args())
    if cpus := args.pop("cpus_in_place"):
        in_place.use_cpus(cpus)
    print(json.dumps({"images_per_second": images_per_second(**args)}))
