"""pipeline.runners.traits: what the graph has to know of a runner."""

import pytest

from pipeline.flags import options
from pipeline.flags.options import RunsOn
from pipeline.runners import pipeline_options, traits
from pipeline.runners.traits import RunnerTraits


@pytest.mark.parametrize(
    ("argv", "shares"),
    [
        (["--runner=DataflowRunner"], True),
        (["--runner=DataflowRunner", "--experiments=no_use_multiple_sdk_containers"], False),
        # A TaskManager's worker is one process, unless it is told otherwise.
        (["--runner=FlinkRunner", "--environment_type=EXTERNAL"], False),
        (["--runner=FlinkRunner", "--environment_type=EXTERNAL", "--sdk_worker_parallelism=4"], True),
        (["--runner=FlinkRunner", "--environment_type=LOOPBACK", "--sdk_worker_parallelism=4"], False),
        (["--runner=PrismRunner"], False),
    ],
)
def test_processes_of_a_machine_share_a_model(argv, shares):
    found = pipeline_options.beam_options(argv, ())
    assert not traits.is_local(found) and not traits.is_on_this_machine(found)
    assert traits.of(found, RunsOn()) == RunnerTraits(shares)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--output=/o --output_table=p1:d.t --temp_location=gs://b/temp/", "gs://b/temp"),
        ("--output=gs://b/o --output_table=p1:d.t", "gs://b/o/.temp"),
        ("--output=/o --output_table=p1:d.t --temp_location=/temp", None),
        ("--output_table=p1:d.t", None),
        ("--output=gs://b/o --temp_location=gs://b/temp", None),
    ],
)
def test_rows_for_a_table_are_loaded_from_cloud_storage(flags, expected):
    config, others = options.parse(flags.split())
    assert traits.temp_location(pipeline_options.beam_options(others, ()), config) == expected
