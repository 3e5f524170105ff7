"""commands.quote.dry_run: the job request, the stages with an accelerator, the quote; nothing touched, no network."""

import dataclasses
import json
import os
import re
import socket
import subprocess

import pytest

from pipeline.commands.quote import dataflow_job, dry_run, speed
from pipeline.flags import options, parser
from pipeline.runners import pipeline_options, presets, traits
from tests.helpers.running import ROOT, command
from transforms.models.resolve import resolve

pytestmark = pytest.mark.slow

IMAGE = "us-docker.pkg.dev/my-project/images/embed:1"
HINT = "type:nvidia-l4;count:1;machine_type:g2-standard-8;install-nvidia-driver"
CLOUD = ["--project=my-project", "--region=us-central1", "--temp_location=gs://b/temp"]
WHERE = ["--input=gs://b/photos/**", "--output=gs://b/vectors"]
GPU = ["--preset=dataflow-gpu", f"--sdk_container_image={IMAGE}", *CLOUD]


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a dry run opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST", "BIGQUERY_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)


def parsed(*argv):
    config, others = options.parse([*argv, *([] if any(a.startswith("--output") for a in argv) else WHERE)])
    return config, pipeline_options.beam_options(others, parser.known_flags(), config.runs_on)


def job(*argv):
    config, beam_options = parsed(*argv)
    composed = dry_run.job_request(config, beam_options, resolve(config.model))
    return composed.request, composed.pipeline


def on_gpu(proto):
    """Returns, of each stage with an accelerator, its transforms."""
    return [stage.transforms for stage in dataflow_job.fused_stages(proto) if stage.accelerator]


def parts(transforms, *steps):
    return [name for name in transforms if name.partition("/")[0] in steps]


@pytest.mark.parametrize(("flags", "read"), [((), set()), (("--decode_processes=0",), {"ReadImages"})], ids=str)
def test_by_default_one_stage_reads_decodes_and_embeds_on_the_gpu(flags, read):
    """Decoder processes read files too."""
    _, proto = job(*GPU, *flags)
    (stage,) = on_gpu(proto)
    steps = {name.partition("/")[0] for name in stage}
    assert {"DecodeImages", "EmbedImages"} | read <= steps and ("ReadImages" in steps) == bool(read)
    # Nothing of the three runs elsewhere.
    for other in dataflow_job.fused_stages(proto):
        assert other.accelerator or not parts(other.transforms, "ReadImages", "DecodeImages", "EmbedImages")


def test_separate_it_is_on_inference_alone():
    _, proto = job(*GPU, "--separate_gpu_stage")
    (stage,) = on_gpu(proto)
    embed = parts(stage, "EmbedImages")
    assert any("RunInference" in name for name in embed)
    assert not parts(stage, "ListImages", "OnlyNew", "ReadImages", "DecodeImages", "CopyVectors", "WriteTFRecords")
    plain = [name for other in dataflow_job.fused_stages(proto) if not other.accelerator for name in other.transforms]
    assert not any("RunInference" in name for name in plain)
    assert all(parts(plain, step) for step in ("ListImages", "DecodeImages", "WriteTFRecords"))


@pytest.mark.parametrize(
    ("flags", "hinted"),
    [
        ([], {"DecodeImages", "EmbedImages", "CollectSample"}),
        (["--decode_processes=0"], {"ReadImages", "DecodeImages", "EmbedImages", "CollectSample"}),
        (["--separate_gpu_stage"], {"EmbedImages"}),
        (["--runner=FnApiRunner"], set()),
    ],
    ids=["fused", "fused, read by threads", "separate", "locally"],
)
def test_the_hint_itself(flags, hinted):
    config, beam_options = parsed(*GPU, *flags)
    accelerator = traits.accelerator(beam_options, config.runs_on)
    assert (accelerator.hint if accelerator else None) == (HINT if hinted else None)
    _, proto = job(*GPU, *flags)
    components = proto.components
    urn = "beam:resources:accelerator:v1"
    carrying = {
        (
            transform.unique_name.partition("/")[0],
            dict(components.environments[transform.environment_id].resource_hints)[urn],
        )
        for transform in components.transforms.values()
        if transform.environment_id and urn in components.environments[transform.environment_id].resource_hints
    }
    assert carrying == {(step, HINT.encode()) for step in hinted}


