"""The Flex Template: its parameters against the command's flags, Dataflow's types, and what launches give to it."""

import ast
import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.cloud import storage

from deploy import flex_template
from pipeline.flags import options, parser
from pipeline.runners import job_checks, pipeline_options
from tests.deploy import test_container
from tests.deploy.conftest import SETTINGS
from tests.helpers import data_generation as data
from tests.helpers import tiny_module
from tests.helpers.running import ROOT
from transforms.models import catalog

IMAGE = "europe-west1-docker.pkg.dev/my-project/embed-images/embed-images:1"
METADATA = json.loads((ROOT / "deploy" / "flex_template.json").read_text())
PARAMETERS = {parameter["name"]: parameter for parameter in METADATA["parameters"]}
FLAGS = flex_template.flags()
# What Dataflow's launcher adds to the parameters, from the launch's name, place and environment.
LAUNCHER = [
    "--runner=DataflowRunner",
    "--project=my-project",
    "--region=europe-west1",
    "--job_name=embed-images-nightly",
    "--temp_location=gs://temp/tmp",
    "--staging_location=gs://temp/staging",
    "--template_location=gs://temp/template_launches/job_object",
    '--labels={"goog-dataflow-provided-template-type": "flex"}',
    "--service_account_email=embed-worker@my-project.iam.gserviceaccount.com",
    "--max_num_workers=10",
    f"--sdk_container_image={IMAGE}",
]
# Values that the command takes, and some that it refuses.
RIGHT = {
    "input": ["gs://bucket/photos/**", "gs://bucket", "gs://bucket/a, b/*.jpg"],
    "output": ["gs://bucket/vectors"],
    "output_table": ["project:dataset.table", "project.dataset.table", "example.com:project:dataset.table-1"],
    "run_id": ["nightly-20261121T020000"],
    "image_size": ["224x224"],
    "max_failure_rate": ["0.01", "1", "1.0", ".5", "0", "1e-3"],
    "billing_project": ["my-project-123"],
    "prune": ["true", "false"],
    "resize_mode": ["crop"],
    "output_format": ["parquet", "tfrecord,parquet"],
    "batch_size": ["64"],
}
WRONG = {
    "input": ["photos/**", "s3://bucket/**"],
    "output": ["vectors", "gs://bucket"],
    "output_table": ["table", "dataset.table", "p:d.t` UNION ALL"],
    "run_id": ["-", "last night", "n" * 101],
    "image_size": ["224"],
    "max_failure_rate": ["1%", "-1", "often"],
    "prune": ["yes"],
    "resize_mode": ["zoom"],
    "batch_size": ["0", "1.5"],
}


def accepts(name: str, value: str) -> bool:
    """Returns whether Dataflow takes a value, by the parameter's regular expressions."""
    return all(re.search(regex, value) for regex in PARAMETERS[name].get("regexes", ()))


def check_launch(parameters: Mapping[str, str]) -> None:
    """Fails where Dataflow would refuse the parameters of a launch, or the command its flags."""
    assert set(parameters) <= set(PARAMETERS)
    assert {name for name, parameter in PARAMETERS.items() if not parameter["isOptional"]} <= set(parameters)
    assert [name for name, value in parameters.items() if not accepts(name, value)] == []
    _, others = options.parse(as_flags(parameters))
    pipeline_options.beam_options(others, parser.known_flags())


