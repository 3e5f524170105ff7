"""Refuses a job if its flags and its model show that its runner could not run it."""

import os

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    SetupOptions,
    StandardOptions,
    WorkerOptions,
)

from pipeline.flags.options import EmbedConfig
from pipeline.runners import traits
from pipeline.runners.presets import Accelerator
from transforms.models.spec import ModelSpec
from transforms.storage import locations, stores

# Options that a job on Dataflow needs, with examples.
_NEEDED = (
    ("project", "--project my-project"),
    ("region", "--region us-central1"),
    ("temp_location", "--temp_location gs://BUCKET/tmp"),
)


def check(options: PipelineOptions, config: EmbedConfig) -> None:
    """Makes sure that Dataflow or a Flink cluster can accept the job, as far as its flags show.

    Raises:
      ValueError: if it cannot; the message says which flag to add or to change.
    """
    if traits.runner(options) == "FlinkRunner":
        _check_flink(options)
    if not traits.is_dataflow(options):
        return
    cloud = options.view_as(GoogleCloudOptions)
    if missing := [example for name, example in _NEEDED if not getattr(cloud, name)]:
        raise ValueError(f"Dataflow needs a project, a region and a directory for its files: give {' '.join(missing)}")
    if not locations.is_gcs(cloud.temp_location):
        raise ValueError(f"--temp_location {cloud.temp_location!r}: expected gs://BUCKET/DIRECTORY, for Dataflow")
    paths = [*(("input", pattern) for pattern in config.inputs), ("output", config.output)]
    for flag, path in paths:
        if path and locations.is_local(path):
            raise ValueError(
                f"--{flag} {path!r} is on this machine, out of reach of Dataflow's workers: expected gs://…"
            )
    image, setup = options.view_as(WorkerOptions).sdk_container_image, options.view_as(SetupOptions).setup_file
    gpus = traits.accelerator(options, config.runs_on)
    if gpus and not image:
        raise ValueError(
            "workers with a GPU need an image with CUDA, TensorFlow and this package: "
            "give --sdk_container_image REGION-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE:TAG"
        )
    if not image and not setup and not options.view_as(SetupOptions).extra_packages:
        raise ValueError("workers need this package: give --setup_file PATH/TO/setup.py or --sdk_container_image IMAGE")
    for flag, path in paths:
        _check_client(options, f"--{flag} {path!r}", path)
    _check_hints(options, gpus)


def _check_client(options: PipelineOptions, named: str, path: str | None) -> None:
    if path and path.startswith(stores.WITH_EXTRAS) and not options.view_as(WorkerOptions).sdk_container_image:
        raise ValueError(
            f"{named} needs a client that --setup_file does not install on Dataflow's workers: "
            "give --sdk_container_image IMAGE (docs/buckets.md)"
        )


def _check_flink(options: PipelineOptions) -> None:
    portable = options.view_as(PortableOptions)
    in_job_server = options.view_as(FlinkRunnerOptions).flink_master in ("[auto]", "[local]")
    if in_job_server and not portable.job_endpoint and portable.environment_type == "EXTERNAL":
        raise ValueError(
            "a job for worker pools needs their Flink cluster: give --flink_master HOST:8081 and --flink_version, the "
            "version of the cluster, or the --job_endpoint HOST:8099 of a job server (docs/flink.md)"
        )


def _check_hints(options: PipelineOptions, gpus: Accelerator | None) -> None:
    # These rules: https://cloud.google.com/dataflow/docs/guides/right-fitting
    hints = options.view_as(StandardOptions).resource_hints
    if gpus and any(hint.startswith("accelerator") for hint in hints):
        raise ValueError(
            "--resource_hints accelerator=… puts a GPU on every worker, --preset dataflow-gpu only on those that use "
            "it: give one of them"
        )
    if not gpus and not hints:
        return
    cloud = options.view_as(GoogleCloudOptions)
    if any(option.startswith("worker_accelerator") for option in cloud.dataflow_service_options or []):
        raise ValueError(
            "--dataflow_service_options worker_accelerator=… puts a GPU on every worker, and cannot be combined with "
            "resource hints: leave it out, or give --preset dataflow and no hints"
        )
    if cloud.flexrs_goal:
        raise ValueError(
            f"--flexrs_goal {cloud.flexrs_goal!r} cannot be combined with resource hints: leave it out, or give "
            "--preset dataflow and no hints"
        )


def check_location(options: PipelineOptions, model: ModelSpec) -> None:
    """Makes sure that workers on other machines can read the model.

    Raises:
      ValueError: if the model is on this machine and the workers are not.
    """
    baked = os.environ.get("BAKED_MODEL")  # the Dockerfile sets it in the image, which workers run too
    if baked and model.location == baked and options.view_as(WorkerOptions).sdk_container_image:
        return
    if not traits.is_dataflow(options):
        return
    _check_client(options, f"model={model.name!r}", model.location)
    if model.location and locations.is_local(model.location):
        raise ValueError(
            f"model={model.name!r} is on this machine, where Dataflow's workers cannot read it: run "
            f"`python -m pipeline stage-model {model.name} gs://BUCKET/MODEL`, then --model gs://BUCKET/MODEL"
        )
