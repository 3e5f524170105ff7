"""Processor time of a client's process for one GET in 16 threads, by client, protocol and size of the object.

`python -m benchmarks.buckets --only gets` measures it against fake-gcs-server on another core. A client runs in a
process of its own: `python -m benchmarks.gets CLIENT COUNT`.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import bucket_servers, machine, measures, photographs
from benchmarks.models import ROOT
from benchmarks.table import aligned

_THREADS = 16
_OBJECTS = 200
_WARM = 400  # GETs that open connections and are not counted
_ROUNDS = 3
# Bytes → counted GETs. The objects are thumbnails and photographs, filled up or cut to these sizes.
_SIZES = {1_300: 6000, 114_000: 3000}
_CLIENTS = ("google-cloud-storage", "obstore", "ours")

Measured = dict[tuple[str, str, int], list[float]]


def measure(cache: Path, scratch: Path) -> Measured:
    """Returns client, protocol, size → milliseconds of processor time for a GET, one for each round."""
    measured: Measured = {}
    for size, count in _SIZES.items():
        files, servers = scratch / f"{size}", scratch / f"servers-{size}"
        files.mkdir()
        servers.mkdir()
        for number, path in enumerate(
            photographs.make(cache / photographs.THUMBNAILS, _OBJECTS, photographs.THUMBNAIL)
        ):
            content = path.read_bytes() + number.to_bytes(4, "big") * size
            (files / path.name).write_bytes(content[:size])
        with bucket_servers.started(files, servers) as sources:
            for _ in range(_ROUNDS):
                for source in sources:
                    if source.name.startswith("gs"):
                        for client in _CLIENTS:
                            key = client, source.name.removeprefix("gs "), size
                            measured.setdefault(key, []).append(_of_process(client, count, source))
    return measured


def table(measured: Measured) -> list[str]:
    """Returns the lines of the table."""
    columns = sorted({(protocol, size) for _, protocol, size in measured}, key=lambda column: column[::-1])
    head = ("GET", *(f"{protocol}, {size / 1000:g} kB" for protocol, size in columns), "")
    cells: list[tuple[str, ...]] = [head]
    for client in _CLIENTS:
        spreads = [measures.spread(measured[client, *column]) for column in columns]
        cells.append((client, *(f"{each.median:.2f}" if each else "–" for each in spreads), ""))
    title = f"processor time of the client's process for one GET, {_THREADS} threads, ms, median of {_ROUNDS}"
    return [title, "", *aligned(cells)]


def _of_process(client: str, count: int, source: bucket_servers.Source) -> float:
    command = [*machine.on_cores(1), sys.executable, "-m", "benchmarks.gets", client, str(count)]
    environment = os.environ | source.variables
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout.splitlines()[-1])


def _google_cloud_storage() -> Iterator[Callable[[], bytes]]:
    import requests
    from google.cloud import storage

    client = storage.Client()
    for scheme in ("http://", "https://"):
        client._http.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=_THREADS))
    for blob in client.list_blobs(bucket_servers.BUCKET):
        yield blob.download_as_bytes


def _obstore() -> Iterator[Callable[[], bytes]]:
    import functools

    import obstore
    from obstore.store import GCSStore

    options = {"allow_http": True, "root_certificate": Path(os.environ["SSL_CERT_FILE"]).read_bytes()}
    config = {"base_url": os.environ["STORAGE_EMULATOR_HOST"], "skip_signature": True}
    store = GCSStore(bucket_servers.BUCKET, config=config, client_options=options)

    def get(name: str, generation: str) -> bytes:
        return bytes(obstore.get(store, name, options={"version": generation}).bytes())

    for name, generation, _ in _listed():
        yield functools.partial(get, name, generation)


def _ours() -> Iterator[Callable[[], bytes]]:
    import functools

    from transforms.elements.records import ImageRef
    from transforms.storage import read_image
    from transforms.storage.context import DEFAULT_STORAGE

    def read(ref: ImageRef) -> bytes:
        return read_image.read(DEFAULT_STORAGE, ref).encoded

    for name, generation, size in _listed():
        ref = ImageRef(f"gs://{bucket_servers.BUCKET}/{name}".encode(), generation, size)
        yield functools.partial(read, ref)


def _listed() -> Iterator[tuple[str, str, int]]:
    from google.cloud import storage

    for blob in storage.Client().list_blobs(bucket_servers.BUCKET):
        yield blob.name, str(blob.generation), blob.size


_GETS = dict(zip(_CLIENTS, (_google_cloud_storage, _obstore, _ours), strict=True))


def _main(client: str, count: int) -> None:
    objects = list(_GETS[client]())
    if len({len(objects[0]())}) != 1:
        raise ValueError("no object")
    with ThreadPoolExecutor(_THREADS) as pool:
        for number in (_WARM, count):
            began = time.process_time()
            for _ in pool.map(lambda i: len(objects[i % len(objects)]()), range(number)):
                pass
            seconds = time.process_time() - began
    print(json.dumps(1000 * seconds / count))


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
