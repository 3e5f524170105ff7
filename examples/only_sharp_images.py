"""A Beam pipeline of your own: between decoding and embedding, a step takes out the blurred images.

Here, in a clone, after `make demo`:

    .venv/bin/python examples/only_sharp_images.py --input 'pipeline/samples/images/*' --output sharp --least 200

It prints the images that have no vector, with the reason:

    pipeline/samples/images/rocket_exif_rotated.jpg: sharpness 191 is below 200
    pipeline/samples/images/retina.avif: sharpness 142 is below 200

It took 3 s of processor time on 2 cores of an AMD EPYC, no accelerator. The vectors are in `sharp/embeddings/sharp/`.

On Dataflow, whose workers install this clone:

    .venv/bin/python examples/only_sharp_images.py --input 'gs://BUCKET/photos/**' --output gs://BUCKET/sharp \
        --runner DataflowRunner --project PROJECT --region REGION --temp_location gs://BUCKET/tmp \
        --setup_file ./setup.py
"""

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.io.filesystems import FileSystems

from transforms import DecodeImages, EmbedImages, GatherFailures, ListImages, ReadImages, WriteFailures, WriteParquet
from transforms.elements.records import DecodedBlock, Failure
from transforms.models.resolve import resolve

RUN_ID = "sharp"


def sharpness(pixels: np.ndarray) -> np.ndarray:
    """Returns the variance of the Laplacian of each image: uint8 (n, height, width, 3) → float32 (n,)."""
    grey = pixels.mean(axis=-1, dtype=np.float32)
    neighbours = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    return (4 * grey[:, 1:-1, 1:-1] - neighbours).var(axis=(1, 2))


def keep_sharp(block: DecodedBlock, least: float) -> Iterator[Any]:
    """Yields the block without its blurred images, and as a failure each image that is blurred."""
    values = sharpness(block.pixels)
    if (is_sharp := values >= least).any():
        yield DecodedBlock(tuple(itertools.compress(block.infos, is_sharp)), block.pixels[is_sharp])
    for info, value in zip(block.infos, values, strict=True):
        if value < least:
            reason = f"sharpness {value:.0f} is below {least:.0f}"
            yield beam.pvalue.TaggedOutput("blurred", Failure(info.ref.key, "blur", "Blurred", reason, retryable=False))


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Embeds the images that are not blurred.")
    parser.add_argument("--input", required=True, help="quoted glob of images")
    parser.add_argument("--output", required=True, help="directory for the files")
    parser.add_argument("--least", type=float, default=100.0, help="least sharpness (default: 100)")
    parser.add_argument("--runner", default="FnApiRunner")
    args, beam_flags = parser.parse_known_args(argv)
    model = resolve("efficientnet_lite0")
    with beam.Pipeline(args.runner, argv=beam_flags) as pipeline:
        listed = pipeline | ListImages((args.input,))
        read = listed.main | ReadImages()
        decoded = read.main | DecodeImages(model.image_size)
        kept = decoded.main | beam.FlatMap(keep_sharp, args.least).with_outputs("blurred", main="sharp")
        embedded = kept.sharp | EmbedImages(model)
        _ = (embedded.main,) | WriteParquet(args.output, RUN_ID, model.fields())
        without = (listed.failures, read.failures, decoded.failures, kept.blurred, embedded.failures)
        _ = without | GatherFailures() | WriteFailures(args.output, RUN_ID)
    for file in FileSystems.match([f"{args.output}/failures/{RUN_ID}/part-*"])[0].metadata_list:
        for failure in map(json.loads, FileSystems.open(file.path)):
            print(f"{failure['key']}: {failure['message']}")


if __name__ == "__main__":
    main(sys.argv[1:])
