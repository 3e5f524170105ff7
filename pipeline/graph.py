"""The order of the stages; the only file that knows it."""

import apache_beam as beam

from pipeline.options import EmbedConfig
from pipeline.report import WriteReport
from transforms.decode import DecodeImages
from transforms.embed import EmbedImages
from transforms.failures import WriteFailures
from transforms.formats import SHARD_FORMATS
from transforms.list import ListImages
from transforms.models.spec import ModelSpec
from transforms.read import ReadImages
from transforms.records import FAILURES, SECONDS, Failure
from transforms.write_tfrecord import WriteTFRecords


def build(root: beam.Pipeline, config: EmbedConfig, model: ModelSpec, *, share_model_across_processes: bool) -> None:
    """Puts the whole job onto a pipeline: list, read, decode, embed, write, and the report when all is written."""
    listed = root | "ListImages" >> ListImages(
        config.inputs, config.input_format, config.billing_project, config.read_concurrency
    )
    encoded = listed["refs"] | "ReadImages" >> ReadImages(
        config.input_format, config.read_concurrency, config.billing_project
    )
    decoded = encoded.images | "DecodeImages" >> DecodeImages(model.image_size, config.resize_mode, config.max_pixels)
    embedded = decoded.images | "EmbedImages" >> EmbedImages(model, config.batch_size, share_model_across_processes)
    written = embedded.embeddings | "WriteTFRecords" >> WriteTFRecords(
        config.output, config.run_id, config.written(model)
    )

    stages = (listed, encoded, decoded, embedded)
    failures = tuple(stage[FAILURES] for stage in stages) | "Failures" >> beam.Flatten().with_output_types(Failure)
    failed = failures | "WriteFailures" >> WriteFailures(config.output, config.run_id)
    # What a shard holds is listed by being found in it, and so is what keeps a shard from being read.
    found = (encoded.images, encoded[FAILURES]) if config.input_format in SHARD_FORMATS else (listed["refs"],)
    _ = root | "Report" >> WriteReport(
        config,
        model,
        listed=(*found, listed[FAILURES]),
        failures=failures,
        embeddings=written["shards"],
        failed=failed["shards"],
        seconds=tuple(stage[SECONDS] for stage in (*stages, written, failed)),
    )
