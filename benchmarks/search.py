"""Exact search beside numpy and FAISS: `python -m benchmarks.search [--vectors 200000] [--dimension 1280]`.

All get the same random vectors and queries, and must give the same neighbours. numpy and FAISS hold all vectors in
memory, and the time to read and prepare them is counted apart. Each is a process of its own. faiss-cpu has to be
installed for it.
"""

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.models import ROOT
from benchmarks.write_path import embeddings, model_fields

_QUERIES = 5
_TOP = 10
_BATCH = 500
_SHARDS = 8


def main() -> int:
    """Measures, prints the table, and returns the exit code: 1 if two contenders disagree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=200_000, metavar="N", help="number of vectors (%(default)s)")
    parser.add_argument("--dimension", type=int, default=1280, metavar="N", help="floats a vector (%(default)s)")
    parser.add_argument("--contender", choices=_CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contender:
        print(json.dumps(_measure(args.contender, args.directory, args.dimension)))
        return 0
    if importlib.util.find_spec("faiss") is None:
        parser.error("expected FAISS: pip install faiss-cpu")
    with tempfile.TemporaryDirectory() as scratch:
        _write(Path(scratch), args.vectors, args.dimension)
        rows = {name: _in_process(name, Path(scratch), args.dimension) for name in _CONTENDERS}
    print(f"{args.vectors} vectors of {args.dimension}, {_QUERIES} queries, the {_TOP} nearest of each")
    print(f"{'':24s}  {'prepare, s':>10s}  {'query, ms':>9s}  {'peak, MiB':>9s}")
    for name, row in rows.items():
        print(f"{name:24s}  {row['prepare']:10.2f}  {row['query'] * 1000:9.1f}  {row['peak_mib']:9.0f}")
    return int(len({json.dumps(row["keys"]) for row in rows.values()}) > 1)


def _in_process(contender: str, directory: Path, dimension: int) -> dict:
    flags = ("--contender", contender, "--directory", directory, "--dimension", dimension)
    command = [sys.executable, "-m", "benchmarks.search", *map(str, flags)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    measured: dict = json.loads(done.stdout)
    return measured


def _write(directory: Path, count: int, dimension: int) -> None:
    """Writes the vectors as the records of a run, and as `vectors.npy` and `keys.txt` for the others."""
    from transforms.encoding import examples, tfrecord

    run = directory / "embeddings" / "r"
    run.mkdir(parents=True)
    of_shard = -(-count // _SHARDS // _BATCH) * _BATCH
    matrix = np.lib.format.open_memmap(directory / "vectors.npy", "w+", np.float32, (count, dimension))
    with (directory / "keys.txt").open("wb") as keys:
        for shard in range(_SHARDS):
            with (run / f"part-{shard:05d}-of-{_SHARDS:05d}.tfrecord").open("wb") as file:
                for start in range(shard * of_shard, min((shard + 1) * of_shard, count), _BATCH):
                    batch = list(embeddings(min(_BATCH, count - start), dimension, start))
                    for record in examples.encode_embeddings(batch, model_fields(dimension)):
                        file.write(tfrecord.frame(record))
                    matrix[start : start + len(batch)] = [each.vector for each in batch]
                    keys.writelines(each.info.ref.key + b"\n" for each in batch)
    matrix.flush()


def _measure(contender: str, directory: Path, dimension: int) -> dict:
    began = time.perf_counter()
    search = _CONTENDERS[contender](directory)
    prepared = time.perf_counter()
    queries = np.random.default_rng(12345).standard_normal((_QUERIES, dimension), np.float32)
    answers = [search(query) for query in queries]
    ended = time.perf_counter()
    return {
        "prepare": prepared - began,
        "query": (ended - prepared) / len(queries),
        "peak_mib": _peak_mib(),
        "keys": answers,
    }


def _peak_mib() -> float:
    """Returns the most memory of this process. `ru_maxrss` would begin with what the parent had at its fork."""
    matching = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(matching[1]) / 1024 if matching else float("nan")


def _keys(directory: Path) -> list[str]:
    return (directory / "keys.txt").read_text().splitlines()


def _of_a_run(directory: Path):
    from pipeline.commands.search.nearest import cosines, nearest
    from pipeline.known import vector_shards

    shards = vector_shards.paths(str(directory))
    digest = vector_shards.digest(shards)

    def search(query: npt.NDArray[np.float32]) -> list[str]:
        blocks = lambda: ((block.keys, cosines(block.matrix, query)) for block in vector_shards.blocks(shards, digest))  # noqa: E731
        return [each.key.decode() for each in nearest(blocks, _TOP)]

    return search


def _of_an_index(directory: Path):
    from pipeline.commands.search.index import Index
    from pipeline.known import vector_shards

    index = Index(vector_shards.paths(str(directory)))
    return lambda query: [index.key(each.key).decode() for each in index.nearest(query, _TOP)]


def _of_numpy(directory: Path):
    matrix, keys = np.load(directory / "vectors.npy"), _keys(directory)
    lengths = np.linalg.norm(matrix, axis=1)

    def search(query: npt.NDArray[np.float32]) -> list[str]:
        cosines = matrix @ query / lengths
        return [keys[row] for row in _best(cosines)]

    return search


def _best(values: npt.NDArray[np.float32]) -> Sequence[int]:
    best = np.argpartition(-values, _TOP)[:_TOP]
    return best[np.argsort(-values[best])].tolist()


def _of_faiss(directory: Path):
    import faiss

    matrix, keys = np.load(directory / "vectors.npy"), _keys(directory)
    faiss.normalize_L2(matrix)
    index = faiss.IndexFlatIP(matrix.shape[1])
    index.add(matrix)
    return lambda query: [keys[row] for row in index.search(query[None], _TOP)[1][0]]


_CONTENDERS = {"a run": _of_a_run, "an index": _of_an_index, "numpy": _of_numpy, "FAISS, IndexFlatIP": _of_faiss}


if __name__ == "__main__":
    sys.exit(main())
