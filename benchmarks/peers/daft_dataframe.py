"""Daft: expressions download, decode and resize, a class with a batch method calls the model, as its guides do.

https://docs.daft.ai/en/stable/modalities/images/, https://docs.daft.ai/en/stable/custom-code/cls/.
"""

import contract
import daft
import numpy as np
from daft import DataType, Series, col

given = contract.given()
height, width = given.image_size


# The default is a call a core at once, each of which TensorFlow spreads over all cores: that is slower.
@daft.cls(max_concurrency=1)
class Embed:
    def __init__(self, model: str, output: str):
        import tensorflow as tf

        self._model = tf.saved_model.load(model)
        self._output = output

    @daft.method.batch(
        return_dtype=DataType.embedding(DataType.float32(), given.dimension), batch_size=given.batch_size
    )
    def __call__(self, images: Series) -> np.ndarray:
        import tensorflow as tf

        pixels = np.stack(images.to_pylist()).astype(np.float32) / 255
        with contract.batch(self._output, len(pixels)):
            return self._model.signatures["serving_default"](tf.constant(pixels))["default"].numpy()


embed = Embed(given.model, str(given.output))
images = daft.from_glob_path(f"{given.photographs}/*.jpg")
images = images.with_column("image", col("path").download().decode_image(mode="RGB").resize(width, height))
images.select("path", embed(col("image")).alias("vector")).write_parquet(str(given.output))
