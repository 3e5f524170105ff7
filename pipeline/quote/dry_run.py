"""A dry run: the job that Dataflow would get, shown and not submitted. No network, no credentials, nothing written."""

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    DebugOptions,
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    TestOptions,
    WorkerOptions,
)
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner
from apache_beam.runners.dataflow.internal import apiclient
from apache_beam.runners.portability.fn_api_runner import translations

from pipeline import graph, precision, presets, runners
from pipeline.options import SAMPLES, DryRun, EmbedConfig
from pipeline.quote import estimate
from pipeline.quote.estimate import Option, Speed, Workers
from pipeline.warehouse.publish import Publication
from pipeline.warehouse.tables import Staging
from transforms.models import catalog
from transforms.models.resolve import resolve
from transforms.models.spec import ModelSpec

_ACCELERATOR = common_urns.resource_hints.ACCELERATOR.urn
_IMAGES = 1_000_000


@dataclasses.dataclass(frozen=True)
class Stage:
    """Transforms that run as one, by their full names, and the accelerator that they run on; "" for none."""

    transforms: list[str]
    accelerator: str

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps of the graph that they are parts of, without what just moves or counts for others."""
        parts = [name.split("/") for name in self.transforms]
        steps = dict.fromkeys(part[0] for part in parts if not {"ToAccelerator", "FromAccelerator"} & set(part))
        return tuple(step for step in steps if step != "ComposeReport") or tuple(steps)


def run(config: EmbedConfig, options: PipelineOptions, dry: DryRun) -> str:
    """Returns what to print.

    Raises:
      ValueError: if the job cannot work.
    """
    if not runners.is_dataflow(options):
        raise ValueError("--dry_run shows what Dataflow would get: give --preset dataflow or --preset dataflow-gpu")
    model = _model(config)
    runners.check_location(options, model)
    runners.check(options, config)
    prices = estimate.read_prices(dry.prices)
    plain, gpu = _workers(config, options)
    speed = estimate.measure(
        model,
        resize_mode=config.resize_mode,
        batch_size=config.batch_size,
        sample=dry.sample or SAMPLES,
        images_per_second=dry.images_per_second,
        has_gpu=gpu is not None,
    )
    height, width = model.image_size
    # Three bytes a pixel out, four a component of the vector back; of a model in a bucket the dimension is unknown.
    shuffled = height * width * 3 + model.dimension * 4
    bills = estimate.options(dry.images or _IMAGES, speed, prices, plain, gpu, shuffled)
    with _stdout_to_stderr():
        request, proto = job_request(config, options, model)
    stages = fused_stages(proto)
    if dry.shown_as == "json":
        return json.dumps(
            {
                "job_request": request,
                "stages": [dataclasses.asdict(stage) for stage in stages],
                "workers": [dataclasses.asdict(each) for each in (plain, gpu) if each],
                "model": dataclasses.asdict(model),
                "quote": {
                    "images": dry.images or _IMAGES,
                    "image_bytes": dry.image_bytes or speed.sample_bytes,
                    "speed": dataclasses.asdict(speed),
                    "prices": dataclasses.asdict(prices),
                    "options": [dataclasses.asdict(bill) for bill in bills],
                },
            },
            indent=2,
        )
    return "\n".join(
        [
            *_told_job(options, model, plain, gpu, request),
            "",
            "stages, as Beam fuses them; Dataflow may join more, and what is joined has the GPU where a part of it has",
            *_told_stages(stages, proto),
            "",
            *_told_quote(dry, config, options, speed, prices, bills),
        ]
    )


def job_request(
    config: EmbedConfig, options: PipelineOptions, model: ModelSpec
) -> tuple[dict[str, Any], beam_runner_api_pb2.Pipeline]:
    """Returns the job as it would be sent to Dataflow, and the pipeline that it would find in its bucket."""
    options.view_as(TestOptions).dry_run = True
    runner = DataflowRunner()
    # Not made for Dataflow, or Beam would ask the bucket whether it is there; this it would do besides.
    setup = options.view_as(SetupOptions)
    if setup.pickle_library == "default" and (library := runner.default_pickle_library_override()):
        setup.pickle_library = library
    pipeline = beam.Pipeline(runner="FnApiRunner", options=options)
    found = runners.accelerator(options, config.runs_on)
    graph.build(
        pipeline,
        config,
        model,
        _publication(config, options),
        share_model_across_processes=runners.shares_model_across_processes(options),
        accelerator=found.hint if found else None,
    )
    runner.run_pipeline(pipeline, options)
    options.view_as(TestOptions).dry_run = False
    _Unsent(options, runner.job.root_staging_location).create_job_description(runner.job)
    return json.loads(runner.job.json()), runner.job.proto_pipeline


class _Unsent(apiclient.DataflowApplicationClient):
    """Beam's client, which composes the request, without its connections."""

    def __init__(self, options: PipelineOptions, root_staging_location: str):
        self.google_cloud_options = options.view_as(GoogleCloudOptions)
        self.environment_version = apiclient._FNAPI_ENVIRONMENT_MAJOR_VERSION
        self._root_staging_location = root_staging_location
        self._sdk_image_overrides = self._get_sdk_image_overrides(options)

    def _gcs_file_copy(self, from_path: str, to_path: str, sha256: str) -> None:
        pass

    def stage_file_with_retry(self, *args: Any, **kwargs: Any) -> None:
        pass


