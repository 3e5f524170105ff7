"""`tf.data`: reading, decoding and batching in TensorFlow's own threads, as its guides do.

https://www.tensorflow.org/tutorials/load_data/images, https://www.tensorflow.org/guide/data_performance. The resize is
antialiased: its default skips pixels of large images, and its vectors are others.
"""

import contract
import tensorflow as tf

given = contract.given()
AUTOTUNE = tf.data.AUTOTUNE


def load(path: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
    return path, tf.image.resize(image, given.image_size, antialias=True) / 255


model = tf.saved_model.load(given.model)
infer = model.signatures["serving_default"]
images = tf.data.Dataset.list_files(str(given.photographs / "*.jpg"), shuffle=False)
names, vectors = [], []
for paths, pixels in images.map(load, AUTOTUNE).batch(given.batch_size).prefetch(AUTOTUNE):
    with contract.batch(given.output, len(pixels)):
        vectors.append(infer(pixels)["default"].numpy())
    names += [path.decode().rpartition("/")[2] for path in paths.numpy().tolist()]
contract.save(given.output, names, vectors)
