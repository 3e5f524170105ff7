"""runners.job_server: which runners have one to ask, and whose an argument is. test_pipeline_options.py asks one."""

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.runners import job_server


@pytest.mark.parametrize(
    ("argv", "flags"),
    [
        (["--runner=DirectRunner"], ()),
        (["--runner=DataflowRunner", "--job_endpoint=127.0.0.1:1"], ()),
        (["--runner=FlinkRunner"], None),  # Beam starts one with the job
        (["--runner=SparkRunner", "--job_endpoint=embed"], None),
        (["--runner=apache_beam.runners.portability.flink_runner.FlinkRunner"], None),
        (["--runner=PortableRunner"], ()),
        (["--runner=PortableRunner", "--job_endpoint=embed"], ()),
    ],
    ids=repr,
)
def test_where_nobody_is_asked(argv, flags):
    assert job_server.flags(PipelineOptions(argv)) == flags


@pytest.mark.parametrize(
    ("argv", "unknown"),
    [
        ([], None),
        (["--known"], None),
        (["--known=x", "--known", "x"], None),
        (["--known", "x", "y"], "y"),
        (["--known=x", "y"], "y"),
        (["x", "--known"], "x"),
        (["--known", "--other=x", "--third"], "--other=x"),
        (["--known", "-1"], None),
    ],
    ids=repr,
)
def test_the_first_argument_that_is_neither_a_flag_nor_its_value(argv, unknown):
    assert job_server.first_unknown(argv, {"--known"}) == unknown
