"""The order of the stages. No other file knows it.

find images:  list → only new → prune
embed:        read → decode → embed → copy
write:        write parts → compose report → publish → name files → write page → write report
"""

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import apache_beam as beam

from pipeline import warehouse
from pipeline.attempts.attempt import RESUMED, Attempt
from pipeline.attempts.name_files import NameFiles
from pipeline.attempts.resume import ReadUnfinished, Resumed, ResumeShards
from pipeline.flags.options import EmbedConfig
from pipeline.known.fetch_vectors import FetchVectors
from pipeline.known.ledger import ReadLedger, ReadRetryable
from pipeline.known.only_new import NewOutput, OnlyNew
from pipeline.known.prune import Prune, Pruned
from pipeline.report.recall import SampleVectors
from pipeline.report.write_report import ComposeReport, WriteReport
from pipeline.runners.traits import RunnerTraits
from transforms import failures as failure_files
from transforms import write_tfrecord
from transforms.copies import CopyVectors
from transforms.decode import DecodeImages
from transforms.decode_in_processes import DecodeInProcesses
from transforms.elements.formats import SHARD_FORMATS
from transforms.elements.records import DecodedBlock, Embedding, EncodedBlock, Failure, ImageRef
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


@dataclasses.dataclass(frozen=True)
class Job:
    """What to embed, and where the vectors go.

    Attributes:
      config: the configuration of the run.
      model: the model to embed with.
      attempt: the attempt at the run.
      publication: the tables to publish to; None without --output_table.
      has_ledger: whether earlier runs may have embedded some of the images. Without them there is nothing to join.
    """

    config: EmbedConfig
    model: ModelSpec
    attempt: Attempt
    publication: "Publication | None" = None
    has_ledger: bool = True

    @property
    def reads_shards(self) -> bool:
        """Whether a run knows nothing about its images before it reads them, so that it reads every shard each time."""
        return self.config.input_format in SHARD_FORMATS


class _Images(NamedTuple):
    """The images of a run, by the source of their vectors.

    Attributes:
      listed: all images, or the shards that hold them.
      to_embed: those of them to read, decode and embed.
      new: what earlier runs and attempts know of the images; None for shards.
      resumed: vectors of unfinished attempts; None if there is no such attempt.
      done: images in shards that have such a vector; None likewise.
      pruned: rows of images that are gone; None without --prune.
    """

    listed: StageOutput[ImageRef]
    to_embed: beam.PCollection[ImageRef]
    new: NewOutput | None = None
    resumed: Resumed | None = None
    done: beam.PCollection[tuple[bytes, int]] | None = None
    pruned: Pruned | None = None


class _Results(NamedTuple):
    """What becomes of the images.

    Attributes:
      encoded, decoded, embedded: the outputs of these stages. Decoder processes read files too, and give no `encoded`.
      vectors: all vectors, by their outcome. An outcome may occur several times.
      failures: all failures.
      seconds: the times of all stages up to here.
    """

    encoded: StageOutput[EncodedBlock] | None
    decoded: StageOutput[DecodedBlock]
    embedded: StageOutput[Embedding]
    vectors: Named
    failures: beam.PCollection[Failure]
    seconds: list[beam.PCollection]


def build(root: beam.Pipeline, job: Job, runner: RunnerTraits) -> None:
    """Builds the whole job on a pipeline."""
    images = _find_images(root, job, runner)
    results = _embed(images, job, runner)
    _write(root, images, results, job, runner)


def _find_images(root: beam.Pipeline, job: Job, runner: RunnerTraits) -> _Images:
    """Lists the images, and separates those that get their vector from an earlier run, an attempt or another image."""
    config = job.config
    listed = _list(root, job, runner)
    # A table holds what the model gave, so vectors that were stored in float16 are embedded again for it.
    needed = "float32" if config.output_table else config.vector_type
    unfinished = ReadUnfinished(job.attempt, job.model.digest, needed) if job.attempt.continues else None
    if not job.reads_shards:
        new = listed.main | "OnlyNew" >> _only_new(job, unfinished, runner)
        return _Images(listed, new.to_embed, new, new.resumed, pruned=_prune(listed, new, config))
    if not unfinished:
        return _Images(listed, listed.main)
    members = ListMembers(config.input_format, config.storage, config.include_hidden)
    of_shards = listed.main | "ResumeShards" >> ResumeShards(unfinished, members, runner.in_packs)
    return _Images(listed, listed.main, resumed=of_shards.resumed, done=of_shards.done)


