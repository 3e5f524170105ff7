"""Seconds and peak memory of the verb `export` by the number of vectors: `python -m benchmarks.export --to lance`.

The vectors have 1,280 components and are random, or lie around centres. Random vectors have no near neighbours, which
is the hardest case for an index. For pgvector, libpq's variables say where the server is. Its tables stay.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.models import ROOT
from transforms.elements.records import Embedding, ImageInfo, ImageRef
from transforms.encoding import examples, tfrecord
from transforms.models.spec import ModelFields

_DIMENSION = 1280
_MODEL = ModelFields("random", "d" * 64, _DIMENSION)
_RECORDS_AT_ONCE = 500
_RECORDS_PER_SHARD = 10_000
# Length of the part of a vector that its own image makes, if that of its centre is 1.
_OWN = 0.7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--centres", type=int, default=0, help="number of centres (default: 0, random vectors)")
    parser.add_argument("--to", choices=("pgvector", "lance", "vertex"), default="vertex")
    parser.add_argument("further", nargs="*", metavar="FLAG", help="flags of the verb export, after --")
    args = parser.parse_args()
    for count in args.vectors:
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            write_run(directory / "vectors", count, args.centres)
            where = ["--table", f"export_{count}"] if args.to == "pgvector" else ["--destination", directory / "target"]
            command = [
                sys.executable,
                "-m",
                "pipeline",
                "export",
                "--embeddings",
                directory / "vectors",
                "--to",
                args.to,
            ]
            for _ in range(2):
                began = time.monotonic()
                process = subprocess.Popen([*command, *where, *args.further], cwd=ROOT)
                _, status, usage = os.wait4(process.pid, 0)
                if status:
                    sys.exit("the export failed")
                print(f"{time.monotonic() - began:.1f} s, {usage.ru_maxrss / 1024:.0f} MiB\n", flush=True)


def write_run(output: Path, count: int, centres: int) -> None:
    """Writes a run of so many vectors, always the same ones."""
    generator = np.random.default_rng(0)
    middle = generator.standard_normal((centres, _DIMENSION), np.float32)
    directory = output / "embeddings" / "run"
    directory.mkdir(parents=True)
    shards = -(-count // _RECORDS_PER_SHARD)
    for shard in range(shards):
        with (directory / f"part-{shard:05d}-of-{shards:05d}.tfrecord").open("wb") as file:
            end = min(count, (shard + 1) * _RECORDS_PER_SHARD)
            for start in range(shard * _RECORDS_PER_SHARD, end, _RECORDS_AT_ONCE):
                numbers = range(start, min(end, start + _RECORDS_AT_ONCE))
                vectors = generator.standard_normal((len(numbers), _DIMENSION), np.float32)
                if centres:
                    vectors = middle[generator.integers(0, centres, len(numbers))] + _OWN * vectors
                embeddings = [_embedding(i, vector) for i, vector in zip(numbers, vectors, strict=True)]
                for record in examples.encode_embeddings(embeddings, _MODEL):
                    file.write(tfrecord.frame(record))


def _embedding(number: int, vector: np.ndarray) -> Embedding:
    ref = ImageRef(b"gs://bucket/%08d.jpg" % number, "1", 100_000, "AAAAAA==")
    sha256 = hashlib.sha256(str(number).encode()).hexdigest()
    return Embedding(ImageInfo(ref, sha256, "jpeg", 480, 640), vector)


if __name__ == "__main__":
    main()
