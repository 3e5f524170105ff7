"""The order of the stages; the only file that knows it.

list → only new → read → decode → embed → copy → write → report → publish
"""

import apache_beam as beam

from pipeline.ledger import FetchVectors, ReadLedger, ReadRetryable
from pipeline.only_new import OnlyNew
from pipeline.options import EmbedConfig
from pipeline.report.run_report import ComposeReport, WriteReport
from pipeline.warehouse.publish import Publication, PublishRows
from transforms.copies import COPIES, REUSED, CopyVectors
from transforms.decode import DecodeImages
from transforms.embed import EmbedImages
from transforms.failures import GatherFailures, WriteFailures
from transforms.formats import SHARD_FORMATS
from transforms.list import DescribeImages, ListImages
from transforms.models.spec import ModelSpec
from transforms.read import ReadImages
from transforms.records import FAILURES, SECONDS, Known, uri
from transforms.skip import GONE, SKIPPED
from transforms.storage import files
from transforms.write_bigquery import RunColumns, WriteBigQuery
from transforms.write_tfrecord import WriteTFRecords


def build(
    root: beam.Pipeline,
    config: EmbedConfig,
    model: ModelSpec,
    publication: Publication | None,
    *,
    share_model_across_processes: bool,
    accelerator: str | None = None,
) -> None:
    """Puts the whole job onto a pipeline.

    Args:
      root: the pipeline; config: what was asked; model: what to embed with.
      publication: where a table is written.
      share_model_across_processes: see EmbedImages.
      accelerator: a resource hint for the workers of inference; reading and decoding get it too, unless they are to run
        elsewhere, so that they stay in one stage with it.
    """
    in_shards = config.input_format in SHARD_FORMATS
    read = ReadImages(config.input_format, config.read_concurrency, config.billing_project)

    listed = _list(root, config)
    # Nothing is known of what a shard holds before it is read: shards are read whole, each time.
    new = None if in_shards else listed["refs"] | "OnlyNew" >> _only_new(config, model, read)
    to_read = ReadImages(config.input_format, config.read_concurrency, config.billing_project)
    decode = DecodeImages(model.image_size, config.resize_mode, config.max_pixels)
    own_stage = config.runs_on.separate_gpu_stage
    if accelerator and not own_stage:
        to_read, decode = (stage.with_resource_hints(accelerator=accelerator) for stage in (to_read, decode))
    encoded = (new or listed)["refs"] | "ReadImages" >> to_read
    decoded = encoded["images"] | "DecodeImages" >> decode
    embedded = decoded["images"] | "EmbedImages" >> EmbedImages(
        model, config.batch_size, share_model_across_processes, accelerator, bool(accelerator) and own_stage
    )
    path = [listed, encoded, decoded, embedded]

    embeddings = embedded["embeddings"]
    if accelerator and own_stage:
        embeddings |= "FromAccelerator" >> beam.Reshuffle()  # what writes them needs none
    vectors = {"embedded": embeddings}
    # What a shard holds is listed by being found in it, and so is what keeps a shard from being read.
    counted = [
        ("listed", found) for found in ([encoded["images"], encoded[FAILURES]] if in_shards else [listed["refs"]])
    ]
    failed = [stage[FAILURES] for stage in path]
    seconds = [stage[SECONDS] for stage in path]
    if new:
        firsts = failed[1:] | "FailuresOfFirsts" >> beam.Flatten()
        copied = {
            "embeddings": embeddings,
            FAILURES: firsts,
            COPIES: new[COPIES],
        } | "CopyVectors" >> CopyVectors()
        vectors |= {"reused": new[REUSED], "duplicate": copied["embeddings"]}
        counted.append(("skipped", new[SKIPPED]))
        failed += [new[FAILURES], copied[FAILURES]]
        seconds.append(new[SECONDS])
    failures = tuple(failed) | "Failures" >> GatherFailures()
    counted += [("listed", listed[FAILURES]), *vectors.items(), ("failed", failures)]

    written = []
    if config.output:
        records = tuple(vectors.values()) | "WriteTFRecords" >> WriteTFRecords(
            config.output, config.run_id, config.written(model)
        )
        lines = failures | "WriteFailures" >> WriteFailures(config.output, config.run_id)
        written = [("records", records["shards"]), ("lines", lines["shards"])]
        seconds += [records[SECONDS], lines[SECONDS]]
    loads = []
    if publication:
        rows = {"embeddings": tuple(vectors.values()), "failures": (failures,)}
        if config.prune and new:
            gone = new[GONE] | "WithinInput" >> beam.Filter(_within, config.inputs)
            counted.append(("pruned", gone))
            rows["gone"] = (gone,)
        run = RunColumns(config.run_id, config.started_at, config.written(model))
        loads = [
            collections
            | f"Load{kind.capitalize()}"
            >> WriteBigQuery(kind, getattr(publication.staging, kind), publication.temp_location, run)
            for kind, collections in rows.items()
        ]

    report = root | "ComposeReport" >> ComposeReport(
        config, model, counted=counted, failures=failures, written=written, seconds=seconds
    )
    if publication:
        report |= "Publish" >> PublishRows(publication, loads)
    _ = report | "WriteReport" >> WriteReport(config, model)


def _list(root: beam.Pipeline, config: EmbedConfig) -> dict[str, beam.PCollection]:
    if not config.retry_failed:
        return root | "ListImages" >> ListImages(
            config.inputs, config.input_format, config.billing_project, config.read_concurrency
        )
    retryable = root | "ReadRetryable" >> ReadRetryable(
        config.output_table, config.output, config.inputs, config.run_id
    )
    # What was not there and is not there now is given up, or it would be tried for ever.
    describe = DescribeImages(config.billing_project, config.read_concurrency, may_still_come=False)
    return retryable | "ListImages" >> describe


def _only_new(config: EmbedConfig, model: ModelSpec, read: ReadImages) -> OnlyNew:
    from_cloud_storage = all(pattern.startswith("gs://") for pattern in config.inputs)
    ledger = ReadLedger(config.output_table, config.output, model.digest, config.run_id)
    return OnlyNew(
        None if config.reprocess and not config.prune else ledger,
        FetchVectors(config.output_table, model.digest),
        read,
        by_crc32c=from_cloud_storage and config.input_format == "images" and not config.retry_failed,
        reprocess=config.reprocess,
    )


def _within(known: Known, patterns: tuple[str, ...]) -> bool:
    return any(files.takes_in(pattern, uri(known.key)) for pattern in patterns)