def _list(root: beam.Pipeline, job: Job, runner: RunnerTraits) -> StageOutput[ImageRef]:
    config = job.config
    # The version of a URL costs a request, and tells nothing where no record has one to compare.
    describe_urls = (job.has_ledger and config.reads_ledger) or job.attempt.continues
    if not config.retry_failed:
        return root | "ListImages" >> ListImages(
            config.inputs,
            config.input_format,
            config.storage,
            config.read_concurrency,
            runner.in_packs,
            config.include_hidden,
            config.uri_column,
            describe_urls,
        )
    retryable = root | "ReadRetryable" >> ReadRetryable(
        config.output_table, config.output, config.inputs, config.run_id
    )
    # If an image is still missing, its failure becomes final. Otherwise every retry would try it again.
    describe = DescribeImages(
        config.storage, config.read_concurrency, may_still_come=False, describe_urls=describe_urls
    )
    described = retryable.main | "ListImages" >> describe
    broken = (described.failures, retryable.failures) | "ListingFailures" >> beam.Flatten()
    return described._replace(failures=broken)


def _only_new(job: Job, unfinished: ReadUnfinished | None, runner: RunnerTraits) -> OnlyNew:
    config, digest = job.config, job.model.digest
    from_cloud_storage = all(locations.is_gcs(pattern) for pattern in config.inputs)
    ledger = ReadLedger(config.output_table, config.output, digest, config.run_id, config.vector_type)
    return OnlyNew(
        ledger if job.has_ledger and config.reads_ledger else None,
        unfinished,
        FetchVectors(config.output_table, digest),
        DigestImages(config.read_concurrency, config.storage),
        by_crc32c=from_cloud_storage and config.input_format == "images" and not config.retry_failed,
        reprocess=config.reprocess,
        in_packs=runner.in_packs,
    )


def _prune(listed: StageOutput[ImageRef], new: NewOutput, config: EmbedConfig) -> Pruned | None:
    if not config.prune or not new.known or not new.unlisted:
        return None
    inputs = {"known": new.known, "unlisted": new.unlisted, "failures": listed.failures}
    return inputs | "Prune" >> Prune(config.inputs, config.include_hidden)


def _embed(images: _Images, job: Job, runner: RunnerTraits) -> _Results:
    """Reads, decodes and embeds images, and gives each copy the vector of the image that was embedded in its place."""
    encoded, decoded = _decode(images, job, runner)
    embedded = _infer(decoded.main, job, runner)
    to_vectors = [stage for stage in (encoded, decoded, embedded) if stage]
    stages: list[StageOutput | NewOutput] = [images.listed, *to_vectors]
    vectors: Named = [("embedded", embedded.main)]
    if new := images.new:
        of_firsts = tuple(stage.failures for stage in to_vectors) | "FailuresOfFirsts" >> beam.Flatten()
        inputs = {"embeddings": embedded.main, "failures": of_firsts, "copies": new.copies}
        copied = inputs | "CopyVectors" >> CopyVectors()
        stages += [new, copied]
        vectors += [("reused", new.reused), ("duplicate", copied.main)]
        if new.resumed_copies:
            vectors.append(("duplicate", new.resumed_copies.embeddings))
    if images.resumed:
        vectors.append((RESUMED, images.resumed.embeddings))
    gather = GatherFailures(are_files=not job.reads_shards)
    failures = tuple(stage.failures for stage in stages) | "Failures" >> gather
    return _Results(encoded, decoded, embedded, vectors, failures, [stage.seconds for stage in stages])


def _decode(
    images: _Images, job: Job, runner: RunnerTraits
) -> tuple[StageOutput[EncodedBlock] | None, StageOutput[DecodedBlock]]:
    config, attempt = job.config, job.attempt
    read: beam.PTransform = ReadImages(
        config.input_format, config.read_concurrency, config.storage, config.include_hidden
    )
    decode: beam.PTransform
    of_images: dict[str, Any] = {
        "size": job.model.image_size,
        "resizing": job.model.preprocessing.resizing,
        "max_pixels": config.max_pixels,
        "quarantine": attempt.quarantine,
        "batch_size": config.batch_size,
    }
    if config.decode_processes:
        decode = DecodeInProcesses(
            **of_images,
            processes=config.decode_processes,
            timeout=config.decode_timeout,
            read_concurrency=config.read_concurrency,
            storage=config.storage,
        )
    else:
        decode = DecodeImages(**of_images, journals=attempt.journals)
    # The hint for the workers of inference keeps reading and decoding in the same stage.
    if runner.accelerator and not config.runs_on.separate_gpu_stage:
        read, decode = (stage.with_resource_hints(accelerator=runner.accelerator) for stage in (read, decode))
    if config.decode_processes and not job.reads_shards:
        return None, images.to_embed | "DecodeImages" >> decode
    refs = images.to_embed if images.done is None else {"refs": images.to_embed, "done": images.done}
    encoded = refs | "ReadImages" >> read
    return encoded, encoded.main | "DecodeImages" >> decode


def _infer(blocks: beam.PCollection[DecodedBlock], job: Job, runner: RunnerTraits) -> StageOutput[Embedding]:
    config = job.config
    own_stage = bool(runner.accelerator) and config.runs_on.separate_gpu_stage
    embedded = blocks | "EmbedImages" >> EmbedImages(
        job.model, config.batch_size, runner.shares_model, runner.accelerator, own_stage, config.vector_type
    )
    if own_stage:  # so that workers without a GPU write the vectors
        embedded = embedded._replace(main=embedded.main | "FromAccelerator" >> beam.Reshuffle())
    return embedded