def test_the_request_on_gpu_workers():
    request, _ = job(*GPU, "--service_account_email=w@p", "--subnetwork=s", "--experiments=extra")
    environment = request["environment"]
    (pool,) = environment["workerPools"]
    assert {image["containerImage"] for image in pool["sdkHarnessContainerImages"]} == {IMAGE}
    assert {"no_use_multiple_sdk_containers", "extra", "use_runner_v2"} <= set(environment["experiments"])
    assert "use_multiple_sdk_containers" not in environment["experiments"]
    assert pool["numThreadsPerWorker"] == 8
    assert (pool["machineType"], pool["diskSizeGb"]) == ("n1-standard-4", 50)
    assert pool["autoscalingSettings"] == {"maxNumWorkers": 10}
    assert (pool["subnetwork"], environment["serviceAccountEmail"]) == ("s", "w@p")
    assert "serviceOptions" not in environment  # right fitting, not worker_accelerator
    said = environment["sdkPipelineOptions"]["options"]
    assert re.fullmatch(r"gs://b/temp/beamapp-[^/]+/pipeline\.pb", said["pipelineUrl"])
    assert len(said["pipelineProtoHash"]) == 64 and not said.get("dry_run")
    # The container has this package.
    assert not [package for package in pool["packages"] if package["name"].endswith((".tar.gz", ".whl"))]


def test_the_request_without_a_gpu():
    request, proto = job("--preset=dataflow", *CLOUD)
    (pool,) = request["environment"]["workerPools"]
    assert "workflow.tar.gz" in [package["name"] for package in pool["packages"]]
    assert pool["packages"][0]["location"].startswith("storage.googleapis.com/b/temp/beamapp-")
    assert "use_multiple_sdk_containers" in request["environment"]["experiments"]
    assert not on_gpu(proto)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--preset=dataflow"], "give --project my-project --region us-central1 --temp_location gs://BUCKET/tmp"),
        (["--preset=dataflow", *CLOUD[:2]], "give --temp_location gs://BUCKET/tmp"),
        (["--preset=dataflow", *CLOUD[:2], "--temp_location=/x"], "--temp_location '/x': expected gs://"),
        (["--preset=dataflow-gpu", *CLOUD], "need an image with CUDA, TensorFlow and this package: give --sdk_contain"),
        ([*GPU, "--dataflow_service_options=worker_accelerator=type:nvidia-l4;count:1"], "leave it out"),
        (
            [*GPU, "--flexrs_goal=COST_OPTIMIZED"],
            "--flexrs_goal 'COST_OPTIMIZED' cannot be combined with resource hints",
        ),
        (
            ["--preset=dataflow", *CLOUD, "--resource_hints=min_ram=8GB", "--flexrs_goal=COST_OPTIMIZED"],
            "resource hints",
        ),
        ([*GPU, "--resource_hints=accelerator=type:nvidia-l4;count:1"], "give one of them"),
        ([*GPU, "--output=vectors"], "out of reach of Dataflow's workers: expected gs://"),
        ([*GPU, "--input=photos/*", "--output=gs://b/v"], "--input "),
        ([*GPU, "--model=inception_v2"], "model='inception_v2' is on this machine"),
        (
            [*GPU, "--model=gs://b/m"],
            "--model 'gs://b/m' is in a bucket, which a dry run does not read: give --image_size HxW too",
        ),
        ([*GPU, "--model=gs://b/m", "--image_size=9x9"], "give --images_per_second RATE"),
        ([*GPU, "--machine_type=x1-y-3"], "machine type 'x1-y-3' is unknown here"),
        (
            [*GPU, "--gpu=nvidia-tesla-t4", "--gpu_count=8"],
            "--gpu_count 8: a worker can have 1, 2, 4 of nvidia-tesla-t4",
        ),
        (["--preset=local"], "give --preset dataflow or --preset dataflow-gpu"),
    ],
)
def test_what_cannot_work_is_said(argv, said):
    with pytest.raises(ValueError) as raised:
        config, beam_options = parsed(*argv, "--dry_run")
        dry_run.run(config, beam_options, config.dry_run)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    "flag", ["--gpu=nvidia-l4", "--gpu_count=2", "--separate_gpu_stage", "--gpu_machine_type=g2-standard-4"]
)
def test_gpus_elsewhere_are_refused(flag):
    with pytest.raises(ValueError, match="give --preset dataflow-gpu"):
        options.parse([flag])


