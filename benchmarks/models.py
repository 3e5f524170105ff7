"""The benchmarks' models, as SavedModels that every contender can load, and one in ONNX.

`python -m benchmarks.models NAME DIRECTORY` writes one.

A SavedModel has a signature `serving_default`: images, float32 (n, height, width, 3) in [0, 1] → `default`, float32
(n, d). The directory of the other one has a `model.onnx`: images, float32 (n, 3, height, width) in [0, 1] → float32
(n, d, 1, 1).
"""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import photographs

ROOT = Path(__file__).parents[1]
CACHE_DEFAULT = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "beam-image-embeddings" / "benchmarks"
)


@dataclasses.dataclass(frozen=True)
class Model:
    """A model, and the settings for measuring it.

    Attributes:
      name: its name on the command line.
      image_size: (height, width) in pixels.
      dimension: the length of a vector.
      batch_size: images per call.
      images: the default number of photographs.
      handle: the value of `run_pipeline.py --model`; None for the path of the SavedModel.
      photograph_size: (width, height) of all photographs in pixels; None for those of two sizes.
    """

    name: str
    image_size: tuple[int, int]
    dimension: int
    batch_size: int
    images: int
    handle: str | None = None
    photograph_size: tuple[int, int] | None = None


MODELS = {
    model.name: model
    for model in (
        Model("efficientnet_lite0", (224, 224), 1280, 32, 2400, "efficientnet_lite0"),
        # One core computes seven images per second. Batches of 16 give each of two threads eight batches.
        Model("inception_resnet_v2", (299, 299), 1536, 16, 256),
    )
}

# The network of the package with its weights, as ONNX.
ONNX = Model("efficientnet_lite0_onnx", (224, 224), 1280, 32, 2400)

# A model that takes next to no time, for photographs that take little: the cost of all that surrounds a model.
AVERAGES = Model("averages", (64, 64), 48, 32, 20_000, photograph_size=photographs.THUMBNAIL)
# The same for simulated devices: enough for the fastest, and half a minute of the slowest.
OF_DEVICES = dataclasses.replace(AVERAGES, images=10_000)
_SIDE = 16  # of the squares whose colours it averages


def make(model: Model, cache: Path) -> Path:
    """Returns the directory of a model; a process of its own writes it if it does not exist."""
    directory = cache / "models" / model.name
    if not directory.exists():
        directory.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "benchmarks.models", model.name, directory], cwd=ROOT, check=True)
    return directory


def fill_cache(saved_model: Path, environment_variables: Mapping[str, str]) -> None:
    """Makes this project cache its results about a model for later runs."""
    command = [sys.executable, "-m", "pipeline", "inspect-model", saved_model]
    environment = os.environ | environment_variables
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)


def write(name: str, directory: Path) -> None:
    """Writes a model to a directory, complete or not at all."""
    partial = directory.with_suffix(".partial")
    if name == ONNX.name:
        from tests.helpers import onnx_models

        partial.mkdir()
        onnx_models.write_bundled(partial / "model.onnx")
        partial.rename(directory)
        return
    from transforms.models.slim import reusable

    if name == "inception_resnet_v2":
        from tests.helpers import formula_weights
        from transforms.models.networks.inception_resnet_v2 import InceptionResNetV2

        network = InceptionResNetV2(formula_weights.weights(formula_weights.variables(name)))
        reusable.write_reusable(network, directory)
        return

    import tensorflow as tf

    from transforms.models.engines import opening

    if name == AVERAGES.name:
        model, network, call = AVERAGES, tf.Module(), _averages
    else:
        model = MODELS[name]
        network = call = opening.load_efficientnet_lite0(name)
    images = tf.TensorSpec((None, *model.image_size, 3), tf.float32, name="images")

    @tf.function(input_signature=[images], autograph=False)
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"default": call(images)}

    tf.saved_model.save(network, str(partial), signatures={"serving_default": serve})
    partial.rename(directory)


def _averages(images: Any) -> Any:
    import tensorflow as tf

    return tf.reshape(tf.nn.avg_pool2d(images, _SIDE, _SIDE, "VALID"), (-1, AVERAGES.dimension))


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]))
