"""Beam's pool of external workers, on one address: `python -m deploy.flink.worker_pool HOST:PORT`.

Beam's own command, `python -m apache_beam.runners.worker.worker_pool_main`, listens on all addresses of a machine.
TaskManagers use the same names for their workers, so two TaskManagers that share a pool stop each other's workers. All
TaskManagers get the same port. So on one machine, each needs a pool on an address of its own.
"""

import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from apache_beam.portability.api import beam_fn_api_pb2_grpc
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer


def main(address: str) -> None:
    """Serves until a signal ends the process; its workers are in the same process group."""
    server = grpc.server(ThreadPoolExecutor(8))
    pool = BeamFnExternalWorkerPoolServicer(use_process=True)
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    server.add_insecure_port(address)
    server.start()
    signal.pause()


if __name__ == "__main__":
    main(sys.argv[1])
