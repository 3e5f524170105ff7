"""A dry run: the job that Dataflow would get, shown and not submitted. No network, no credentials, nothing written."""

import contextlib
import os
import sys
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, WorkerOptions

from pipeline import graph
from pipeline.attempts import attempt as attempts
from pipeline.commands.quote import bill, bucket, dataflow_job
from pipeline.commands.quote import speed as speeds
from pipeline.commands.quote.answer import Answer, Quote
from pipeline.commands.quote.bill import Workers
from pipeline.commands.quote.dataflow_job import Job
from pipeline.flags.options import SAMPLES, DryRun, EmbedConfig
from pipeline.model_checks import precision
from pipeline.runners import job_checks, presets, traits
from pipeline.warehouse.publish import Publication
from pipeline.warehouse.tables import Staging
from transforms.models import catalog
from transforms.models.spec import ModelSpec
from transforms.storage import stores

_IMAGES = 1_000_000


def run(config: EmbedConfig, options: PipelineOptions, dry: DryRun) -> str:
    """Returns the text or JSON to print.

    Raises:
      ValueError: if the job cannot work.
    """
    if not traits.is_dataflow(options):
        raise ValueError(
            "--dry_run, or the verb quote, shows a job for Dataflow: give --preset dataflow or --preset dataflow-gpu"
        )
    model = _model(config)
    job_checks.check_location(options, model)
    job_checks.check(options, config)
    plain, gpu = _workers(config, options)
    quote = _quote(config, options, dry, model, plain, gpu)
    with _stdout_to_stderr():
        job = job_request(config, options, model)
    answer = Answer(options, job, dataflow_job.fused_stages(job.pipeline), model, plain, gpu, quote)
    return answer.as_json() if dry.shown_as == "json" else answer.as_text()


def job_request(config: EmbedConfig, options: PipelineOptions, model: ModelSpec) -> Job:
    """Returns the job as Dataflow would get it."""
    publication = _publication(config, options)
    attempt = attempts.of(config, publication.temp_location if publication else None)
    of_graph = graph.Job(config, model, attempt, publication)

    def build(pipeline: beam.Pipeline) -> None:
        graph.build(pipeline, of_graph, traits.of(options, config.runs_on))

    return dataflow_job.compose(options, build)


def _quote(
    config: EmbedConfig,
    options: PipelineOptions,
    dry: DryRun,
    model: ModelSpec,
    plain: Workers,
    gpu: Workers | None,
) -> Quote:
    prices = bill.read_prices(dry.prices)
    speed = speeds.measure(
        model,
        batch_size=config.batch_size,
        sample=dry.sample or SAMPLES,
        images_per_second=dry.images_per_second,
        has_gpu=gpu is not None,
    )
    height, width = model.image_size
    # Three bytes per pixel out, four per component of the vector back. The dimension of a model in a bucket is unknown.
    shuffled_bytes = height * width * 3 + model.dimension * 4
    images = dry.images or _IMAGES
    on_gpu = bill.SEPARATE if config.runs_on.separate_gpu_stage else bill.FUSED
    chosen = on_gpu if gpu else bill.PLAIN
    bills = bill.bills(images, speed, prices, plain, gpu, shuffled_bytes)
    (of_job,) = (each for each in bills if each.name == chosen)
    image_bytes = dry.image_bytes or speed.sample_bytes
    # The slowest of several kinds of workers sets the pace.
    hours = max(item.amount for item in of_job.items if item.unit == "h")
    of_bucket = bucket.of(
        config.inputs,
        config.input_format,
        images=images,
        image_bytes=image_bytes,
        seconds=max(hours, 0.001) * 3600,
        workers=options.view_as(WorkerOptions).max_num_workers,
        region=options.view_as(GoogleCloudOptions).region or "",
        location=dry.bucket_location,
        prices=prices.buckets,
    )
    return Quote(images, image_bytes, speed, prices, bills, chosen, of_bucket)


def _model(config: EmbedConfig) -> ModelSpec:
    return precision.unmeasured(config, _in_float32(config))


def _in_float32(config: EmbedConfig) -> ModelSpec:
    """Returns the model. If it is not on this machine, its description comes from the command line alone."""
    if config.model in catalog.BUNDLED:
        return precision.in_float32(config)
    size = config.preprocessing.image_size
    if stores.is_bucket(config.model) and not size:
        raise ValueError(
            f"--model {config.model!r} is in a bucket, which a dry run does not read: give --image_size HxW too"
        )
    tags = config.model_tags or ()
    signature, output = config.model_signature or "", config.model_output or ""
    return ModelSpec(
        name=config.model,
        format="tf2",
        location=config.model,
        signature=signature,
        tags=tags,
        dimension=0,
        image_size=size or (1, 1),
        digest="",
        output=output,
        preprocessing=config.preprocessing.preprocessing(),
        normalize=config.normalize,
    )


def _publication(config: EmbedConfig, options: PipelineOptions) -> Publication | None:
    if not config.output_table:
        return None
    temp_location = f"{traits.temp_location(options, config)}/dry_run"
    return Publication(config.output_table, Staging.of(config.output_table), temp_location, config.make_latest)


def _workers(config: EmbedConfig, options: PipelineOptions) -> tuple[Workers, Workers | None]:
    """Returns the workers without a GPU, and those with one, if any."""
    worker_options, defaults = options.view_as(WorkerOptions), presets.settings("dataflow")
    machine = worker_options.machine_type or str(defaults["machine_type"])
    disk = worker_options.disk_size_gb or int(defaults["disk_size_gb"])
    plain = Workers(machine, presets.shape(machine), None, disk)
    accelerator = traits.accelerator(options, config.runs_on)
    if not accelerator:
        return plain, None
    return plain, Workers(accelerator.machine_type, presets.shape(accelerator.machine_type), accelerator, disk)


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Keeps stdout for the answer, because the build of --setup_file writes there from its own process."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(stdout, 1)
        os.close(stdout)
