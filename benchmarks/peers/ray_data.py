"""Ray Data: `read_images` decodes in tasks, and an actor calls the model, as in its guides.

https://docs.ray.io/en/latest/data/working-with-images.html, https://docs.ray.io/en/latest/data/batch_inference.html.
"""

import contract
import numpy as np
import ray


class Embed:
    def __init__(self, model: str, output: str):
        import tensorflow as tf

        self._model = tf.saved_model.load(model)
        self._output = output

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        import tensorflow as tf

        pixels = batch["image"].astype(np.float32) / 255
        with contract.batch(self._output, len(pixels)):
            vectors = self._model.signatures["serving_default"](tf.constant(pixels))["default"].numpy()
        return {"path": batch["path"], "vector": vectors}


args = contract.arguments()
images = ray.data.read_images(str(args.photographs), size=args.image_size, mode="RGB", include_paths=True)
images.map_batches(
    Embed,
    fn_constructor_args=(args.model, str(args.output)),
    batch_size=args.batch_size,
    compute=ray.data.ActorPoolStrategy(size=1),
).write_parquet(str(args.output))
