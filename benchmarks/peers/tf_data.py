"""`tf.data`: TensorFlow's own threads read, decode and batch, as in its guides.

https://www.tensorflow.org/tutorials/load_data/images, https://www.tensorflow.org/guide/data_performance. The resize is
antialiased, because the default skips pixels of large images and gives other vectors. `--resize 0` leaves it out, for
photographs of the size of the model. `--precision float16` is for GPUs, as in
https://www.tensorflow.org/guide/graph_optimization.
"""

import contract
import tensorflow as tf

args = contract.arguments(resize=1, precision="float32")
AUTOTUNE = tf.data.AUTOTUNE


def load(path: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
    if args.resize:
        return path, tf.image.resize(image, args.image_size, antialias=True) / 255
    return path, tf.cast(image, tf.float32) / 255


if args.precision == "float16":
    tf.config.optimizer.set_experimental_options({"auto_mixed_precision": True})
model = tf.saved_model.load(args.model)
infer = model.signatures["serving_default"]
images = tf.data.Dataset.list_files(str(args.photographs / "*.jpg"), shuffle=False)
names, vectors = [], []
for paths, pixels in images.map(load, AUTOTUNE).batch(args.batch_size).prefetch(AUTOTUNE):
    with contract.batch(args.output, len(pixels)):
        vectors.append(infer(pixels)["default"].numpy())
    names += [path.decode().rpartition("/")[2] for path in paths.numpy().tolist()]
contract.save(args.output, names, vectors)
