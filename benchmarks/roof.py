"""The roof: the work itself, with nothing around it, in the best loop that one would write for this machine by hand.

`loop` is the whole job: the model compiled by OpenVINO, as many calls at once as there are cores, each on one of them,
and in the same threads this project's decoder. `decode` and `model` are its parts, each alone; `write` puts the
vectors into records by this project's writer.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.peers import contract
from transforms.cores import usable_cores
from transforms.images import decoding
from transforms.models.engines import openvino_engine

Call = Callable[[np.ndarray], np.ndarray]


def compiled(saved_model: str, image_size: tuple[int, int], bfloat16: bool) -> Call:
    """Returns a SavedModel compiled by OpenVINO: pixels, uint8 (n, height, width, 3) → vectors, float32.

    Args:
      saved_model: its directory; image_size: (height, width) in pixels; bfloat16: whether it computes in that.
    """
    import openvino
    from openvino.preprocess import PrePostProcessor

    core = openvino.Core()
    model = core.read_model(saved_model)
    at_once = openvino_engine.images_per_call(model)
    model.reshape([at_once, *image_size, 3])
    prepared = PrePostProcessor(model)
    prepared.input().tensor().set_element_type(openvino.Type.u8)
    prepared.input().preprocess().convert_element_type(openvino.Type.f32).scale(255)
    cores = str(usable_cores())
    settings = {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": cores, "INFERENCE_NUM_THREADS": cores}
    settings["INFERENCE_PRECISION_HINT"] = "bf16" if bfloat16 else "f32"
    on_cpu = core.compile_model(prepared.build(), "CPU", settings)
    mine = threading.local()

    def call(pixels: np.ndarray) -> np.ndarray:
        if not hasattr(mine, "request"):
            mine.request = on_cpu.create_infer_request()
        found = []
        for start in range(0, len(pixels), at_once):
            mine.request.infer([pixels[start : start + at_once]], share_inputs=True)
            found.append(mine.request.get_output_tensor(0).data.copy())
        return np.concatenate(found)

    return call


def read_and_decode(paths: Sequence[Path], image_size: tuple[int, int], batch_size: int) -> np.ndarray:
    """Returns a batch of pixels, filled up with black ones: one shape, one graph."""
    pixels = np.zeros((batch_size, *image_size, 3), np.uint8)
    for row, path in enumerate(paths):
        pixels[row] = decoding.decode(path.read_bytes(), image_size).pixels
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
        call = compiled(given.model, size, given.precision == "bfloat16")
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

    with ThreadPoolExecutor(usable_cores()) as threads:
        vectors = list(threads.map(work, batches))
    if given.part == "loop":
        contract.save(given.output, [path.name for path in paths], vectors)
    return None


def _write(output: Path, count: int, dimension: int, batch_size: int) -> None:
    from benchmarks.write_path import embeddings, written
    from transforms.encoding import examples, tfrecord

    made = list(embeddings(count, dimension))
    with (output / "part.tfrecord").open("wb") as file:
        for start in range(0, count, batch_size):
            batch = made[start : start + batch_size]
            with contract.batch(output, len(batch)):
                file.writelines(map(tfrecord.frame, examples.encode_embeddings(batch, written(dimension))))


if __name__ == "__main__":
    main()
