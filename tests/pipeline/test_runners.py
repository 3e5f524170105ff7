"""pipeline.runners: defaults under the user's flags, and flags that are nobody's."""

import os

import pytest
from apache_beam.options.pipeline_options import DirectOptions, StandardOptions

from pipeline import options, runners


def beam_options(*argv):
    return runners.beam_options(argv, options.known_flags())


def test_without_a_runner_it_is_one_process_with_a_thread_a_core():
    found = beam_options()
    assert found.view_as(StandardOptions).runner == runners.LOCAL_RUNNER
    assert found.view_as(DirectOptions).direct_num_workers == os.cpu_count()
    assert found.view_as(DirectOptions).direct_running_mode == "multi_threading"
    assert runners.is_local(found) and not runners.shares_model_across_processes(found)


def test_the_users_flags_win():
    found = beam_options("--direct_num_workers", "1", "--direct_running_mode=multi_processing")
    assert found.view_as(DirectOptions).direct_num_workers == 1
    assert not runners.is_local(found) and runners.shares_model_across_processes(found)


@pytest.mark.parametrize(
    ("argv", "shares"),
    [
        (["--runner=DataflowRunner"], True),
        (["--runner=DataflowRunner", "--experiments=no_use_multiple_sdk_containers"], False),
        (["--runner=FlinkRunner", "--environment_type=LOOPBACK"], False),
        (["--runner=PrismRunner"], False),
    ],
)
def test_processes_of_a_machine_share_a_model(argv, shares):
    found = beam_options(*argv)
    assert not runners.is_local(found)
    assert runners.shares_model_across_processes(found) is shares


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (
            ["--bacth_size=3"],
            "'--bacth_size' is neither a flag of this command nor of Beam; did you mean --batch_size?",
        ),
        (["--direct_num_worker", "3"], "did you mean --direct_num_workers?"),
        (["photos/a.jpg"], "'photos/a.jpg' is neither a flag of this command nor of Beam; see --help"),
        (["--direct_num_workers=many"], "argument --direct_num_workers: invalid int value: 'many'"),
    ],
)
def test_wrong_flags(argv, said):
    with pytest.raises(ValueError, match="flag|invalid") as raised:
        beam_options(*argv)
    assert said in str(raised.value)
