"""pipeline.runners.job_checks: jobs that a runner could not run. What Dataflow asks for is in test_dry_run.py."""

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
