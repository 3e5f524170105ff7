"""Real servers for tests, each on a free port of 127.0.0.1, started and stopped by the fixture that asks for it."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

# A busy machine may take long to start a server.
_PATIENCE_SECONDS = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def write_credentials(directory: Path) -> Path:
    """Writes credentials.json with a token that is never refreshed, and returns its path.

    Without it each client would look for a metadata server first, for 20 s.
    """
    credentials = directory / "credentials.json"
    token = {"type": "authorized_user", "token": "emulator", "expiry": "2099-01-01T00:00:00Z"}
    credentials.write_text(json.dumps(token | dict.fromkeys(("client_id", "client_secret", "refresh_token"), "x")))
    return credentials


@contextlib.contextmanager
def storage_emulator(directory: Path) -> Iterator[dict[str, str]]:
    """Starts gcp-storage-emulator over a directory; yields the environment under which clients find it."""
    port = free_port()
    command = [Path(sys.executable).with_name("gcp-storage-emulator"), "-d", directory, "start", "--host=127.0.0.1"]
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen([*command, f"--port={port}"], stdout=log, stderr=log)
    try:
        wait_for(port, server)
        yield {
            "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}",
            "GOOGLE_CLOUD_PROJECT": "test",
            "GOOGLE_APPLICATION_CREDENTIALS": str(write_credentials(directory)),
        }
    finally:
        server.terminate()
        server.wait(10)


@contextlib.contextmanager
def bigquery_emulator(directory: Path, buckets: Path) -> Iterator[dict[str, str]]:
    """Starts bqemulator, with a state of its own; yields the environment under which clients find it.

    Args:
      directory: for its home and log.
      buckets: what a storage emulator was started over, where load jobs find the files of gs:// URIs.
    """
    import duckdb
    import duckdb_extension_avro
    import duckdb_extension_spatial

    # It loads DuckDB's extensions from its home; from PyPI they come as packages.
    home = directory / ".duckdb" / "extensions" / f"v{duckdb.__version__}" / "linux_amd64"
    home.mkdir(parents=True)
    for package in (duckdb_extension_avro, duckdb_extension_spatial):
        for extension in Path(package.__file__).parent.rglob("*.duckdb_extension"):
            (home / extension.name).symlink_to(extension)
    port = free_port()
    command = [Path(sys.executable).with_name("bqemulator"), "start", "--ephemeral", "--project=test"]
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, f"--rest-port={port}", f"--grpc-port={free_port()}"],
            stdout=log,
            stderr=log,
            env=os.environ | {"HOME": str(directory), "BQEMU_GCS_LOCAL_ROOT": str(buckets / ".cloudstorage")},
        )
    try:
        wait_for(port, server)
        yield {"BIGQUERY_EMULATOR_HOST": f"http://127.0.0.1:{port}", "GOOGLE_CLOUD_PROJECT": "test"}
    finally:
        server.terminate()
        server.wait(10)


def environment(extra: dict[str, str]) -> dict[str, str]:
    return os.environ | extra


def wait_for(port: int, server: subprocess.Popen) -> None:
    for _ in range(20 * _PATIENCE_SECONDS):
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with {server.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise TimeoutError(f"the server did not open its port within {_PATIENCE_SECONDS} s")
