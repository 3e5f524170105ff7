"""The near-duplicates of a collection: embeds it, and prints groups of images that look the same.

Here, in a clone, after `make demo`:

    .venv/bin/python examples/near_duplicates.py --input pipeline/samples/images --output photos-vectors --threshold 0.8

It prints the summary of the run, and then each group, with the cosine of each image to the first of its group:

            …/pipeline/samples/images/cat.jpg
    0.8560  …/pipeline/samples/images/cat_animated.webp

            …/pipeline/samples/images/coffee.jpg
    0.8877  …/pipeline/samples/images/coffee_cmyk.jpg

            …/pipeline/samples/images/gravel.png
    0.9462  …/pipeline/samples/images/gravel_16bit.png

It took 4 s of processor time on 2 cores of an AMD EPYC, no accelerator. Copies that were recompressed, resized or
slightly cropped are above 0.93, the default. All vectors are in memory, where a million take 10 GB.

On Dataflow, where the vectors go into a bucket and are compared here:

    .venv/bin/python examples/near_duplicates.py --input 'gs://BUCKET/photos/**' --output gs://BUCKET/vectors \
        --preset dataflow --project PROJECT --region REGION --temp_location gs://BUCKET/tmp
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from apache_beam.io.filesystems import FileSystems

from pipeline.__main__ import main as embed_images
from transforms.encoding import vectors

BLOCK = 1024  # rows that are compared with all others at once


def near_pairs(matrix: np.ndarray, threshold: float) -> Iterator[tuple[int, int, float]]:
    """Yields the pairs of rows with a cosine of at least `threshold`, the lower row first, ordered by it."""
    units = matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    for start in range(0, len(units), BLOCK):
        cosines = units[start : start + BLOCK] @ units[start:].T
        for one, other in zip(*np.nonzero(np.triu(cosines, 1) >= threshold), strict=True):
            yield start + int(one), start + int(other), float(cosines[one, other])


def groups(pairs: Iterator[tuple[int, int, float]]) -> dict[int, dict[int, float]]:
    """Returns the first row of each group → the others and their cosines to it. A row is in one group at most."""
    found: dict[int, dict[int, float]] = defaultdict(dict)
    members: set[int] = set()
    for first, other, cosine in pairs:
        if first not in members and other not in members:
            found[first][other] = cosine
            members.add(other)
    return found


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Prints groups of images that look the same.")
    parser.add_argument("--output", required=True, help="directory for the vectors, local or gs://")
    parser.add_argument("--threshold", type=float, default=0.93, help="least cosine in a group (default: 0.93)")
    args, flags = parser.parse_known_args(argv)
    if code := embed_images(["--output", args.output, *flags]):
        return code
    files = FileSystems.match([f"{args.output}/embeddings/*/part-*.tfrecord"])[0].metadata_list
    table = vectors.read(sorted(file.path for file in files), FileSystems.open)
    by_key = sorted(range(len(table.keys)), key=table.keys.__getitem__)
    names = [table.keys[row].decode() for row in by_key]
    for first, others in groups(near_pairs(table.matrix[by_key], args.threshold)).items():
        print(f"\n        {names[first]}")
        for other, cosine in sorted(others.items(), key=lambda item: -item[1]):
            print(f"{cosine:.4f}  {names[other]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
