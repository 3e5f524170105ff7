"""The order of the stages. No other file knows it.

list → only new → read → decode → embed → copy → write → compose report → publish → name files → write page and report
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import apache_beam as beam

from pipeline import warehouse
from pipeline.attempts import attempt as attempts
from pipeline.attempts.attempt import RESUMED, Attempt
from pipeline.attempts.name_files import NameFiles
from pipeline.attempts.resume import ReadUnfinished, ResumeShards
from pipeline.flags.options import EmbedConfig
from pipeline.known.fetch_vectors import FetchVectors
from pipeline.known.ledger import ReadLedger, ReadRetryable
from pipeline.known.only_new import NewOutput, OnlyNew
from pipeline.known.prune import Prune, Pruned
from pipeline.report.recall import SampleVectors
from pipeline.report.write_report import ComposeReport, WriteReport
from transforms import failures as failure_files
from transforms import write_tfrecord
from transforms.copies import CopyVectors
from transforms.decode import DecodeImages
from transforms.decode_in_processes import DecodeInProcesses
from transforms.elements.formats import SHARD_FORMATS
from transforms.elements.records import DecodedBlock, Embedding, EncodedBlock, Failure, ImageRef, Known
from transforms.elements.stage import StageOutput, WriteOutput
from transforms.embed import EmbedImages
from transforms.encoding.parquet import ParquetFormat
from transforms.failures import GatherFailures
from transforms.list import DescribeImages, ListImages
from transforms.models.spec import ModelSpec
from transforms.output import write_vectors
from transforms.output.parts import Format
from transforms.output.shards import WriteParts
from transforms.read import DigestImages, ListMembers, ReadImages
from transforms.storage import locations
from transforms.write_bigquery import RunColumns, WriteBigQuery

if TYPE_CHECKING:
    from pipeline.warehouse.publish import Publication

Named = list[tuple[str, beam.PCollection]]


def build(
    root: beam.Pipeline,
    config: EmbedConfig,
    model: ModelSpec,
    publication: "Publication | None",
    *,
    share_model_across_processes: bool,
    accelerator: str | None = None,
    attempt: Attempt | None = None,
    has_ledger: bool = True,
    in_packs: bool = False,
) -> None:
    """Builds the whole job on a pipeline.

    Args:
      root: the pipeline.
      config: the configuration of the run.
      model: the model to embed with.
      publication: the tables to publish to; None without --output_table.
      share_model_across_processes: see EmbedImages.
      accelerator: a resource hint for the workers of inference. Reading and decoding get it too, which keeps them in
        one stage with inference, unless `--separate_gpu_stage` separates them.
      attempt: the attempt at the run; by default one that takes over nothing.
      has_ledger: whether earlier runs may have embedded some of the images. Without them there is nothing to join.
      in_packs: whether the runner holds in memory what crosses between stages, see packs.
    """
    if attempt is None:
        attempt = attempts.of(config, publication.temp_location if publication else None)
    # A table holds what the model gave. So vectors that were stored in float16 do not do for it.
    needed = "float32" if config.output_table else config.vector_type
    unfinished = ReadUnfinished(attempt, model.digest, needed) if attempt.continues else None
    listed = _list(root, config, in_packs)
    new, of_shards = None, None
    # A run knows nothing about the images in a shard before it reads the shard, so it reads every shard each time.
    if config.input_format not in SHARD_FORMATS:
        new = listed.main | "OnlyNew" >> _only_new(config, model, unfinished, has_ledger, in_packs)
    elif unfinished:
        members = ListMembers(config.input_format, config.billing_project, config.include_hidden)
        of_shards = listed.main | "ResumeShards" >> ResumeShards(unfinished, members, in_packs)

    refs = new.to_embed if new else listed.main
    read = _read(config, of_shards.done if of_shards else None)
    encoded, decoded = _decode(refs, read, config, model, accelerator, attempt)
    embedded = _embed(decoded.main, config, model, share_model_across_processes, accelerator)
    to_vectors = [stage for stage in (encoded, decoded, embedded) if stage]
    stages: list[StageOutput | NewOutput] = [listed, *to_vectors]
    vectors: Named = [("embedded", embedded.main)]
    if new:
        copied = _copy(new, to_vectors, embedded)
        stages += [new, copied]
        vectors += [("reused", new.reused), ("duplicate", copied.main)]
        if new.resumed_copies:
            vectors.append(("duplicate", new.resumed_copies.embeddings))
    resumed = new.resumed if new else of_shards.resumed if of_shards else None
    if resumed:
        vectors.append((RESUMED, resumed.embeddings))
    gather_failures = GatherFailures(are_files=config.input_format not in SHARD_FORMATS)
    failures = tuple(stage.failures for stage in stages) | "Failures" >> gather_failures
    pruned = _prune(listed, new, config) if new and config.prune else None

    written = _write_parts(vectors, failures, config, model, attempt)
    report = root | "ComposeReport" >> ComposeReport(
        config,
        model,
        counted=_accounts(listed, new, encoded, vectors, failures, pruned),
        failures=failures,
        written=[(name, output.shards) for name, output in written.items()] if config.output else [],
        seconds=[output.seconds for output in (*stages, *written.values())],
        origins=resumed.origins if resumed else None,
        has_many_processes=share_model_across_processes,
        hidden=pruned.hidden if pruned else None,
        sample=embedded.main | "SampleVectors" >> SampleVectors() if config.vector_type == "float16" else None,
        left_out=[stage.left_out for stage in (listed, encoded) if stage and stage.left_out],
        attempt=attempt.number,
    )
    if publication:
        loads = _load_rows(vectors, failures, pruned.gone if pruned else None, config, model, publication)
        report |= "Publish" >> warehouse.publish.PublishRows(publication, loads, attempt.check_claim)
    if config.output:
        of_vectors = [written[output_format].shards for output_format in config.output_formats]
        parts = of_vectors | "PartsOfVectors" >> beam.Flatten(), written["lines"].shards
        report |= "NameFiles" >> NameFiles(attempt, model.fields(config.top_classes), *parts, config.record_type)
        if config.writes_page:
            report |= "WritePage" >> _write_page(root, config, attempt, vectors, decoded, failures, accelerator)
    _ = report | "WriteReport" >> WriteReport(config, attempt)


def _list(root: beam.Pipeline, config: EmbedConfig, in_packs: bool) -> StageOutput[ImageRef]:
    if not config.retry_failed:
        return root | "ListImages" >> ListImages(
            config.inputs,
            config.input_format,
            config.billing_project,
            config.read_concurrency,
            in_packs,
            config.include_hidden,
            config.uri_column,
        )
    retryable = root | "ReadRetryable" >> ReadRetryable(
        config.output_table, config.output, config.inputs, config.run_id
    )
    # If an image is still missing, its failure becomes final. Otherwise every retry would try it again.
    describe = DescribeImages(config.billing_project, config.read_concurrency, may_still_come=False)
    described = retryable.main | "ListImages" >> describe
    broken = (described.failures, retryable.failures) | "ListingFailures" >> beam.Flatten()
    return described._replace(failures=broken)


def _only_new(
    config: EmbedConfig, model: ModelSpec, unfinished: ReadUnfinished | None, has_ledger: bool, in_packs: bool
) -> OnlyNew:
    from_cloud_storage = all(locations.is_gcs(pattern) for pattern in config.inputs)
    ledger = ReadLedger(config.output_table, config.output, model.digest, config.run_id, config.vector_type)
    return OnlyNew(
        ledger if has_ledger and config.reads_ledger else None,
        unfinished,
        FetchVectors(config.output_table, model.digest),
        DigestImages(config.read_concurrency, config.billing_project),
        by_crc32c=from_cloud_storage and config.input_format == "images" and not config.retry_failed,
        reprocess=config.reprocess,
        in_packs=in_packs,
    )


def _prune(listed: StageOutput[ImageRef], new: NewOutput, config: EmbedConfig) -> Pruned | None:
    if not new.known or not new.unlisted:
        return None
    inputs = {"known": new.known, "unlisted": new.unlisted, "failures": listed.failures}
    return inputs | "Prune" >> Prune(config.inputs, config.include_hidden)


def _read(config: EmbedConfig, done: beam.PCollection[tuple[bytes, int]] | None = None) -> ReadImages:
    """Returns a new transform each time, because a resource hint stays with the transform that it is set on."""
    return ReadImages(config.input_format, config.read_concurrency, config.billing_project, done, config.include_hidden)


def _decode(
    refs: beam.PCollection[ImageRef],
    read: ReadImages,
    config: EmbedConfig,
    model: ModelSpec,
    accelerator: str | None,
    attempt: Attempt,
) -> tuple[StageOutput[EncodedBlock] | None, StageOutput[DecodedBlock]]:
    """Returns the outputs of reading and of decoding. Decoder processes read files too, so these have no reading."""
    decode: beam.PTransform
    if config.decode_processes:
        decode = DecodeInProcesses(
            model.image_size,
            model.preprocessing.resizing,
            config.max_pixels,
            attempt.quarantine,
            config.batch_size,
            config.decode_processes,
            config.decode_timeout,
            config.read_concurrency,
            config.billing_project,
        )
    else:
        decode = DecodeImages(
            model.image_size,
            model.preprocessing.resizing,
            config.max_pixels,
            attempt.journals,
            attempt.quarantine,
            config.batch_size,
        )
    if accelerator and not config.runs_on.separate_gpu_stage:
        read, decode = (stage.with_resource_hints(accelerator=accelerator) for stage in (read, decode))
    if config.decode_processes and config.input_format not in SHARD_FORMATS:
        return None, refs | "DecodeImages" >> decode
    encoded = refs | "ReadImages" >> read
    return encoded, encoded.main | "DecodeImages" >> decode


def _embed(
    blocks: beam.PCollection[DecodedBlock],
    config: EmbedConfig,
    model: ModelSpec,
    share_model_across_processes: bool,
    accelerator: str | None,
) -> StageOutput[Embedding]:
    own_stage = bool(accelerator) and config.runs_on.separate_gpu_stage
    embedded = blocks | "EmbedImages" >> EmbedImages(
        model, config.batch_size, share_model_across_processes, accelerator, own_stage, config.vector_type
    )
    if own_stage:  # so that workers without a GPU write the vectors
        embedded = embedded._replace(main=embedded.main | "FromAccelerator" >> beam.Reshuffle())
    return embedded


def _copy(
    new: NewOutput, to_vectors: Sequence[StageOutput], embedded: StageOutput[Embedding]
) -> StageOutput[Embedding]:
    """Gives each copy the vector, or the failure, of the image that was embedded in its place."""
    of_firsts = tuple(stage.failures for stage in to_vectors) | "FailuresOfFirsts" >> beam.Flatten()
    inputs = {"embeddings": embedded.main, "failures": of_firsts, "copies": new.copies}
    return inputs | "CopyVectors" >> CopyVectors()


def _accounts(
    listed: StageOutput[ImageRef],
    new: NewOutput | None,
    encoded: StageOutput[EncodedBlock] | None,
    vectors: Named,
    failures: beam.PCollection[Failure],
    pruned: Pruned | None,
) -> Named:
    """Returns the collections that the report counts, by their names in it. A name may occur several times."""
    # Reading a shard lists its images. A shard that cannot be read counts as listed too, by its failure.
    resumed = [collection for name, collection in vectors if name == RESUMED]
    of_shards = [encoded.main, encoded.failures] if encoded else []
    images = [listed.main] if new else [*of_shards, *resumed]
    counted: Named = [("listed", collection) for collection in (*images, listed.failures)]
    # Resumed vectors count under the outcome that they had in their first attempt.
    counted += [*((name, collection) for name, collection in vectors if name != RESUMED), ("failed", failures)]
    if new and new.skipped:
        counted.append(("skipped", new.skipped))
    if pruned:
        counted += [("pruned", pruned.gone), ("untold", pruned.untold), ("prunable", pruned.rows)]
    return counted


def _write_parts(
    vectors: Named, failures: beam.PCollection[Failure], config: EmbedConfig, model: ModelSpec, attempt: Attempt
) -> dict[str, WriteOutput]:
    """Writes vectors and failures. Without --output, the vectors serve only to go on if this attempt is interrupted.

    Returns:
      The outputs by `lines` for failures, and for vectors by their format.
    """
    collections = tuple(collection for _, collection in vectors)
    labels, seconds = attempt.labels(tuple(name for name, _ in vectors)), config.checkpoint_seconds
    fields = model.fields(config.top_classes)

    def write(file_format: Format) -> WriteParts:
        run = attempt.place, config.run_id
        return write_vectors.write_parts(*run, file_format, labels, seconds, attempt.check_claim)

    written = {}
    if "tfrecord" in config.output_formats:
        tfrecords = write_tfrecord.file_format(fields, config.vector_type)
        written["tfrecord"] = collections | "WriteTFRecords" >> write(tfrecords)
    if "parquet" in config.output_formats:
        written["parquet"] = collections | "WriteParquet" >> write(ParquetFormat(fields, config.vector_type))
    if config.output:
        of_failures = attempt.labels(("failed",))
        run = config.output, config.run_id
        write_failures = failure_files.write_parts(*run, of_failures, seconds, attempt.check_claim)
        written["lines"] = (failures,) | "WriteFailures" >> write_failures
    return written


def _write_page(
    root: beam.Pipeline,
    config: EmbedConfig,
    attempt: Attempt,
    vectors: Named,
    decoded: StageOutput[DecodedBlock],
    failures: beam.PCollection[Failure],
    accelerator: str | None,
) -> beam.PTransform:
    """Returns the step that writes the page. Its modules are imported only if there is one."""
    from pipeline.report.sampling import CollectSample
    from pipeline.report.write_page import WritePage

    hint = None if config.runs_on.separate_gpu_stage else accelerator
    of_vectors = [collection for _, collection in vectors]
    collected = root | "CollectSample" >> CollectSample(of_vectors, decoded.main, failures, hint)
    return WritePage(config, collected, attempt.check_claim)


def _load_rows(
    vectors: Named,
    failures: beam.PCollection[Failure],
    gone: beam.PCollection[Known] | None,
    config: EmbedConfig,
    model: ModelSpec,
    publication: "Publication",
) -> list[beam.PCollection]:
    """Returns a collection for each load; its elements are the load jobs that have ended."""
    staging, temp_location = publication.staging, publication.loads
    run = RunColumns(config.run_id, publication.began_at or config.started_at, model.fields(config.top_classes))
    embeddings = tuple(collection for _, collection in vectors)
    loads = [
        embeddings | "LoadEmbeddings" >> WriteBigQuery("embeddings", staging.embeddings, temp_location, run),
        (failures,) | "LoadFailures" >> WriteBigQuery("failures", staging.failures, temp_location, run),
    ]
    if gone:
        loads.append((gone,) | "LoadGone" >> WriteBigQuery("gone", staging.gone, temp_location, run))
    return loads
