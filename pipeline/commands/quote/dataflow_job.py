"""A job for Dataflow, composed by Beam and not submitted. Only this file depends on private parts of Beam.

It is written for Beam 2.77. A comment on each use states its purpose, why nothing public serves it, and the points to
check in a later release. `test_dataflow_job.py` composes jobs without a network, and fails if one of these parts has
changed.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, SetupOptions, TestOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner
from apache_beam.runners.dataflow.internal import apiclient
from apache_beam.runners.portability.fn_api_runner import translations

# Portable pipelines are protos. Beam publishes their format for authors of runners, not for users. After an upgrade: do
# these identifiers still exist, of a hint and of the primitives that runners execute themselves?
_ACCELERATOR = common_urns.resource_hints.ACCELERATOR.urn
_RUN_BY_DATAFLOW = frozenset(
    primitive.urn
    for primitive in (
        common_urns.primitives.IMPULSE,
        common_urns.primitives.GROUP_BY_KEY,
        common_urns.primitives.FLATTEN,
    )
)


@dataclasses.dataclass(frozen=True)
class Job:
    """A job that was composed.

    Attributes:
      request: the body of Dataflow's projects.locations.jobs.create.
      pipeline: the pipeline that Dataflow would read from the staging bucket.
    """

    request: dict[str, Any]
    pipeline: beam_runner_api_pb2.Pipeline


@dataclasses.dataclass(frozen=True)
class Stage:
    """The full names of transforms that run as one, and the accelerator that they run on; "" for none."""

    transforms: list[str]
    accelerator: str

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps of the graph that the transforms belong to, without those that only move or count data."""
        parts = [name.split("/") for name in self.transforms]
        steps = dict.fromkeys(part[0] for part in parts if not {"ToAccelerator", "FromAccelerator"} & set(part))
        return tuple(step for step in steps if step != "ComposeReport") or tuple(steps)


def compose(options: PipelineOptions, build: Callable[[beam.Pipeline], None]) -> Job:
    """Returns the job that Dataflow would get for the pipeline that `build` makes."""
    runner = DataflowRunner()
    with _beams_dry_run(options):
        pipeline = _pipeline(options, runner)
        build(pipeline)
        job = runner.run_pipeline(pipeline, options).job
    _OfflineClient(options, job.root_staging_location).create_job_description(job)
    return Job(json.loads(job.json()), job.proto_pipeline)


@contextlib.contextmanager
def _beams_dry_run(options: PipelineOptions) -> Iterator[None]:
    """Lets `run_pipeline` return the translated job before it makes a client.

    The option is one of Beam's own tests. The public options `--template_location` and `--dataflow_job_file` write the
    whole request, but upload files first, and the second one submits the job.
    After an upgrade: what does `run_pipeline` do after its return for a dry run? Does `create_job` of its client do
    more to a job than `create_job_description`?
    """
    testing = options.view_as(TestOptions)
    testing.dry_run = True
    try:
        yield
    finally:
        testing.dry_run = False  # or it would stand in the request


def _pipeline(options: PipelineOptions, runner: DataflowRunner) -> beam.Pipeline:
    """Returns an empty pipeline without a request for the bucket.

    `Pipeline` with Dataflow's runner checks --temp_location, asks Cloud Storage about the bucket, and makes one if none
    is suitable. With another runner it does none of that, but lacks the pickler that Dataflow's runner would choose.
    After an upgrade: does `Pipeline.__init__` take anything else from its runner?
    """
    setup = options.view_as(SetupOptions)
    if setup.pickle_library == "default" and (pickler := runner.default_pickle_library_override()):
        setup.pickle_library = pickler
    return beam.Pipeline(runner="FnApiRunner", options=options)


class _OfflineClient(apiclient.DataflowApplicationClient):
    """Beam's client, which describes a job, without its connections and uploads.

    `__init__` of Beam's client looks for credentials and opens connections. This one does not call it, and sets only
    the attributes that `create_job_description` and its callees read.
    After an upgrade: which attributes do they read, and by which methods do they upload? Does the version of the
    environment, by which Dataflow chooses how to talk to workers, have another name?
    """

    def __init__(self, options: PipelineOptions, root_staging_location: str):
        self.google_cloud_options = options.view_as(GoogleCloudOptions)
        self.environment_version = apiclient._FNAPI_ENVIRONMENT_MAJOR_VERSION
        self._root_staging_location = root_staging_location
        self._sdk_image_overrides = self._get_sdk_image_overrides(options)

    def _gcs_file_copy(self, from_path: str, to_path: str, sha256: str) -> None:
        """Uploads nothing: called for each file that workers install."""

    def stage_file_with_retry(self, *args: Any, **kwargs: Any) -> None:
        """Uploads nothing: called for the pipeline."""


def fused_stages(pipeline: beam_runner_api_pb2.Pipeline) -> list[Stage]:
    """Returns the stages that workers run.

    Dataflow runs fused transforms in an environment with the union of their hints
    (https://cloud.google.com/dataflow/docs/guides/right-fitting). Beam's own fusion keeps transforms with different
    hints apart, so it gets a copy of the pipeline without hints.

    Beam's local runner fuses by `translations`. Dataflow's service fuses by the same rules, but shows the result only
    for submitted jobs. After an upgrade: do portable runners still use these phases?
    """
    hints = _accelerators(pipeline)
    _, stages = translations.create_and_optimize_stages(
        _in_one_environment(pipeline),
        phases=list(translations.standard_optimize_phases()),
        known_runner_urns=_RUN_BY_DATAFLOW,
        use_state_iterables=False,
    )
    on_workers = [[transform.unique_name for transform in stage.transforms] for stage in stages if stage.environment]
    return [Stage(names, next((hints[name] for name in names if name in hints), "")) for names in on_workers]


def _accelerators(pipeline: beam_runner_api_pb2.Pipeline) -> dict[str, str]:
    """Returns the accelerator of each transform that has one, by the transform's full name."""
    components = pipeline.components
    accelerators = {}
    for transform in components.transforms.values():
        if not transform.environment_id:
            continue
        # A dict, because looking up a key in a proto's map adds it.
        environment_hints = dict(components.environments[transform.environment_id].resource_hints)
        if accelerator := environment_hints.get(_ACCELERATOR):
            accelerators[transform.unique_name] = accelerator.decode()
    return accelerators


def _in_one_environment(pipeline: beam_runner_api_pb2.Pipeline) -> beam_runner_api_pb2.Pipeline:
    """Returns a copy whose transforms all run in the pipeline's first environment."""
    copy = beam_runner_api_pb2.Pipeline()
    copy.CopyFrom(pipeline)
    first = next(iter(copy.components.environments))
    for transform in copy.components.transforms.values():
        if transform.environment_id:
            transform.environment_id = first
    return copy
