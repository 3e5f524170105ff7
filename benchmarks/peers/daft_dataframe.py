"""Daft: expressions download, decode and resize, and a class with a batch method calls the model, as in its guides.

https://docs.daft.ai/en/stable/modalities/images/, https://docs.daft.ai/en/stable/custom-code/cls/. With `--embed 0` the
method only counts the images of a batch, so that the rest is Daft's own work.
"""

import contract
import daft
import numpy as np
from daft import DataType, Series, col

args = contract.arguments(embed=1)
height, width = args.image_size


# The default of one concurrent call per core is slower, because TensorFlow spreads each call over all cores.
@daft.cls(max_concurrency=1)
class Embed:
    def __init__(self, model: str, output: str):
        if args.embed:
            import tensorflow as tf

            self._model = tf.saved_model.load(model)
        self._output = output

    @daft.method.batch(return_dtype=DataType.embedding(DataType.float32(), args.dimension), batch_size=args.batch_size)
    def __call__(self, images: Series) -> np.ndarray:
        if not args.embed:
            with contract.batch(self._output, len(images)):
                return np.zeros((len(images), args.dimension), np.float32)
        import tensorflow as tf

        pixels = np.stack(images.to_pylist()).astype(np.float32) / 255
        with contract.batch(self._output, len(pixels)):
            return self._model.signatures["serving_default"](tf.constant(pixels))["default"].numpy()


embed = Embed(args.model, str(args.output))
images = daft.from_glob_path(f"{args.photographs}/*.jpg")
images = images.with_column("image", col("path").download().decode_image(mode="RGB").resize(width, height))
images.select("path", embed(col("image")).alias("vector")).write_parquet(str(args.output))
