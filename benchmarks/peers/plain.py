"""A plain script: Pillow decodes a batch, then the SavedModel is called; `--threads` decode the next batch meanwhile.

It calls the model as https://www.tensorflow.org/guide/saved_model does, and opens images as Pillow's tutorial does.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import contract
import numpy as np
import tensorflow as tf
from PIL import Image

args = contract.arguments(threads=0)
height, width = args.image_size


def decode(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))


def one_after_another(batches: list[list[Path]]) -> Iterator[Iterable[np.ndarray]]:
    for paths in batches:
        yield map(decode, paths)


def ahead(batches: list[list[Path]]) -> Iterator[Iterable[np.ndarray]]:
    """Yields decoded batches, while a pool of threads decodes the next one."""
    with ThreadPoolExecutor(args.threads) as pool:
        following = pool.map(decode, batches[0])
        for paths in batches[1:]:
            images, following = following, pool.map(decode, paths)
            yield images
        yield following


model = tf.saved_model.load(args.model)
infer = model.signatures["serving_default"]
paths = sorted(args.photographs.glob("*.jpg"))
batches = [paths[i : i + args.batch_size] for i in range(0, len(paths), args.batch_size)]
vectors = []
for images in (ahead if args.threads else one_after_another)(batches):
    pixels = np.stack(list(images)).astype(np.float32) / 255
    with contract.batch(args.output, len(pixels)):
        vectors.append(infer(tf.constant(pixels))["default"].numpy())
contract.save(args.output, [path.name for path in paths], vectors)