def fused_stages(proto: beam_runner_api_pb2.Pipeline) -> list[Stage]:
    """Returns the stages that workers run.

    Where transforms are fused, Dataflow runs them in an environment with the union of their hints
    (https://cloud.google.com/dataflow/docs/guides/right-fitting): so here hints keep nothing apart.
    """
    components = proto.components
    hints = {}
    for transform in components.transforms.values():
        # Asked for a key that it has not, a map of a proto would get it.
        if transform.environment_id and (
            hint := dict(components.environments[transform.environment_id].resource_hints).get(_ACCELERATOR)
        ):
            hints[transform.unique_name] = hint.decode()
    plain = beam_runner_api_pb2.Pipeline()
    plain.CopyFrom(proto)
    first = next(iter(plain.components.environments))
    for transform in plain.components.transforms.values():
        if transform.environment_id:
            transform.environment_id = first
    _, fused = translations.create_and_optimize_stages(
        plain,
        phases=list(translations.standard_optimize_phases()),
        known_runner_urns=frozenset(
            urn.urn
            for urn in (
                common_urns.primitives.IMPULSE,
                common_urns.primitives.GROUP_BY_KEY,
                common_urns.primitives.FLATTEN,
            )
        ),
        use_state_iterables=False,
    )
    stages = []
    for stage in fused:
        if stage.environment:
            names = [transform.unique_name for transform in stage.transforms]
            stages.append(Stage(names, next((hints[name] for name in names if name in hints), "")))
    return stages


def _model(config: EmbedConfig) -> ModelSpec:
    return precision.unmeasured(config, _in_float32(config))


def _in_float32(config: EmbedConfig) -> ModelSpec:
    """Returns the model, of one that is elsewhere just what the command line says."""
    if config.model in catalog.BUNDLED:
        return resolve(config.model, config.image_size, config.resize_mode, config.model_signature, config.model_tags)
    size = config.image_size
    if config.model.startswith("gs://") and not size:
        raise ValueError(f"--model {config.model!r} is not read by a dry run: give --image_size HxW too")
    tags = config.model_tags or ()
    return ModelSpec(config.model, "tf2", config.model, config.model_signature or "", tags, 0, size or (1, 1), "")


def _publication(config: EmbedConfig, options: PipelineOptions) -> Publication | None:
    if not config.output_table:
        return None
    place = f"{runners.temp_location(options, config)}/dry_run"
    return Publication(config.output_table, Staging.of(config.output_table), place, config.make_latest)


def _workers(config: EmbedConfig, options: PipelineOptions) -> tuple[Workers, Workers | None]:
    given = options.view_as(WorkerOptions)
    machine = given.machine_type or str(presets.settings("dataflow")["machine_type"])
    disk = given.disk_size_gb or int(presets.settings("dataflow")["disk_size_gb"])
    plain = Workers(machine, presets.shape(machine), None, disk)
    found = runners.accelerator(options, config.runs_on)
    if not found:
        return plain, None
    return plain, Workers(found.machine_type, presets.shape(found.machine_type), found, disk)