def _write(root: beam.Pipeline, images: _Images, results: _Results, job: Job, runner: RunnerTraits) -> None:
    """Writes vectors and failures, and then, one after the other, publishes rows, names files and writes the report."""
    config, attempt, pruned = job.config, job.attempt, images.pruned
    written = _write_parts(results, job)
    listed_by = [stage for stage in (images.listed, results.encoded) if stage]
    report = root | "ComposeReport" >> ComposeReport(
        config,
        job.model,
        counted=_accounts(images, results),
        failures=results.failures,
        written=[(name, output.shards) for name, output in written.items()] if config.output else [],
        seconds=[*results.seconds, *(output.seconds for output in written.values())],
        origins=images.resumed.origins if images.resumed else None,
        has_many_processes=runner.shares_model,
        hidden=pruned.hidden if pruned else None,
        sample=results.embedded.main | "SampleVectors" >> SampleVectors() if config.vector_type == "float16" else None,
        left_out=[stage.left_out for stage in listed_by if stage.left_out],
        attempt=attempt.number,
    )
    if job.publication:
        loads = _load_rows(results, pruned, job, job.publication)
        report |= "Publish" >> warehouse.publish.PublishRows(job.publication, loads, attempt.check_claim)
    if config.output:
        of_vectors = [written[output_format].shards for output_format in config.output_formats]
        parts = of_vectors | "PartsOfVectors" >> beam.Flatten(), written["lines"].shards
        fields = job.model.fields(config.top_classes)
        report |= "NameFiles" >> NameFiles(attempt, fields, *parts, config.record_type)
        if config.writes_page:
            report |= "WritePage" >> _write_page(root, results, job, runner)
    _ = report | "WriteReport" >> WriteReport(config, attempt)


def _write_parts(results: _Results, job: Job) -> dict[str, WriteOutput]:
    """Writes vectors and failures. Without --output, the vectors serve only to continue an interrupted run.

    Returns:
      The outputs by `lines` for failures, and for vectors by their format.
    """
    config, attempt, fields = job.config, job.attempt, job.model.fields(job.config.top_classes)
    collections = tuple(collection for _, collection in results.vectors)
    labels, seconds = attempt.labels(tuple(name for name, _ in results.vectors)), config.checkpoint_seconds

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
        written["lines"] = (results.failures,) | "WriteFailures" >> write_failures
    return written


def _accounts(images: _Images, results: _Results) -> Named:
    """Returns the collections that the report counts, by their names in it. A name may occur several times."""
    # Resumed vectors count under the outcome that they had in their first attempt.
    vectors = [(name, collection) for name, collection in results.vectors if name != RESUMED]
    listed: list[beam.PCollection] = [images.listed.main] if images.new else []
    if not images.new and results.encoded:
        # Reading a shard lists its images. A shard that cannot be read counts as listed too, by its failure.
        listed += [results.encoded.main, results.encoded.failures]
        listed += [images.resumed.embeddings] if images.resumed else []
    counted: Named = [("listed", collection) for collection in (*listed, images.listed.failures)]
    counted += [*vectors, ("failed", results.failures)]
    if images.new and images.new.skipped:
        counted.append(("skipped", images.new.skipped))
    if pruned := images.pruned:
        counted += [("pruned", pruned.gone), ("untold", pruned.untold), ("prunable", pruned.rows)]
    return counted


def _write_page(root: beam.Pipeline, results: _Results, job: Job, runner: RunnerTraits) -> beam.PTransform:
    """Returns the step that writes the page. Its modules are imported only if there is one."""
    from pipeline.report.sampling import CollectSample
    from pipeline.report.write_page import WritePage

    hint = None if job.config.runs_on.separate_gpu_stage else runner.accelerator
    of_vectors = [collection for _, collection in results.vectors]
    collect = CollectSample(of_vectors, results.decoded.main, results.failures, hint)
    return WritePage(job.config, root | "CollectSample" >> collect, job.attempt.check_claim)


def _load_rows(
    results: _Results, pruned: Pruned | None, job: Job, publication: "Publication"
) -> list[beam.PCollection]:
    """Returns a collection for each load; its elements are the load jobs that have ended."""
    staging, temp_location, config = publication.staging, publication.loads, job.config
    began_at = publication.began_at or config.started_at
    run = RunColumns(config.run_id, began_at, job.model.fields(config.top_classes))
    embeddings = tuple(collection for _, collection in results.vectors)
    loads = [
        embeddings | "LoadEmbeddings" >> WriteBigQuery("embeddings", staging.embeddings, temp_location, run),
        (results.failures,) | "LoadFailures" >> WriteBigQuery("failures", staging.failures, temp_location, run),
    ]
    if pruned:
        loads.append((pruned.gone,) | "LoadGone" >> WriteBigQuery("gone", staging.gone, temp_location, run))
    return loads
