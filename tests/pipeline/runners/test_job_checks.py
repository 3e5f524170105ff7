"""pipeline.runners.job_checks: jobs that a runner could not run. What Dataflow asks for is in test_dry_run.py."""

import dataclasses

import pytest

from pipeline.flags import options, parser
from pipeline.runners import job_checks, pipeline_options


def test_flink_wants_to_know_its_cluster():
    def check(*argv):
        config, others = options.parse(["--output=/out", *argv])
        job_checks.check(pipeline_options.beam_options(others, parser.known_flags(), config.runs_on), config)

    with pytest.raises(ValueError, match="give --flink_master HOST:8081 .* or the --job_endpoint"):
        check("--preset=flink")
    check("--preset=flink", "--flink_master=flink:8081")
    check("--preset=flink", "--job_endpoint=localhost:8099")
    check("--runner=FlinkRunner", "--environment_type=LOOPBACK")  # Flink in Beam's job server, to try it


ON_DATAFLOW = ("--preset=dataflow", "--project=p", "--region=r", "--temp_location=gs://photos/tmp")


@pytest.mark.parametrize("scheme", ["s3", "az"])
@pytest.mark.parametrize("flag", ["input", "output"])
def test_workers_need_the_client_of_a_bucket(scheme, flag):
    def check(*argv):
        flags = {"input": "gs://photos/**", "output": "gs://photos/out", flag: f"{scheme}://photos/a"}
        config, others = options.parse([*(f"--{name}={value}" for name, value in flags.items()), *argv])
        job_checks.check(pipeline_options.beam_options(others, parser.known_flags(), config.runs_on), config)

    with pytest.raises(
        ValueError, match=f"--{flag} '{scheme}://photos/a' needs a client .* --sdk_container_image IMAGE"
    ):
        check(*ON_DATAFLOW, "--setup_file=setup.py")
    check(*ON_DATAFLOW, "--sdk_container_image=image")


def test_workers_need_the_client_of_a_model_s_bucket(model):
    def check(location, *argv):
        config, others = options.parse(["--input=gs://photos/**", "--output=gs://photos/out", *ON_DATAFLOW, *argv])
        beam_options = pipeline_options.beam_options(others, parser.known_flags(), config.runs_on)
        job_checks.check_location(beam_options, dataclasses.replace(model, location=location))

    with pytest.raises(ValueError, match="needs a client"):
        check("s3://photos/model", "--setup_file=setup.py")
    with pytest.raises(ValueError, match="is on this machine"):
        check("/models/mine", "--setup_file=setup.py")
    for location in ("gs://photos/model", ""):
        check(location, "--setup_file=setup.py")
    check("s3://photos/model", "--sdk_container_image=image")
