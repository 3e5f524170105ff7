"""The roof: the work itself, with nothing around it, in the best loop that one would write for this machine by hand.

`loop` is the whole job: the model frozen to constants, one thread an operation and as many calls at once as there are
cores, and in the same threads this project's decoder. `decode` and `model` are its parts, each alone; `write` puts the
vectors into records by this project's writer.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks import machine
from benchmarks.peers import contract
from transforms import images

Call = Callable[[np.ndarray], np.ndarray]


def frozen(saved_model: str, image_size: tuple[int, int], batch_size: int, bfloat16: bool) -> Call:
    """Returns a SavedModel frozen to constants: pixels, uint8 (batch_size, height, width, 3) → vectors, float32."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(machine.cores())
    if bfloat16:
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": True})
    loaded = tf.saved_model.load(saved_model)
    infer = loaded.signatures["serving_default"]

    @tf.function(input_signature=[tf.TensorSpec((batch_size, *image_size, 3), tf.uint8)], autograph=False)
    def embed(pixels: tf.Tensor) -> tf.Tensor:
        return infer(tf.cast(pixels, tf.float32) / 255)["default"]

    constant = convert_variables_to_constants_v2(embed.get_concrete_function())

    def call(pixels: np.ndarray) -> np.ndarray:
        (vectors,) = constant(tf.constant(pixels))
        return vectors.numpy()

    return call


def read_and_decode(paths: Sequence[Path], image_size: tuple[int, int], batch_size: int) -> np.ndarray:
    """Returns a batch of pixels, filled up with black ones: one shape, one graph."""
    pixels = np.zeros((batch_size, *image_size, 3), np.uint8)
    for row, path in enumerate(paths):
        pixels[row] = images.decode(path.read_bytes(), image_size).pixels
    return pixels


def main() -> None:
    given = contract.given(part="loop", precision="float32")
    size, batch_size = tuple(given.image_size), given.batch_size
    paths = sorted(given.photographs.glob("*.jpg"))
    batches = [paths[i : i + batch_size] for i in range(0, len(paths), batch_size)]
    if given.part == "write":
        return _write(given.output, len(paths), given.dimension, batch_size)
    call = None
    if given.part != "decode":
        call = frozen(given.model, size, batch_size, given.precision == "bfloat16")
    ready = np.zeros((batch_size, *size, 3), np.uint8)
    if given.part == "model":
        ready = read_and_decode(batches[0], size, batch_size)

    def work(batch: Sequence[Path]) -> np.ndarray:
        began = time.time()
        pixels = ready if given.part == "model" else read_and_decode(batch, size, batch_size)
        if call is None:
            contract.note(given.output, began, time.time(), len(batch))
            return pixels[:0, 0, 0]
        with contract.batch(given.output, len(batch)):
            return call(pixels)[: len(batch)]

    with ThreadPoolExecutor(machine.cores()) as threads:
        vectors = list(threads.map(work, batches))
    if given.part == "loop":
        contract.save(given.output, [path.name for path in paths], vectors)
    return None


def _write(output: Path, count: int, dimension: int, batch_size: int) -> None:
    from benchmarks.write_path import embeddings, written
    from transforms import examples, tfrecord

    made = list(embeddings(count, dimension))
    with (output / "part.tfrecord").open("wb") as file:
        for start in range(0, count, batch_size):
            batch = made[start : start + batch_size]
            with contract.batch(output, len(batch)):
                file.writelines(map(tfrecord.frame, examples.encode_embeddings(batch, written(dimension))))


if __name__ == "__main__":
    main()
