"""pipeline.commands.quote.dataflow_job: Beam composes a job without a network, and its transforms become stages."""

import socket

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.options.pipeline_options import TestOptions as BeamsTestOptions

from pipeline.commands.quote import dataflow_job
from pipeline.commands.quote.dataflow_job import Stage

GPU = "type:nvidia-l4;count:1"


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def dataflow_options(*flags):
    cloud = ("--project=my-project", "--region=us-central1", "--temp_location=gs://b/temp", "--job_name=a-job")
    return PipelineOptions(["--runner=DataflowRunner", "--sdk_container_image=an-image", *cloud, *flags])


def two_steps(root, *, shuffled=False):
    """Double → Add on a GPU, with a shuffle between them where they are `shuffled`."""
    doubled = root | "Make" >> beam.Create([1, 2]) | "Double" >> beam.Map(lambda x: 2 * x)
    if shuffled:
        doubled |= "Shuffle" >> beam.Reshuffle()
    doubled | "Add" >> beam.Map(lambda x: x + 1).with_resource_hints(accelerator=GPU)


def stage_of(transform, stages):
    (stage,) = [stage for stage in stages if transform in stage.transforms]
    return stage


def test_the_request_is_that_of_a_job_and_says_nothing_of_a_dry_run():
    options = dataflow_options("--max_num_workers=3", "--experiments=extra")
    job = dataflow_job.compose(options, two_steps)
    assert job.request["name"] == "a-job"
    environment = job.request["environment"]
    (pool,) = environment["workerPools"]
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 3
    assert {harness["containerImage"] for harness in pool["sdkHarnessContainerImages"]} == {"an-image"}
    assert "extra" in environment["experiments"]
    said = environment["sdkPipelineOptions"]["options"]
    assert said["pipelineUrl"].startswith("gs://b/temp/a-job.") and len(said["pipelineProtoHash"]) == 64
    assert not said.get("dry_run") and not options.view_as(BeamsTestOptions).dry_run
    names = {transform.unique_name for transform in job.pipeline.components.transforms.values()}
    assert {"Make", "Double", "Add"} <= names


def test_a_pipeline_that_cannot_be_built_leaves_the_options_as_they_were():
    def build(root):
        raise ValueError("no")

    options = dataflow_options()
    with pytest.raises(ValueError, match="^no$"):
        dataflow_job.compose(options, build)
    assert not options.view_as(BeamsTestOptions).dry_run


def test_fused_transforms_share_the_accelerator_of_one_of_them():
    stages = dataflow_job.fused_stages(dataflow_job.compose(dataflow_options(), two_steps).pipeline)
    assert stage_of("Add", stages) == stage_of("Double", stages)
    assert stage_of("Add", stages).accelerator == GPU


def test_a_shuffle_keeps_them_apart():
    job = dataflow_job.compose(dataflow_options(), lambda root: two_steps(root, shuffled=True))
    stages = dataflow_job.fused_stages(job.pipeline)
    assert (stage_of("Double", stages).accelerator, stage_of("Add", stages).accelerator) == ("", GPU)


@pytest.mark.parametrize(
    ("transforms", "steps"),
    [
        (["ReadImages/Fetch", "ReadImages/Count", "DecodeImages/Decode"], ("ReadImages", "DecodeImages")),
        (["EmbedImages/ToAccelerator/Reshuffle", "DecodeImages/Decode"], ("DecodeImages",)),
        (["WriteReport/Write", "ComposeReport/Sum"], ("WriteReport",)),
        (["ComposeReport/Sum"], ("ComposeReport",)),
    ],
)
def test_the_steps_of_a_stage(transforms, steps):
    assert Stage(transforms, "").steps == steps