def as_flags(parameters: Mapping[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in parameters.items()]


def test_the_file_is_what_the_flags_say():
    assert flex_template.metadata() == METADATA, "flags have changed: `make lock`"


def test_each_flag_is_a_parameter():
    known = {flag.removeprefix("--") for flag in parser.known_flags() if flag.startswith("--")}
    assert set(PARAMETERS) - set(flex_template.BEAM) == known - {"help", *flex_template.LEFT_OUT}
    assert set(flex_template.REGEXES) <= set(FLAGS)
    assert [name for name, parameter in PARAMETERS.items() if not parameter["isOptional"]] == ["input"]


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_tells_what_its_flag_does(name):
    parameter = PARAMETERS[name]
    assert parameter["label"] and len(parameter["helpText"]) > 20
    assert "%(" not in parameter["helpText"]
    if name not in FLAGS:
        return
    flag = FLAGS[name]
    choices = [option["value"] for option in parameter.get("enumOptions", ())]
    assert set(choices) <= set(flag.choices or ())
    if flag.default not in (None, False) and (not choices or flag.default in choices):
        assert parameter["defaultValue"] == str(flag.default)
        assert accepts(name, parameter["defaultValue"])
        assert "default:" in parameter["helpText"]
    else:
        assert "defaultValue" not in parameter


@pytest.mark.parametrize("name", RIGHT)
def test_dataflow_takes_what_the_command_takes(name):
    needed = {"input": "gs://bucket/**", "output": "gs://bucket/vectors", "output_table": "project:dataset.table"}
    for value in RIGHT[name]:
        check_launch(needed | {name: value})


@pytest.mark.parametrize("name", WRONG)
def test_dataflow_refuses_before_a_machine_is_started(name):
    assert [value for value in WRONG[name] if accepts(name, value)] == []


def test_beams_parameters_are_flags_of_beam():
    given = {"sdk_container_image": IMAGE, "dataflow_service_options": "a=b", "number_of_worker_harness_threads": "4"}
    assert set(given) == set(flex_template.BEAM)
    check_launch({"input": "gs://bucket/**", "output": "gs://bucket/vectors"} | given)


def test_the_launcher_adds_flags_that_are_beams():
    _, others = options.parse(["--input=gs://bucket/**", "--output=gs://bucket/vectors", *LAUNCHER])
    assert others == LAUNCHER
    pipeline_options.beam_options(others, parser.known_flags())


def test_the_dag_launches_what_the_template_takes():
    """By the DAG's own function, without Airflow: it needs nothing of it."""
    source = ast.parse((ROOT / "deploy" / "airflow" / "nightly_image_embeddings.py").read_text())
    wanted = [node for node in source.body if getattr(node, "name", "") in ("launch_body", "_texts")]
    defined: dict[str, Any] = {"re": re, "Any": Any, "Mapping": Mapping}
    exec(compile(ast.Module(wanted, []), "dag", "exec"), defined)  # noqa: S102 - this project's own
    settings = SETTINGS | {"model": "inception_v2", "prune": True, "max_workers": 3, "flags": {"batch_size": 64}}
    body = defined["launch_body"](settings, "nightly-20261121T020000")
    parameters = body["launchParameter"]["parameters"]
    assert {"input", "output_table", "model", "prune", "run_id", "batch_size"} == set(parameters)
    check_launch(parameters)


def test_the_workflow_launches_what_the_template_takes():
    definition = yaml.safe_load((ROOT / "deploy" / "workflows" / "nightly_image_embeddings.yaml").read_text())
    (collect,) = [step["collect"] for step in definition["main"]["steps"] if "collect" in step]
    names = re.findall(r'parameters\["(\w+)"\]', str(collect["assign"]))
    scheduled = json.loads(json.loads((ROOT / "deploy" / "workflows" / "scheduler.json").read_text())["argument"])
    run = {"model": "efficientnet_lite0", "run_id": "nightly-20261121"}
    parameters = scheduled["flags"] | {name: ({**scheduled, **run})[name] for name in names}
    assert {"input", "output_table", "model", "run_id", "prune"} == set(parameters)
    check_launch(parameters)


def test_dataflow_reads_the_specification(airflow, tmp_path):
    """By the types of Dataflow's own client, which is in the environment with Airflow."""
    command = [sys.executable, "-m", "deploy.flex_template", "--image", IMAGE]
    made = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    code = (
        "import json, sys; from google.cloud import dataflow; from google.protobuf import json_format\n"
        "message = json_format.ParseDict(json.load(sys.stdin), dataflow.ContainerSpec.pb()())\n"
        "print(json_format.MessageToJson(message))"
    )
    done = subprocess.run(
        [airflow / "python", "-W", "ignore", "-c", code], input=made, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    understood = json.loads(done.stdout)
    # The false is a message's default, which is not written.
    expected = json.loads(made)
    for parameter in expected["metadata"]["parameters"]:
        if not parameter["isOptional"]:
            del parameter["isOptional"]
    assert understood == expected
    assert understood["image"] == understood["defaultEnvironment"]["sdkContainerImage"] == IMAGE
    assert understood["sdkInfo"] == {"language": "PYTHON"}


@pytest.fixture(scope="module")
def buckets(cloud):
    client = storage.Client()
    images = client.create_bucket("template_images")
    for seed in range(3):
        images.blob(f"photos/{seed}.jpg").upload_from_string(data.jpeg(seed, 24, 32))
    return images, client.create_bucket("temp")


def launch(
    parameters: Mapping[str, str], more: list[str], cloud: Any, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "run_pipeline.py", *as_flags(parameters), *more],
        cwd=ROOT,
        env=cloud.environment | {"PATH": str(Path(sys.executable).parent), "HOME": "/nonexistent"} | environment,
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_the_launcher_gets_a_job_for_dataflow(cloud, buckets):
    """As the launcher runs it: the job goes to the template's location, from where the launcher submits it."""
    parameters = {"input": "gs://template_images/photos/**", "output": "gs://temp/vectors", "reprocess": "true"}
    check_launch(parameters)
    done = launch(parameters, LAUNCHER, cloud)
    assert done.returncode == 0, done.stderr
    assert "the job was submitted" in done.stdout
    job = json.loads(buckets[1].blob("template_launches/job_object").download_as_bytes())
    assert [image["containerImage"] for image in job["environment"]["workerPools"][0]["sdkHarnessContainerImages"]] == [
        IMAGE
    ]
    staged = [package["location"] for package in job["environment"]["workerPools"][0].get("packages", [])]
    assert not [place for place in staged if place.endswith(("requirements.txt", "workflow.tar.gz", ".tar", ".whl"))]
    assert job["name"] == "embed-images-nightly"


def test_the_same_launch_embeds_where_a_runner_is_at_hand(cloud, buckets):
    parameters = {
        "input": "gs://template_images/photos/**",
        "output": "gs://temp/local",
        "model": "efficientnet_lite0",
        "prune": "false",
        "overwrite": "true",
        "max_failure_rate": "0.0",
        "run_id": "nightly-20261121",
    }
    check_launch(parameters)
    done = launch(parameters, [f"--sdk_container_image={IMAGE}", "--temp_location=gs://temp/tmp"], cloud)
    assert done.returncode == 0, done.stderr
    report = json.loads(buckets[1].blob("local/runs/nightly-20261121.json").download_as_bytes())
    assert report["counts"]["embedded"] == report["counts"]["listed"] == 3


def test_a_model_that_the_image_brings_is_the_workers_too(cloud, buckets, tmp_path):
    """The Dockerfile's own lines put it there; `--model` names the place, and no bucket has it."""
    source = tiny_module.write(tmp_path / "tiny")
    (bake,) = [run for run in test_container.instructions("RUN") if "pipeline stage-model" in run]
    script = bake[bake.index("if [ -n") :]
    place = tmp_path / "opt" / "model"
    baked = {"MODEL": str(source), "BAKED_MODEL": str(place), "PATH": str(Path(sys.executable).parent)}
    subprocess.run(["/bin/sh", "-c", script], cwd=ROOT, env=cloud.environment | baked, check=True, capture_output=True)
    assert (place / "saved_model.pb").is_file()

    parameters = {"input": "gs://template_images/photos/**", "output": "gs://temp/baked", "model": str(place)}
    parameters["image_size"] = "24x32"
    done = launch(parameters, LAUNCHER, cloud, BAKED_MODEL=str(place))
    assert done.returncode == 0, done.stderr


def test_no_other_model_of_the_launchers_machine_is_the_workers(monkeypatch):
    spec = dataclasses.replace(catalog.bundled(catalog.DEFAULT), location="/opt/model")
    job_checks.check_location(
        pipeline_options.beam_options(LAUNCHER[:1], ()), dataclasses.replace(spec, location="gs://a/b")
    )
    monkeypatch.setenv("BAKED_MODEL", "/opt/model")
    job_checks.check_location(pipeline_options.beam_options(LAUNCHER, ()), spec)
    for flags, place in ((LAUNCHER, "/opt/another"), (LAUNCHER[:-1], "/opt/model")):
        with pytest.raises(ValueError, match="where Dataflow's workers cannot read it"):
            found = pipeline_options.beam_options(flags, ())
            job_checks.check_location(found, dataclasses.replace(spec, location=place))
    monkeypatch.delenv("BAKED_MODEL")
    with pytest.raises(ValueError, match="where Dataflow's workers cannot read it"):
        job_checks.check_location(pipeline_options.beam_options(LAUNCHER, ()), spec)
