"""Parquet files against TFRecords: `python -m benchmarks.parquet [--records 100000]`.

Bytes, and seconds of processor time to write a file, to read its vectors, and to read only what the next run needs to
know of it. The vectors are those of the bundled model over crops of the sample images, or normally distributed. Last,
the memory that a writer takes at its peak, in a process of its own.
"""

import argparse
import functools
import io
import itertools
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.write_path import model_fields
from transforms.encoding import parquet

_DISTINCT = 1024
_BATCH = 64
_ELEMENT = "embedding.list.element"
# Ways to store the vectors that were not chosen.
_OTHER_WAYS: dict[str, dict[str, Any]] = {
    "vectors not compressed": {"compression": {"key": "zstd", "sha256": "zstd", _ELEMENT: "none"}},
    "vectors split by bytes": {"compression": "zstd", "use_byte_stream_split": [_ELEMENT]},
}


def crops(count: int, size: tuple[int, int]) -> Iterator[npt.NDArray[np.uint8]]:
    """Yields square crops of the sample images, the same each time, uint8 (height, width, 3)."""
    from pipeline.flags import options

    height, width = size
    draw = np.random.default_rng(0)
    images = [Image.open(path).convert("RGB") for path in sorted(Path(options.SAMPLES).parent.iterdir())]
    for _ in range(count):
        image = images[draw.integers(len(images))]
        side = int(min(image.size) * draw.uniform(0.3, 1.0))
        x, y = (int(draw.integers(extent - side + 1)) for extent in image.size)
        yield np.asarray(image.crop((x, y, x + side, y + side)).resize((width, height)))


def vectors_of_the_model() -> npt.NDArray[np.float32]:
    """Returns vectors of crops by the bundled model, float32 (1024, 1280)."""
    from transforms.models.engines import loading
    from transforms.models.resolve import resolve

    spec = resolve("efficientnet_lite0")
    model = loading.load(spec, _BATCH)
    return np.concatenate([model(np.stack(batch)) for batch in _batched(crops(_DISTINCT, spec.image_size))])


def embeddings(vectors: npt.NDArray[np.float32], count: int) -> Iterator[Any]:
    """Yields embeddings of images that do not exist; equal vectors are further apart than any compressor looks."""
    from transforms.elements.records import Embedding, ImageInfo, ImageRef

    for i in range(count):
        ref = ImageRef(b"gs://photos/some/directory/%012d.jpg" % i, "1795316023557033140", 123_456, "lx6ySg==")
        sha256 = np.random.default_rng(i).bytes(32).hex()
        yield Embedding(ImageInfo(ref, sha256, "jpeg", 480, 640), vectors[i % len(vectors)])


def main() -> int:
    """Measures, prints a table, and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000, metavar="N", help="number of records (%(default)s)")
    args = parser.parse_args()
    normal = np.random.default_rng(0).standard_normal((_DISTINCT, 1280), np.float32)
    with tempfile.TemporaryDirectory() as scratch:
        for name, vectors in (("of the model", vectors_of_the_model()), ("normal", normal)):
            print(
                f"\n{args.records:,} vectors {name}, {vectors.shape[1]} components, {(vectors == 0).mean():.0%} zeros"
            )
            print(f"{'':32s} {'MiB':>6} {'write':>8} {'vectors':>8} {'identities':>11}")
            _measure(Path(scratch), vectors, args.records)
        print("\npeak memory of a writer, over that of its process before:")
        for name in _formats(normal.shape[1]):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                peak = pool.apply(_peak_bytes, (name, Path(scratch, "part"), args.records))
            print(f"{name:32s} {peak / 2**20:6.0f} MiB", flush=True)
    return 0


def _peak_bytes(name: str, path: Path, count: int) -> int:
    """Returns by how much the memory of this process grows while it writes normally distributed vectors."""
    vectors = np.random.default_rng(0).standard_normal((_DISTINCT, 1280), np.float32)
    part_format = _formats(vectors.shape[1])[name]
    _write(path, part_format, embeddings(vectors, _BATCH))  # all imports are done, and all pools are there
    Path("/proc/self/clear_refs").write_text("5")
    before = _memory("VmRSS")
    _write(path, part_format, embeddings(vectors, count))
    return _memory("VmHWM") - before


def _memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


def _formats(dimension: int) -> dict[str, Any]:
    from transforms import write_tfrecord

    model = model_fields(dimension)
    return {
        "TFRecord": write_tfrecord.file_format(model),
        "Parquet": parquet.ParquetFormat(model),
        "Parquet, float16": parquet.ParquetFormat(model, "float16"),
    }


def _measure(scratch: Path, vectors: npt.NDArray[np.float32], count: int) -> None:
    rows = list(embeddings(vectors, count))
    for name, part_format in _formats(vectors.shape[1]).items():
        path = scratch / f"part{part_format.suffix}"
        _print(name, path, _seconds(functools.partial(_write, path, part_format, rows)))
        if part_format.suffix == ".parquet":
            table = pq.read_table(path)
            for way, options in _OTHER_WAYS.items():
                _print(f"  {way}", path, _seconds(functools.partial(_rewrite, path, table, options)))


def _write(path: Path, part_format: Any, rows: Iterable[Any]) -> None:
    with path.open("wb") as file:
        part = part_format.open(file)
        for batch in _batched(rows):
            part.append(batch)
        part.finish()


def _rewrite(path: Path, table: pa.Table, options: dict[str, Any]) -> None:
    rows = parquet.ROW_GROUP_BYTES * len(table) // table["embedding"].nbytes
    columns = ["model", "model_digest", "format"]
    pq.write_table(
        table,
        path,
        row_group_size=rows,
        use_dictionary=columns,
        write_statistics=columns,
        write_page_checksum=True,
        **options,
    )


def _print(name: str, path: Path, write: float) -> None:
    content = io.BytesIO(path.read_bytes())
    times = [_seconds(functools.partial(_consume, read, content)) for read in _reads(str(path))]
    print(
        f"{name:32s} {path.stat().st_size / 2**20:6.0f} {write:6.2f} s {times[0]:6.2f} s {times[1]:9.2f} s", flush=True
    )


def _reads(path: str) -> list[Callable[[io.BytesIO], Iterator[Any]]]:
    from transforms.encoding import record_files

    return [
        lambda content: record_files.vectors(path, content),
        lambda content: record_files.identities(path, content, vector_type="float16"),
    ]


def _consume(read: Callable[[io.BytesIO], Iterator[Any]], content: io.BytesIO) -> None:
    content.seek(0)
    for _ in read(content):
        pass


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _batched(items: Any) -> Iterator[list[Any]]:
    items = iter(items)
    while batch := list(itertools.islice(items, _BATCH)):
        yield batch


if __name__ == "__main__":
    sys.exit(main())