def _told_job(
    options: PipelineOptions, model: ModelSpec, plain: Workers, gpu: Workers | None, request: dict[str, Any]
) -> list[str]:
    cloud, given, debug = (options.view_as(kind) for kind in (GoogleCloudOptions, WorkerOptions, DebugOptions))
    pool = request["environment"]["workerPools"][0]
    threads = debug.number_of_worker_harness_threads
    processes = "one" if presets.ONE_PROCESS in request["environment"]["experiments"] else "one for each vCPU"
    packages = [package["name"] for package in pool.get("packages", [])]
    rows = [
        ("job", f"{request['name']} in {cloud.project}, {cloud.region}; nothing was submitted"),
        (
            "workers",
            f"{given.num_workers or 'as many as Dataflow starts with'}, at most {given.max_num_workers or '-'}",
        ),
        (
            "machine",
            f"{plain.machine_type}: {plain.shape.vcpus} vCPUs, {plain.shape.memory_gb:g} GB, {plain.disk_gb} GB disk",
        ),
    ]
    if gpu and gpu.accelerator:
        found = gpu.accelerator
        rows += [
            (
                "GPU machine",
                f"{gpu.machine_type}: {gpu.shape.vcpus} vCPUs, {gpu.shape.memory_gb:g} GB, {gpu.disk_gb} GB disk",
            ),
            ("accelerator", f"{found.count} × {found.gpu}; hint {found.hint}"),
        ]
        if found.count > 1:
            rows.append(("", "one process loads the model on the first GPU: the others would stand idle"))
    rows += [
        (
            "processes",
            f"{processes} a worker, {threads or 'as many threads as Dataflow chooses'}{' threads' * bool(threads)}",
        ),
        ("container", ", ".join(sorted({each["containerImage"] for each in pool["sdkHarnessContainerImages"]}))),
        ("staged", ", ".join(packages) or "nothing: the container has it"),
        ("model", f"{model.name}, from {model.location or 'the package'}"),
        ("experiments", ", ".join(request["environment"]["experiments"])),
    ]
    return [f"{name:<12}{said}" for name, said in rows]


def _told_stages(stages: list[Stage], proto: beam_runner_api_pb2.Pipeline) -> list[str]:
    components = proto.components
    (root,) = (components.transforms[each] for each in proto.root_transform_ids)
    order = [components.transforms[each].unique_name for each in root.subtransforms]
    rows = sorted(
        {(stage.steps, bool(stage.accelerator)) for stage in stages if stage.steps},
        key=lambda row: _places(row[0], order),
    )
    return [f"  {'GPU  ' if on_gpu else 'plain'}  {' + '.join(steps)}" for steps, on_gpu in rows]


def _places(steps: tuple[str, ...], order: list[str]) -> list[int]:
    return [order.index(step) for step in steps]


def _told_quote(
    dry: DryRun,
    config: EmbedConfig,
    options: PipelineOptions,
    speed: Speed,
    prices: estimate.Prices,
    bills: list[Option],
) -> list[str]:
    count, size = dry.images or _IMAGES, dry.image_bytes or speed.sample_bytes
    most = options.view_as(WorkerOptions).max_num_workers
    apart = size > 2 * speed.sample_bytes
    lines = [
        f"quote for {count:,} images of {size:,} bytes: {count * size / 1e9:,.1f} GB to read",
        f"  decode   {speed.decode:.6f} s an image and core, {speed.decoded}",
        f"  embed    {speed.embed:.6f} s an image and {'worker' if speed.on_gpu else 'core'}: {speed.embedded}",
        *(
            [f"           your images are {size / speed.sample_bytes:.0f} times as large: give some by --sample"]
            * apart
        ),
        f"  prices   US dollars, {prices.region}, {prices.date}: {prices.source}",
        "  without  starting workers and installing drivers, retries, requests to storage; discounts of any kind",
    ]
    chosen = "separate" if config.runs_on.separate_gpu_stage else "fused"
    for bill in bills:
        this = "   ← this job" if bill.name in (chosen, "plain workers") else ""
        lines += ["", f"  {bill.name}: ${bill.dollars:,.2f}{this}"]
        for item in bill.items:
            lines.append(f"    {item.what}: {item.reckoned} = {item.amount:,.3f} {item.unit}")
            if item.priced:
                lines.append(f"      one an hour: {item.priced} = ${item.price:.6f}")
            lines.append(
                f"      {item.amount:,.3f} {item.unit} × ${f'{item.price:f}'.rstrip('0')} = ${item.dollars:,.2f}"
            )
            if item.unit == "h" and most:
                lines.append(f"      on {most} workers at least {item.amount / most:,.3f} h")
    return lines


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Keeps stdout for the answer: what builds --setup_file writes there, in a process of its own."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