def test_a_quote_needs_a_dry_run():
    with pytest.raises(ValueError, match="--images applies to a quote: give --dry_run too"):
        options.parse(["--images=3"])


def test_ten_million_images_on_an_l4_reckoned_by_hand(monkeypatch):
    measure = speed.measure

    def measure_decoding_of_8_ms(*args, **kwargs):  # so that the GPU does not wait
        return dataclasses.replace(measure(*args, **kwargs), decode=0.008)

    monkeypatch.setattr(speed, "measure", measure_decoding_of_8_ms)
    config, beam_options = parsed(
        *GPU, "--dry_run=json", "--images=10000000", "--image_bytes=500000", "--images_per_second=250"
    )
    said = json.loads(dry_run.run(config, beam_options, config.dry_run))
    fused, separate = said["quote"]["options"]
    speeds = said["quote"]["speed"]
    assert (speeds["decode"], speeds["python"]) == (0.008, 0.0002)
    # 10,000,000 / 250 / 3600 = 11.111 h at 8 × 0.056 + 32 × 0.003557 + 50 × 0.000054 + 0.672 = $1.236524
    assert [(item["amount"], item["price"], item["dollars"]) for item in fused["items"]] == [(11.111, 1.236524, 13.74)]
    embedding, decoding, shuffled = separate["items"]
    assert (embedding["amount"], embedding["dollars"]) == (11.111, 13.74)
    assert decoding["amount"] == pytest.approx(10**7 * 0.0082 / 4 / 3600, abs=0.001)
    assert decoding["dollars"] == pytest.approx(decoding["amount"] * 0.280055, abs=0.01)
    # 2 × 10⁷ × (224 × 224 × 3 + 1280 × 4) bytes
    assert (shuffled["amount"], shuffled["dollars"]) == (3112.96, 34.24)
    assert separate["dollars"] == pytest.approx(sum(item["dollars"] for item in separate["items"]), abs=0.01)
    assert said["job_request"]["environment"]["workerPools"]
    assert said["workers"][1]["machine_type"] == "g2-standard-8"


def test_what_people_read(tmp_path):
    """By the command, into a table that nobody could reach, with the proxy of nowhere."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("GOOGLE", "STORAGE", "BIGQUERY"))}
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1", "HOME": str(tmp_path)}
    done = subprocess.run(
        [
            *command(*GPU, "--input=gs://b/photos/**", "--output_table=my-project:images.vectors", "--dry_run"),
            *("--images=10000000", "--image_bytes=500000", "--images_per_second=250", "--separate_gpu_stage"),
        ],
        cwd=ROOT,
        env=env | nowhere,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert "  GPU    EmbedImages" in lines and "  plain  DecodeImages" in lines
    for said in (
        "nothing was submitted",
        "at most 10",
        "GPU machine g2-standard-8: 8 vCPUs, 32 GB, 50 GB disk",
        f"1 × nvidia-l4; hint {HINT}",
        "one a worker, 8 threads",
        IMAGE,
        "efficientnet_lite0, from the package",
        "5,000.0 GB to read",
        "10,000,000 × 0.004000 s / 3600 = 11.111 h",
        "8 × 0.056 + 32 × 0.003557 + 50 × 0.000054 + 1 × 0.672 = $1.236524",
        "11.111 h × $1.236524 = $13.74",
        "prices   US dollars, us-central1, 2026-11-22: Apache Beam 2.77.0",
    ):
        assert said in done.stdout, said
    assert re.search(r"separate: \$[\d.]+   ← this job", done.stdout)


def test_a_wrong_configuration_ends_with_2():
    done = subprocess.run(
        command("--preset=dataflow-gpu", *CLOUD, *WHERE, "--dry_run"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("run_pipeline.py: workers with a GPU need an image") and done.stderr.count("\n") == 1


def test_every_gpu_of_the_table_can_be_shown():
    for gpu in presets.GPUS:
        config, beam_options = parsed(*GPU, f"--gpu={gpu}", "--dry_run")
        assert traits.accelerator(beam_options, config.runs_on).gpu == gpu
