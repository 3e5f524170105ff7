"""Vectors for TensorBoard's Embedding Projector: https://github.com/tensorflow/tensorboard (plugins/projector).

It holds all points in the browser, and their pictures in one image of at most 8192×8192 pixels.
"""

import concurrent.futures
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.commands.search import names, thumbnails
from pipeline.commands.search.index import Index
from transforms.concurrent.cores import usable_cores
from transforms.elements import keys
from transforms.storage import complete
from transforms.storage.context import DEFAULT_STORAGE, Storage

# The plugin reliably recognizes vectors only as TSV: it takes a binary file that decodes as text for TSV.
_VECTORS, _METADATA, _SPRITE, _CONFIG = "vectors.tsv", "metadata.tsv", "sprite.jpg", "projector_config.pbtxt"
MAX_IMAGES = 5000
# 71 pictures of 64 pixels on a side are 4544.
_SIDE = 64
_NO_PICTURE = (128, 128, 128)


def write(index: Index, directory: str, storage: Storage = DEFAULT_STORAGE) -> int:
    """Writes at most MAX_IMAGES vectors with their keys and pictures, and returns their number.

    Args:
      index: of the vectors. The images are chosen by a hash of their keys, so they are the same ones each time.
      directory: local; it appears complete or not at all. One that this function wrote is replaced.
      storage: how buckets are reached.

    Raises:
      Occupied: if the directory holds anything else.
    """
    rows = index.sample(MAX_IMAGES)
    entries = (_VECTORS, _METADATA, _SPRITE, _CONFIG)
    named = f"--projector {directory!r}"
    with complete.directory(Path(directory), named=named, overwrite=True, entries=entries) as part:
        with (part / _VECTORS).open("wb") as file:
            for row in rows:
                np.savetxt(file, index.vector(row)[None], fmt="%.6g", delimiter="\t")
        chosen = [index.key(row) for row in rows]
        # The plugin has no escapes for tabs and ends of lines.
        lines = [
            "name\tkey",
            *(f"{names.last_part(key)}\t{keys.name(key)}" for key in chosen),
        ]
        (part / _METADATA).write_text("\n".join(lines) + "\n")
        of_files = [key if index.is_file(row) else None for key, row in zip(chosen, rows, strict=True)]
        _sprite(of_files, storage).save(part / _SPRITE, "JPEG", quality=85)
        (part / _CONFIG).write_text(_config(len(rows), len(index.vector(rows[0]))))
    return len(rows)


def _config(images: int, dimension: int) -> str:
    """Returns the plugin's ProjectorConfig as text."""
    return f"""embeddings {{
  tensor_name: "vectors"
  tensor_path: "{_VECTORS}"
  tensor_shape: {images}
  tensor_shape: {dimension}
  metadata_path: "{_METADATA}"
  sprite {{
    image_path: "{_SPRITE}"
    single_image_dim: {_SIDE}
    single_image_dim: {_SIDE}
  }}
}}
"""


def _sprite(of_files: Iterable[bytes | None], storage: Storage) -> Image.Image:
    """Returns the pictures in rows of a square, grey where an image is no file or cannot be read."""
    with concurrent.futures.ThreadPoolExecutor(usable_cores()) as pool:
        pictures = list(pool.map(lambda key: key and thumbnails.picture(key, _SIDE, storage), of_files))
    columns = math.ceil(math.sqrt(len(pictures)))
    sprite = Image.new("RGB", (columns * _SIDE, columns * _SIDE), _NO_PICTURE)
    for number, picture in enumerate(pictures):
        if picture is not None:
            sprite.paste(picture, (number % columns * _SIDE, number // columns * _SIDE))
    return sprite
