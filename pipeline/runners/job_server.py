"""Flags of a job server: the server lists the flags that it accepts, and Beam passes them on."""

from collections.abc import Container, Iterable

import grpc
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
from apache_beam.portability.api import beam_job_api_pb2
from apache_beam.runners.portability.job_server import ExternalJobServer

from pipeline.runners import traits


def flags(options: PipelineOptions) -> Container[str] | None:
    """Returns the flags of the job server that a job goes to.

    None means that they are unknown: Beam starts the job server together with the job.

    Raises:
      ValueError: if no job server answers at --job_endpoint.
    """
    runner = traits.runner(options)
    if runner not in ("FlinkRunner", "SparkRunner", "PortableRunner"):
        return ()
    portable = options.view_as(PortableOptions)
    endpoint, timeout = portable.job_endpoint, portable.job_server_timeout
    if not endpoint or endpoint == "embed":
        return None if runner != "PortableRunner" else ()
    try:
        server = ExternalJobServer(endpoint, timeout).start()
        request = beam_job_api_pb2.DescribePipelineOptionsRequest()
        response = server.DescribePipelineOptions(request, timeout=timeout)
    except (grpc.RpcError, grpc.FutureTimeoutError) as error:
        raise ValueError(f"no job server answers at --job_endpoint {endpoint!r} within {timeout} s") from error
    return {f"--{option.name}" for option in response.options}


def first_unknown(unknown: Iterable[str], known: Container[str]) -> str | None:
    """Returns the first argument that is neither a known flag nor the value of one; None if there is none."""
    takes_value = False
    for argument in unknown:
        if not (takes_value and not argument.startswith("--")) and argument.partition("=")[0] not in known:
            return argument
        takes_value = argument.startswith("--") and "=" not in argument
    return None
