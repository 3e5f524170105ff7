"""A plain script for ONNX: a pool of threads decodes the next batch with Pillow, while ONNX Runtime computes.

The session has ONNX Runtime's own settings, by which it uses every core for each call. It is called as
https://onnxruntime.ai/docs/get-started/with-python.html does.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import contract
import numpy as np
import onnxruntime
from PIL import Image

args = contract.arguments(threads=1)
height, width = args.image_size


def decode(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))
        return pixels.transpose(2, 0, 1).astype(np.float32) / 255


session = onnxruntime.InferenceSession(str(Path(args.model, "model.onnx")), providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
paths = sorted(args.photographs.glob("*.jpg"))
batches = [paths[i : i + args.batch_size] for i in range(0, len(paths), args.batch_size)]
vectors = []
with ThreadPoolExecutor(args.threads) as pool:
    following = pool.map(decode, batches[0])
    for ahead in [*batches[1:], []]:
        images, following = following, pool.map(decode, ahead)
        pixels = np.stack(list(images))
        with contract.batch(args.output, len(pixels)):
            vectors.append(session.run(None, {name: pixels})[0].reshape(len(pixels), -1))
contract.save(args.output, [path.name for path in paths], vectors)
