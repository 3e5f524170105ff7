"""A plain script: Pillow decodes, the SavedModel is called, batch after batch; `--threads` decodes the next meanwhile.

As https://www.tensorflow.org/guide/saved_model calls a model, and Pillow's tutorial opens an image.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import contract
import numpy as np
import tensorflow as tf
from PIL import Image

given = contract.given(threads=0)
height, width = given.image_size


def decode(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))


def one_after_another(batches: list[list[Path]]) -> Iterator[Iterable[np.ndarray]]:
    for paths in batches:
        yield map(decode, paths)


def ahead(batches: list[list[Path]]) -> Iterator[Iterable[np.ndarray]]:
    """Yields batches of which the next is being decoded by a pool of threads."""
    with ThreadPoolExecutor(given.threads) as pool:
        following = pool.map(decode, batches[0])
        for paths in batches[1:]:
            images, following = following, pool.map(decode, paths)
            yield images
        yield following


model = tf.saved_model.load(given.model)
infer = model.signatures["serving_default"]
paths = sorted(given.photographs.glob("*.jpg"))
batches = [paths[i : i + given.batch_size] for i in range(0, len(paths), given.batch_size)]
vectors = []
for images in (ahead if given.threads else one_after_another)(batches):
    pixels = np.stack(list(images)).astype(np.float32) / 255
    with contract.batch(given.output, len(pixels)):
        vectors.append(infer(tf.constant(pixels))["default"].numpy())
contract.save(given.output, [path.name for path in paths], vectors)
