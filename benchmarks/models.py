"""The models that are measured, as SavedModels that every contender loads.

`python -m benchmarks.models NAME DIRECTORY` writes one.

Each has a signature `serving_default`: images, float32 (n, height, width, 3) in [0, 1] → `default`, float32 (n, d).
"""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Model:
    """A model, and how it is measured.

    Attributes:
      name: of the model.
      image_size: (height, width) in pixels.
      dimension: of a vector.
      batch_size: images a call.
      images: how many of the photographs it is given, unless the command line says.
      handle: what `run_pipeline.py --model` takes; None for the SavedModel.
    """

    name: str
    image_size: tuple[int, int]
    dimension: int
    batch_size: int
    images: int
    handle: str | None = None


MODELS = {
    model.name: model
    for model in (
        Model("efficientnet_lite0", (224, 224), 1280, 32, 2400, "efficientnet_lite0"),
        # A core computes seven images a second: 16 batches of half the size leave each of two threads eight.
        Model("inception_resnet_v2", (299, 299), 1536, 16, 256),
    )
}


def make(model: Model, cache: Path) -> Path:
    """Returns the SavedModel of a model, made where it is not there yet; in a process of its own, for TensorFlow."""
    directory = cache / "models" / model.name
    if not directory.exists():
        directory.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "benchmarks.models", model.name, directory], cwd=ROOT, check=True)
    return directory


def know(saved_model: Path, environment_variables: Mapping[str, str]) -> None:
    """Lets this project find out about a model what it keeps for later runs."""
    command = [sys.executable, "-m", "pipeline.inspect_model", saved_model]
    environment = os.environ | environment_variables
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)


def write(name: str, directory: Path) -> None:
    """Writes the SavedModel of a model to a directory, which appears complete."""
    from transforms.models.slim import reusable

    if name == "inception_resnet_v2":
        from tests import formula_weights
        from transforms.models.networks.inception_resnet_v2 import InceptionResNetV2

        network = InceptionResNetV2(formula_weights.weights(formula_weights.variables(name)))
        reusable.write_reusable(network, directory)
        return

    import tensorflow as tf

    from transforms.models.engines import opening

    network = opening.load_efficientnet_lite0(name)
    images = tf.TensorSpec((None, *MODELS[name].image_size, 3), tf.float32, name="images")

    @tf.function(input_signature=[images], autograph=False)
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"default": network(images)}

    partial = directory.with_suffix(".partial")
    tf.saved_model.save(network, str(partial), signatures={"serving_default": serve})
    partial.rename(directory)


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]))
