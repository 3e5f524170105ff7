"""Servers of S3 and Azure Blob Storage for tests, as `emulators` has them for Google Cloud.

They differ from the services, and from each other. versitygw keeps objects as files: `a//b`, `./a` and `/a` become
`a/b` and `a`, `a` and `a/b` cannot both exist, and \\x01 is listed as U+FFFD. moto keeps every name but those with line
feeds; it checks no signatures, and ignores the conditions of copies. Azurite has no versions.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.emulators import environment, free_port, wait_for
from transforms.storage import stores

_ROOT = Path(__file__).parents[2]

# Azurite's only account, https://learn.microsoft.com/azure/storage/common/storage-use-azurite
_ACCOUNT = "devstoreaccount1"
_ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

_AWS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test-secret"}


def versitygw_program() -> str | None:
    """Returns the path of versitygw: the variable VERSITYGW, or on the PATH. None if there is none."""
    return os.environ.get("VERSITYGW") or shutil.which("versitygw")


def azurite_program() -> str | None:
    """Returns the path of azurite-blob: the variable AZURITE, or on the PATH. None if there is none."""
    return os.environ.get("AZURITE") or shutil.which("azurite-blob")


@contextlib.contextmanager
def s3_server(directory: Path) -> Iterator[dict[str, str]]:
    """Starts versitygw over an empty directory, or moto without it; yields the environment for clients."""
    with versitygw(directory) if versitygw_program() else moto(directory) as found:
        yield found


@contextlib.contextmanager
def versitygw(directory: Path, *flags: str) -> Iterator[dict[str, str]]:
    """Starts versitygw over a directory; yields the environment under which clients of S3 find it.

    Args:
      directory: for its log, and `buckets`, where each directory is a bucket and each file an object.
      flags: further ones, before the name of its backend: `--cert=FILE`, `--key=FILE`.
    """
    program = versitygw_program()
    assert program, "no versitygw: put it on the PATH, or its path into the variable VERSITYGW (tests/README.md)"
    (directory / "buckets").mkdir(exist_ok=True)
    port = free_port()
    # Clients would otherwise make a connection for each request.
    address = [f"--port=127.0.0.1:{port}", "--keep-alive", "--quiet"]
    root = {"ROOT_ACCESS_KEY": _AWS["AWS_ACCESS_KEY_ID"], "ROOT_SECRET_KEY": _AWS["AWS_SECRET_ACCESS_KEY"]}
    command = [program, *address, *flags, "posix", directory / "buckets"]
    scheme = "https" if any(flag.startswith("--cert") for flag in flags) else "http"
    with _started(command, directory / "log", port, root):
        yield _s3_environment(f"{scheme}://127.0.0.1:{port}")


@contextlib.contextmanager
def moto(directory: Path) -> Iterator[dict[str, str]]:
    """Starts moto's S3 in memory, one request at a time; yields the environment for clients.

    Args:
      directory: for its log.
    """
    port = free_port()
    command = [sys.executable, "-m", "tests.helpers.moto_server", str(port)]
    with _started(command, directory / "log", port):
        yield _s3_environment(f"http://127.0.0.1:{port}")


@contextlib.contextmanager
def azurite(directory: Path) -> Iterator[dict[str, str]]:
    """Starts Azurite's blob service over a directory; yields the environment under which clients find it."""
    program = azurite_program()
    assert program, "no Azurite: put azurite-blob on the PATH, or its path into the variable AZURITE (tests/README.md)"
    port = free_port()
    # Clients are newer than what it knows of the API.
    flags = ["--silent", "--disableTelemetry", "--skipApiVersionCheck", f"--location={directory}"]
    command = [program, "--blobHost=127.0.0.1", f"--blobPort={port}", *flags]
    endpoint = f"http://127.0.0.1:{port}/{_ACCOUNT}"
    with _started(command, directory / "log", port):
        account = f"AccountName={_ACCOUNT};AccountKey={_ACCOUNT_KEY};BlobEndpoint={endpoint};"
        yield {"AZURE_STORAGE_CONNECTION_STRING": f"DefaultEndpointsProtocol=http;{account}"}


@contextlib.contextmanager
def _started(command: list, log: Path, port: int, variables: dict[str, str] | None = None) -> Iterator[None]:
    with log.open("wb") as file:
        server = subprocess.Popen(command, stdout=file, stderr=file, cwd=_ROOT, env=environment(variables or {}))
    try:
        wait_for(port, server)
        yield
    finally:
        server.terminate()
        server.wait(10)


def _s3_environment(url: str) -> dict[str, str]:
    region = dict.fromkeys(("AWS_REGION", "AWS_DEFAULT_REGION"), "us-east-1")
    return {"AWS_ENDPOINT_URL": url, "AWS_ALLOW_HTTP": "true", **region, **_AWS}


@contextlib.contextmanager
def clients_of(environment: dict[str, str | None]) -> Iterator[None]:
    """Points the clients of this process at servers, until the block ends.

    Args:
      environment: name → value of variables; None for one that is not set.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value) if value is not None else patch.delenv(name, raising=False)
        forget_clients()
        yield
    forget_clients()


def forget_clients() -> None:
    """Makes this process look anew for servers and credentials, which each store finds once."""
    for name in ("gcs", "s3", "azure"):
        store = sys.modules.get(f"transforms.storage.stores.{name}")
        for cached in vars(store).values() if store else ():
            if hasattr(cached, "cache_clear"):
                cached.cache_clear()


def make_bucket(path: str) -> None:
    """Makes the bucket of a path, such as s3://photos, on the server at which the clients point."""
    scheme, _, name = path.partition("://")
    client = stores.of(path).client()
    if scheme == "s3":
        client.create_bucket(Bucket=name)
    elif scheme == "az":
        client.create_container(name)
    else:
        client.create_bucket(name)
