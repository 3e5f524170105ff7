"""A loop that reads and decodes, in one process per core: how many images a second the cores can decode.

With `--decoder ours` it decodes as this project does, and takes the SHA-256 of each file, which this project's records
have. With `--decoder simplejpeg` it calls that library alone.
"""

import functools
import hashlib
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import simplejpeg

from benchmarks.peers import contract
from transforms.concurrent.cores import usable_cores
from transforms.images import decoding

# Batches that a process gets at once, so that handing them over takes no time.
_BATCHES = 8


def _decode(encoded: bytes, image_size: tuple[int, int]) -> None:
    hashlib.sha256(encoded).hexdigest()
    decoding.decode(encoded, image_size)


def _decode_by_simplejpeg(encoded: bytes, image_size: tuple[int, int]) -> None:
    simplejpeg.decode_jpeg(encoded, fastdct=False, fastupsample=False)


_DECODERS: dict[str, Callable[[bytes, tuple[int, int]], None]] = {
    "ours": _decode,
    "simplejpeg": _decode_by_simplejpeg,
}


def _work(output: Path, decoder: str, image_size: tuple[int, int], batch: Sequence[Path]) -> None:
    began = time.time()
    for path in batch:
        _DECODERS[decoder](path.read_bytes(), image_size)
    contract.record(output, began, time.time(), len(batch))


def main() -> None:
    args = contract.arguments(decoder="ours")
    paths = sorted(args.photographs.glob("*.jpg"))
    batches = [paths[i : i + args.batch_size] for i in range(0, len(paths), args.batch_size)]
    work = functools.partial(_work, args.output, args.decoder, tuple(args.image_size))
    cores = usable_cores()
    with ProcessPoolExecutor(cores, multiprocessing.get_context("fork")) as processes:
        chunk = max(1, min(_BATCHES, len(batches) // cores))
        list(processes.map(work, batches, chunksize=chunk))


if __name__ == "__main__":
    main()
