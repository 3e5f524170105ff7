"""Time and peak memory of a run over many images of which an earlier run has embedded nearly all.

`python -m benchmarks.known_images --images 1000000`. The records of the earlier run are written by this project's own
writer, as if it had embedded them. A file of a known image is a link to one of a few thumbnails, because no run reads
it. The model only averages.
"""

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks import memory, models, photographs
from benchmarks.models import AVERAGES
from transforms.elements import keys
from transforms.elements.records import Embedding, ImageInfo, ImageRef
from transforms.encoding import examples, tfrecord
from transforms.models.resolve import resolve
from transforms.models.spec import ModelSpec
from transforms.storage import local

_RUN, _EARLIER = "run", "earlier"
_PICTURES = 200
_PER_DIRECTORY, _PER_SHARD, _PER_BATCH = 10_000, 100_000, 1000


def measure(known: int, new: int, saved_model: Path, scratch: Path) -> dict:
    """Returns `known`, `new`, `peak_mib`, `seconds` and the `phases` of a run over this many images of either kind.

    Raises:
      RuntimeError: if the run fails, or has other counts.
    """
    inputs, output = scratch / "photographs", scratch / "output"
    pictures = [photographs.encoded(number, photographs.THUMBNAIL) for number in range(_PICTURES)]
    for number in range(new):
        path = _path(inputs, known + number)
        path.write_bytes(photographs.with_comment(pictures[number % _PICTURES], b"%d" % number))
    _write_records(_link(inputs, scratch / "pictures", pictures, known), known, output, resolve(str(saved_model)))
    flags = ("--input", f"{inputs}/**", "--output", str(output), "--run_id", _RUN, "--model", str(saved_model))
    began = time.perf_counter()
    peak = memory.peak_mib(*flags)
    seconds = time.perf_counter() - began
    report = json.loads((output / "runs" / f"{_RUN}.json").read_text())
    counts = {name: count for name, count in report["counts"].items() if count}
    if (counts.get("skipped", 0), counts.get("embedded", 0)) != (known, new):
        raise RuntimeError(f"{counts}: expected {known} images to be skipped and {new} to be embedded")
    return {"known": known, "new": new, "peak_mib": peak, "seconds": seconds, "phases": report["phases"]}


def _path(inputs: Path, number: int) -> Path:
    directory = inputs / f"{number // _PER_DIRECTORY:05d}"
    directory.mkdir(parents=True, exist_ok=True)
    return directory / f"{number:08d}.jpg"


def _link(inputs: Path, directory: Path, pictures: Sequence[bytes], count: int) -> Iterator[ImageRef]:
    """Yields the refs of files that it makes: links to a few files with these contents."""
    directory.mkdir()
    originals = []
    for number, content in enumerate(pictures):
        original = directory / f"{number}.jpg"
        original.write_bytes(content)
        status = original.stat()
        originals.append((original, local.version(status.st_size, status.st_mtime), status.st_size))
    for number in range(count):
        original, version, size = originals[number % len(originals)]
        path = _path(inputs, number)
        path.hardlink_to(original)
        yield ImageRef(keys.of_uri(str(path)), version, size, "AAAAAA==")


def _write_records(refs: Iterator[ImageRef], count: int, output: Path, model: ModelSpec) -> None:
    """Writes the record of each ref as an earlier run would have, with a digest of its own."""
    directory = output / "embeddings" / _EARLIER
    directory.mkdir(parents=True)
    shards = -(-count // _PER_SHARD)
    vector = np.zeros(model.dimension, np.float32)
    for shard in range(shards):
        left = min(_PER_SHARD, count - shard * _PER_SHARD)
        with (directory / f"part-{shard:05d}-of-{shards:05d}.tfrecord").open("wb") as file:
            while left:
                batch = [next(refs) for _ in range(min(_PER_BATCH, left))]
                infos = [ImageInfo(ref, hashlib.sha256(ref.key).hexdigest(), "jpeg", 64, 64) for ref in batch]
                records = examples.encode_embeddings([Embedding(info, vector) for info in infos], model.fields(0))
                file.writelines(map(tfrecord.frame, records))
                left -= len(batch)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.known_images",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--images", type=int, default=1_000_000, metavar="N", help="all images (%(default)s)")
    parser.add_argument("--new", type=int, default=1000, metavar="N", help="of these, not known (%(default)s)")
    parser.add_argument("--cache", type=Path, default=models.CACHE_DEFAULT, metavar="DIR", help="(%(default)s)")
    args = parser.parse_args(argv)
    scratch = args.cache / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    saved_model = models.make(AVERAGES, args.cache)
    models.fill_cache(saved_model, {})
    with tempfile.TemporaryDirectory(dir=scratch) as directory:
        measured = measure(args.images - args.new, args.new, saved_model, Path(directory))
    phases = ", ".join(f"{name} {seconds:.1f}" for name, seconds in measured["phases"].items())
    print(
        f"{args.images} images, {args.new} of them new: {measured['seconds']:.1f} s, {measured['peak_mib']:.0f} MiB"
        f" (seconds of the phases: {phases})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
