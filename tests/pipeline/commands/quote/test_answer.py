"""pipeline.commands.quote.answer: what a dry run prints, of a job and a bill made up here."""

import dataclasses
import json

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2

from pipeline.commands.quote import bucket
from pipeline.commands.quote.answer import Answer, Quote
from pipeline.commands.quote.bill import Bill, Item, Prices, Workers
from pipeline.commands.quote.dataflow_job import Job, Stage
from pipeline.commands.quote.speed import Speed
from pipeline.runners import presets
from transforms.models.spec import ModelSpec

PRICES = Prices("a source", "2026-01-01", "us-central1", 0.05, 0.004, 0.0001, 0.01, {"nvidia-l4": 0.7})
SPEED = Speed(0.008, 0.0002, 0.004, True, "measured somewhere", "as given", 1000)
REQUEST = {
    "name": "a-job",
    "environment": {
        "experiments": ["one", "two"],
        "workerPools": [{"sdkHarnessContainerImages": [{"containerImage": "b"}, {"containerImage": "a"}]}],
    },
}
STAGES = [Stage(["EmbedImages/X"], "hint"), Stage(["ReadImages/X", "DecodeImages/X"], "")]


def pipeline():
    """A root with three steps."""
    proto = beam_runner_api_pb2.Pipeline(root_transform_ids=["root"])
    for step in ("ReadImages", "DecodeImages", "EmbedImages"):
        proto.components.transforms["root"].subtransforms.append(step)
        proto.components.transforms[step].unique_name = step
    return proto


def answer(*flags, gpus=1, image_bytes=1000):
    accelerator = presets.accelerator("nvidia-l4", gpus, None)
    plain = Workers("n1-standard-4", presets.shape("n1-standard-4"), None, 50)
    gpu = Workers(accelerator.machine_type, presets.shape(accelerator.machine_type), accelerator, 50)
    items = [
        Item("GPU workers", 10.0, "h", "how", 1.5, "why", 15.0),
        Item("shuffled", 2.5, "GB", "2 × n", 0.01, "", 0.03),
    ]
    quote = Quote(
        images=9_000_000,
        image_bytes=image_bytes,
        speed=SPEED,
        prices=PRICES,
        bills=[Bill("fused", items[:1]), Bill("separate", items)],
        chosen="separate",
    )
    options = PipelineOptions(["--project=p", "--region=r", *flags])
    model = ModelSpec("m", "tf2", "gs://b/m", "", (), 1280, (224, 224), "d" * 64)
    return Answer(options, Job(REQUEST, pipeline()), STAGES, model, plain, gpu, quote)


def test_the_text_has_the_job_its_stages_and_its_price():
    assert (
        answer("--max_num_workers=5", "--number_of_worker_harness_threads=8").as_text()
        == """\
job         a-job in p, r; nothing was submitted
workers     as many as Dataflow starts with, at most 5
machine     n1-standard-4: 4 vCPUs, 15 GB, 50 GB disk
GPU machine g2-standard-8: 8 vCPUs, 32 GB, 50 GB disk
accelerator 1 × nvidia-l4; hint type:nvidia-l4;count:1;machine_type:g2-standard-8;install-nvidia-driver
processes   one for each vCPU a worker, 8 threads
container   a, b
staged      nothing: the container has it
model       m, from gs://b/m
experiments one, two

stages, as Beam fuses them; Dataflow may join more, and a joined stage has the GPU if a part of it has
  plain  ReadImages + DecodeImages
  GPU    EmbedImages

quote for 9,000,000 images of 1,000 bytes: 9.0 GB to read
  decode   0.008000 s an image and core, measured somewhere
  python   0.000200 s an image and core, and no two at once in a process: see docs/performance.md
  embed    0.004000 s an image and worker: as given
  feed     a worker with 8 vCPUs could feed a device of 976 images/s: an image takes 8.20 ms of a core and \
0.20 ms of Python's lock; 8.2 cores for each 1,000 images/s; 3 for 250 images/s
  prices   US dollars, us-central1, 2026-01-01: a source
  without  starting workers and installing drivers, retries, requests to storage; discounts of any kind

  fused: $15.00
    GPU workers: how = 10.000 h
      one an hour: why = $1.500000
      10.000 h × $1.5 = $15.00
      on 5 workers at least 2.000 h

  separate: $15.03   ← this job
    GPU workers: how = 10.000 h
      one an hour: why = $1.500000
      10.000 h × $1.5 = $15.00
      on 5 workers at least 2.000 h
    shuffled: 2 × n = 2.500 GB
      2.500 GB × $0.01 = $0.03"""
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            {"gpus": 2},
            "accelerator 2 × nvidia-l4; hint type:nvidia-l4;count:2;machine_type:g2-standard-24;install-nvidia-driver",
        ),
        ({"image_bytes": 5000}, "           your images are 5 times as large: give some with --sample"),
        ({}, "processes   one for each vCPU a worker, as many threads as Dataflow chooses"),
    ],
    ids=["several GPUs", "other images", "threads"],
)
def test_lines_that_depend(arguments, line):
    assert line in answer(**arguments).as_text().splitlines()


def test_the_bucket_of_the_images_is_in_both_forms():
    of_bucket = bucket.of(
        ["gs://b"],
        "images",
        images=9_000_000,
        image_bytes=1000,
        seconds=36_000.0,
        workers=5,
        region="r",
        location="r",
        prices={},
    )
    shown = answer()
    shown = dataclasses.replace(shown, quote=dataclasses.replace(shown.quote, bucket=of_bucket))
    assert shown.as_text().endswith("\n\n" + "\n".join(of_bucket.lines()))
    said = json.loads(shown.as_json())["quote"]["bucket"]
    assert (said["store"], said["requests"]["gets"], said["in_tars"]["gets"], said["gigabytes"]) == (
        "gs",
        9_000_000,
        18,
        0,
    )


def test_json_has_what_the_text_is_made_of():
    parsed = json.loads(answer().as_json())
    assert list(parsed) == ["job_request", "stages", "workers", "model", "quote"]
    assert parsed["job_request"] == REQUEST
    assert parsed["stages"][0] == {"transforms": ["EmbedImages/X"], "accelerator": "hint"}
    assert [workers["machine_type"] for workers in parsed["workers"]] == ["n1-standard-4", "g2-standard-8"]
    assert list(parsed["quote"]) == ["images", "image_bytes", "speed", "prices", "bucket", "options"]
    assert list(parsed["quote"]["options"][1]["items"][0]) == [
        "what",
        "amount",
        "unit",
        "reckoned",
        "price",
        "priced",
        "dollars",
    ]


@pytest.mark.parametrize(("image_bytes", "is_said"), [(2000, False), (2001, True)])
def test_images_of_twice_the_size_are_like_the_sample(image_bytes, is_said):
    assert ("times as large" in answer(image_bytes=image_bytes).as_text()) is is_said


def test_plain_workers_have_a_process_and_a_lock_for_each_vcpu():
    whole = answer()
    slow = dataclasses.replace(whole.quote, speed=dataclasses.replace(SPEED, python=0.01))
    lines = {}
    for gpu in (whole.gpu, None):
        text = dataclasses.replace(whole, gpu=gpu, quote=slow).as_text()
        lines[bool(gpu)] = next(line for line in text.splitlines() if line.startswith("  feed"))
    # 1 / 0.01 s of the one lock of a worker with a GPU, and 4 vCPUs / (0.008 + 0.01) s.
    assert "a worker with 8 vCPUs could feed a device of 100 images/s" in lines[True]
    assert "a worker with 4 vCPUs could feed a device of 222 images/s" in lines[False]
