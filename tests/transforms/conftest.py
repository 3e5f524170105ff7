"""Fixtures of the stages' tests."""

import pytest

from tests.helpers.cloud_storage import clients_of, paging_server, proxy
from tests.helpers.emulators import storage_emulator
from transforms.storage.stores import gcs


@pytest.fixture
def server(tmp_path_factory, monkeypatch):
    """A proxy in front of gcp-storage-emulator with the bucket `photos`, to which the client of this process goes."""
    with (
        storage_emulator(tmp_path_factory.mktemp("server")) as found,
        proxy(found["STORAGE_EMULATOR_HOST"]) as front,
        clients_of(monkeypatch, front.url),
    ):
        yield _with_bucket(front)


@pytest.fixture
def paging(monkeypatch):
    """The same in front of fake-gcs-server, which pages and knows generations."""
    with paging_server() as url, proxy(url) as front, clients_of(monkeypatch, front.url):
        yield _with_bucket(front)


def _with_bucket(front):
    gcs.client().create_bucket("photos")
    gcs.client.cache_clear()  # this one knows of the bucket, and would ask for it after each 404
    front.requests.clear()
    return front
