"""pipeline.runners.pipeline_options: defaults under the user's flags, and flags that are nobody's."""

import threading
from concurrent.futures import ThreadPoolExecutor

import apache_beam as beam
import grpc
import pytest
from apache_beam.options.pipeline_options import DirectOptions, StandardOptions
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

from pipeline.flags import parser
from pipeline.flags.options import RunsOn
from pipeline.runners import pipeline_options, traits
from pipeline.runners.presets import LOCAL_RUNNER
from pipeline.runners.traits import RunnerTraits
from transforms.concurrent.cores import usable_cores


def beam_options(*argv):
    return pipeline_options.beam_options(argv, parser.known_flags())


def test_without_a_runner_it_is_one_process_with_a_thread_a_core():
    found = beam_options()
    assert found.view_as(StandardOptions).runner == LOCAL_RUNNER
    assert found.view_as(DirectOptions).direct_num_workers == max(2, usable_cores())
    assert found.view_as(DirectOptions).direct_running_mode == "in_memory"
    assert traits.of(found, RunsOn()) == RunnerTraits(shares_model=False, in_packs=True)


_BOTH = threading.Barrier(2)


def test_each_view_of_the_options_is_made_once_and_shows_what_is_set_later():
    """Beam parses the flags again for each view that it makes, and asks for a thousand of them for a graph."""
    of_job = beam_options("--direct_num_workers=1")
    view = of_job.view_as(DirectOptions)
    assert of_job.view_as(DirectOptions) is view
    view.direct_num_workers = 3
    assert of_job.get_all_options()["direct_num_workers"] == 3
    copy = beam.Pipeline(options=of_job)._options  # Beam copies them for each pipeline
    copy.view_as(DirectOptions).direct_num_workers = 4
    assert view.direct_num_workers == 3
    assert copy.get_all_options()["direct_num_workers"] == 4


def _meet(_):
    _BOTH.wait(30)


def test_two_bundles_run_at_once():
    with beam.Pipeline(options=beam_options("--direct_num_workers=2")) as pipeline:
        _ = pipeline | beam.Create(["this", "that"]) | beam.Reshuffle() | beam.Map(_meet)


def test_the_users_flags_win():
    found = beam_options("--direct_num_workers", "1", "--direct_running_mode=multi_processing")
    assert found.view_as(DirectOptions).direct_num_workers == 1
    assert traits.of(found, RunsOn()) == RunnerTraits(shares_model=True, in_packs=False)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (
            ["--bacth_size=3"],
            "'--bacth_size' is neither a flag of this command nor of Beam; did you mean --batch_size?",
        ),
        (["--direct_num_worker", "3"], "did you mean --direct_num_workers?"),
        (["--bcth"], "'--bcth' is neither a flag of this command nor of Beam; see --help"),
        (
            ["photos/a.jpg", "photos/b.jpg"],
            "'photos/a.jpg' is neither a flag of this command nor of Beam; quote a pattern, or the shell replaces it "
            "by the names of files: --input 'photos/*.jpg'",
        ),
        (["--direct_num_workers=many"], "argument --direct_num_workers: invalid int value: 'many'"),
    ],
)
def test_wrong_flags(argv, said):
    with pytest.raises(ValueError, match="flag|invalid") as raised:
        beam_options(*argv)
    assert said in str(raised.value)


class _JobServer(beam_job_api_pb2_grpc.JobServiceServicer):
    def DescribePipelineOptions(self, request, context):  # noqa: N802 - gRPC's name
        option = beam_job_api_pb2.PipelineOptionDescriptor(name="execution_mode_for_batch")
        return beam_job_api_pb2.DescribePipelineOptionsResponse(options=[option])


@pytest.fixture(scope="module")
def endpoint():
    server = grpc.server(ThreadPoolExecutor(1))
    beam_job_api_pb2_grpc.add_JobServiceServicer_to_server(_JobServer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"--job_endpoint=127.0.0.1:{port}"
    server.stop(0)


@pytest.mark.parametrize("runner", ["FlinkRunner", "SparkRunner", "PortableRunner"])
@pytest.mark.parametrize(
    "given", [["--execution_mode_for_batch=BATCH"], ["--execution_mode_for_batch", "BATCH"]], ids=["one", "two"]
)
def test_flags_that_only_the_job_server_knows_are_handed_on(endpoint, runner, given):
    found = beam_options(f"--runner={runner}", endpoint, *given)
    # As Beam does, once it has asked the job server.
    handed_on = found.get_all_options(add_extra_args_fn=lambda parser: parser.add_argument(given[0].split("=")[0]))
    assert handed_on["execution_mode_for_batch"] == "BATCH"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--execution_mode=BATCH"], "'--execution_mode' is neither"),
        (["--execution_mode_for_batch=BATCH", "PIPELINED"], "'PIPELINED' is neither"),
        (["--execution_mode_for_batch", "BATCH", "PIPELINED"], "'PIPELINED' is neither"),
        (["--bacth_size=3"], "did you mean --batch_size?"),
    ],
)
def test_what_the_job_server_does_not_know_either(endpoint, argv, said):
    with pytest.raises(ValueError, match="neither a flag of this command nor of Beam") as raised:
        beam_options("--runner=FlinkRunner", endpoint, *argv)
    assert said in str(raised.value)


def test_flags_for_a_job_server_that_is_not_there():
    given = ["--runner=FlinkRunner", "--execution_mode_for_batch=BATCH"]
    assert beam_options(*given)  # Beam starts one with the job
    with pytest.raises(ValueError, match="did you mean --batch_size"):
        beam_options(*given[:1], "--bacth_size=3")
    with pytest.raises(ValueError, match=r"no job server answers at --job_endpoint '127.0.0.1:1' within 1 s"):
        beam_options(*given, "--job_endpoint=127.0.0.1:1", "--job_server_timeout=1")
