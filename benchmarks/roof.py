"""The roof: the same work without a framework, in the best loop that one would write by hand for this machine.

`loop` does the whole job. OpenVINO compiles the model, and one thread per core decodes with this project's decoder and
calls the model on its core. `decode` and `model` are the parts of this loop, each alone. `write` writes vectors as
records with this project's writer.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.peers import contract
from transforms.concurrent.cores import usable_cores
from transforms.images import decoding
from transforms.models.engines import openvino_engine

Call = Callable[[np.ndarray], np.ndarray]


def compiled(saved_model: str, image_size: tuple[int, int], bfloat16: bool) -> Call:
    """Returns a SavedModel compiled by OpenVINO: pixels, uint8 (n, height, width, 3) → vectors, float32.

    Args:
      saved_model: the directory of the model.
      image_size: (height, width) in pixels.
      bfloat16: whether to compute in bfloat16 and not in float32.
    """
    import openvino
    from openvino.preprocess import PrePostProcessor

    core = openvino.Core()
    model = core.read_model(saved_model)
    images_per_call = openvino_engine.images_per_call(model)
    model.reshape([images_per_call, *image_size, 3])
    prepared = PrePostProcessor(model)
    prepared.input().tensor().set_element_type(openvino.Type.u8)
    prepared.input().preprocess().convert_element_type(openvino.Type.f32).scale(255)
    cores = str(usable_cores())
    settings = {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": cores, "INFERENCE_NUM_THREADS": cores}
    settings["INFERENCE_PRECISION_HINT"] = "bf16" if bfloat16 else "f32"
    on_cpu = core.compile_model(prepared.build(), "CPU", settings)
    local = threading.local()

    def call(pixels: np.ndarray) -> np.ndarray:
        if not hasattr(local, "request"):
            local.request = on_cpu.create_infer_request()
        vectors = []
        for start in range(0, len(pixels), images_per_call):
            local.request.infer([pixels[start : start + images_per_call]], share_inputs=True)
            vectors.append(local.request.get_output_tensor(0).data.copy())
        return np.concatenate(vectors)

    return call


def read_and_decode(paths: Sequence[Path], image_size: tuple[int, int], batch_size: int) -> np.ndarray:
    """Returns the pixels of a batch, padded with black images so that all batches have one shape."""
    pixels = np.zeros((batch_size, *image_size, 3), np.uint8)
    for row, path in enumerate(paths):
        pixels[row] = decoding.decode(path.read_bytes(), image_size).pixels
    return pixels


def main() -> None:
    args = contract.arguments(part="loop", precision="float32")
    size, batch_size = tuple(args.image_size), args.batch_size
    paths = sorted(args.photographs.glob("*.jpg"))
    batches = [paths[i : i + batch_size] for i in range(0, len(paths), batch_size)]
    if args.part == "write":
        return _write(args.output, len(paths), args.dimension, batch_size)
    call = None
    if args.part != "decode":
        call = compiled(args.model, size, args.precision == "bfloat16")
    ready = np.zeros((batch_size, *size, 3), np.uint8)
    if args.part == "model":
        ready = read_and_decode(batches[0], size, batch_size)

    def work(batch: Sequence[Path]) -> np.ndarray:
        began = time.time()
        pixels = ready if args.part == "model" else read_and_decode(batch, size, batch_size)
        if call is None:
            contract.record(args.output, began, time.time(), len(batch))
            return pixels[:0, 0, 0]
        with contract.batch(args.output, len(batch)):
            return call(pixels)[: len(batch)]

    with ThreadPoolExecutor(usable_cores()) as threads:
        vectors = list(threads.map(work, batches))
    if args.part == "loop":
        contract.save(args.output, [path.name for path in paths], vectors)
    return None


def _write(output: Path, count: int, dimension: int, batch_size: int) -> None:
    from benchmarks.write_path import embeddings, model_fields
    from transforms.encoding import examples, tfrecord

    rows = list(embeddings(count, dimension))
    with (output / "part.tfrecord").open("wb") as file:
        for start in range(0, count, batch_size):
            batch = rows[start : start + batch_size]
            with contract.batch(output, len(batch)):
                file.writelines(map(tfrecord.frame, examples.encode_embeddings(batch, model_fields(dimension))))


if __name__ == "__main__":
    main()
