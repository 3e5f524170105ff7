"""What the values of an ONNX network cost, in NumPy and in a graph of bytes: `python -m benchmarks.onnx_bytes`.

It calls networks in ONNX Runtime on one thread of the CPU with uint8 images of 224×224. NumPy makes float32 planes, as
the peers do. `engines.onnx_values` makes the same values behind the bytes. Both are called in turn, and the table has
medians: milliseconds of processor time, and of time, for an image. Of a GPU it says what is copied to one, and by NumPy
alone what the cores need no longer do for one.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from benchmarks import machine
from tests.helpers import onnx_models
from transforms.models.engines import mosaics, onnx_runtime
from transforms.models.image_interface import derive
from transforms.models.preprocessing import TF_HUB, Preprocessing

_IMAGE_SIZE = (224, 224)
_NETWORKS = {"means": onnx_models.write, "EfficientNet-Lite0": onnx_models.write_bundled}
_PREPROCESSING = {"0..1": TF_HUB, "ImageNet": Preprocessing(*onnx_models.IMAGENET)}


class Times(NamedTuple):
    """Milliseconds for an image: of the processor, and on the clock."""

    processor: float
    clock: float


def in_turn(calls: Sequence[Callable[[], object]], images: int, rounds: int) -> list[Times]:
    """Returns the medians of calls for so many images each, in so many rounds after one that does not count."""
    taken: list[list[Times]] = [[] for _ in calls]
    for _ in range(rounds + 1):
        for each, call in zip(taken, calls, strict=True):
            processor, clock = time.process_time(), time.perf_counter()
            call()
            each.append(Times(time.process_time() - processor, time.perf_counter() - clock))
    return [Times(*(1000 / images * statistics.median(of) for of in zip(*each[1:], strict=True))) for each in taken]


def measured(file: Path, preprocessing: Preprocessing, images: int, rounds: int) -> tuple[list[Times], float]:
    """Returns the times of NumPy alone and of a network with NumPy and with bytes, and how far its vectors differ."""
    session = onnx_runtime.open_session(file)
    interface = derive(onnx_runtime.signature(session), None, channels_first=True)
    name, pixels = session.get_inputs()[0].name, mosaics.mosaics(images, _IMAGE_SIZE)
    run = onnx_runtime.compiled(session, interface, preprocessing)

    def values() -> np.ndarray:
        return onnx_models.values(pixels, interface.dtype, interface.channels_first, preprocessing)

    def with_numpy() -> np.ndarray:
        return session.run([interface.output], {name: values()})[0].reshape(images, -1)

    difference = float(np.abs(run(pixels) - with_numpy()).max())
    return in_turn([values, with_numpy, lambda: run(pixels)], images, rounds), difference


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.onnx_bytes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[16, 64], metavar="N", help="(default: 16 64)")
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="(default: %(default)s)")
    args = parser.parse_args(argv)
    facts, of_image = machine.description(), 3 * _IMAGE_SIZE[0] * _IMAGE_SIZE[1]
    print(f"- {facts['cpu']}, {facts['cores']} cores; load average at the start {facts['load_average']:.1f}")
    print(f"- bytes for a GPU to copy, an image: {of_image * 4:,} as float32, {of_image:,} as uint8\n")
    ways = "NumPy alone", "with NumPy", "with bytes"
    columns = "values", "batch", *(f"{way}, ms of {time}" for time in Times._fields for way in ways), "difference"
    print(f"| network | {' | '.join(columns)} |\n|{'---|' * (1 + len(columns))}")
    with TemporaryDirectory() as directory:
        for network, write in _NETWORKS.items():
            file = write(Path(directory, f"{network}.onnx"))
            for values, preprocessing in _PREPROCESSING.items():
                for images in args.batch_sizes:
                    times, difference = measured(file, preprocessing, images, args.rounds)
                    milliseconds = [f"{ms:.2f}" for of_ways in zip(*times, strict=True) for ms in of_ways]
                    cells = (network, values, str(images), *milliseconds, f"{difference:.0e}")
                    print(f"| {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
