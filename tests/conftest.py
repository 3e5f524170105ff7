"""Fixtures that several test modules share."""

import contextlib
import dataclasses
import fcntl
import os
import pickle
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import formula_weights, object_servers, quick_beam, slim_checkpoints
from tests.helpers.emulators import bigquery_emulator, storage_emulator
from transforms.models import catalog
from transforms.models.slim import checkpoint
from transforms.models.slim.checkpoint import ImportReport
from transforms.models.spec import ModelSpec

# Where the processes of one run of the tests, pytest-xdist's workers, share what is slow to make.
_SHARED = "BEAM_IMAGE_EMBEDDINGS_TESTS"

# What takes seconds to make, and so makes slow tests: servers, environments, distributions, large models.
_SLOW_FIXTURES = {
    *("cloud", "postgres", "server", "paging", "storage_url", "bigquery_url", "bigquery_runs"),
    *("s3", "s3_bucket", "azure"),
    *("airflow", "cluster", "dist", "inception_v2", "inception_resnet_v2"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and _SLOW_FIXTURES.intersection(item.fixturenames):
            item.add_marker(pytest.mark.slow)


def pytest_configure(config: pytest.Config) -> None:
    # What a shell starts in the background ignores interruptions, and so would the commands that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    quick_beam.install()
    if not hasattr(config, "workerinput"):  # not a worker: the process that starts them, or the only one
        directory = tempfile.TemporaryDirectory(prefix="image-embeddings-tests-")
        config.add_cleanup(directory.cleanup)
        os.environ[_SHARED] = directory.name


def _made_once(name: str, make: Callable[[Path], Any]) -> Any:
    """Returns what `make` returned in the first process that asked; the others wait for it.

    Args:
      name: of the thing, and of its directory.
      make: fills the directory that it is called with, which lasts as long as the run of the tests.
    """
    directory = Path(os.environ[_SHARED], name)
    result = directory.with_suffix(".pickle")
    with directory.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not result.exists():
            shutil.rmtree(directory, ignore_errors=True)  # of an attempt that failed
            directory.mkdir()
            result.write_bytes(pickle.dumps(make(directory)))
    return pickle.loads(result.read_bytes())  # noqa: S301 - written above


@pytest.fixture(scope="session", autouse=True)
def model_cache() -> Iterator[Path]:
    """The folder in which tests, and the commands that they start, keep converted models; it goes when they end."""
    with pytest.MonkeyPatch.context() as patch:
        directory = Path(os.environ[_SHARED], "models")
        patch.setenv("BEAM_IMAGE_EMBEDDINGS_CACHE", str(directory))
        yield directory


@dataclasses.dataclass(frozen=True)
class Cloud:
    """Emulators of Cloud Storage and BigQuery.

    Attributes:
      environment: what lets a further process find them; this one does already.
      buckets: the folder in which a folder a bucket holds the objects, as files.
    """

    environment: dict[str, str]
    buckets: Path


@pytest.fixture(scope="module")
def cloud(tmp_path_factory) -> Iterator[Cloud]:
    """Both emulators, empty, and this process pointed at them."""
    directory = tmp_path_factory.mktemp("storage")
    with (
        storage_emulator(directory) as storage,
        bigquery_emulator(tmp_path_factory.mktemp("bigquery"), directory) as bigquery,
        point_clients_at(storage | bigquery),
    ):
        yield Cloud(storage | bigquery, directory / ".cloudstorage")


@pytest.fixture(scope="session", params=["versitygw", "moto"])
def s3(request, tmp_path_factory) -> Iterator[dict[str, str]]:
    """The environment of each server of S3: versitygw, if it is installed, and moto."""
    if request.param == "versitygw" and not object_servers.versitygw_program():
        pytest.skip("no versitygw: put it on the PATH or its path into the variable VERSITYGW (tests/README.md)")
    with getattr(object_servers, request.param)(tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.fixture
def s3_bucket(tmp_path_factory) -> Iterator[str]:
    """An empty bucket on a server of its own, at which the clients of this process point."""
    with (
        object_servers.s3_server(tmp_path_factory.mktemp("s3")) as environment,
        object_servers.clients_of(environment),
    ):
        object_servers.make_bucket("s3://photos")
        yield "s3://photos"


@pytest.fixture(scope="session")
def azure(tmp_path_factory) -> Iterator[dict[str, str]]:
    """The environment of Azurite."""
    if not object_servers.azurite_program():
        pytest.skip("no Azurite: put azurite-blob on the PATH or its path into the variable AZURITE (tests/README.md)")
    with object_servers.azurite(tmp_path_factory.mktemp("azure")) as found:
        yield found


@contextlib.contextmanager
def point_clients_at(emulators: dict[str, str]) -> Iterator[None]:
    """Lets the clients of this process find the emulators, until the block ends."""
    from apache_beam.io.gcp.internal.clients.bigquery import BigqueryV2

    with pytest.MonkeyPatch.context() as patch:
        for name, value in emulators.items():
            patch.setenv(name, value)
        patch.setattr(BigqueryV2, "BASE_URL", f"{emulators['BIGQUERY_EMULATOR_HOST']}/bigquery/v2/")
        _forget_clients()
        yield
    _forget_clients()


def _forget_clients() -> None:
    """Makes this process look anew for servers and credentials, which are found once."""
    from apache_beam.internal.gcp.auth import _Credentials

    from pipeline.warehouse import tables
    from transforms.storage.stores import gcs

    _Credentials._credentials_init = False
    gcs.client.cache_clear()
    tables.client.cache_clear()


@pytest.fixture
def plain_beam(monkeypatch) -> None:
    """Lets the runs of a test use Beam as a user does, by a fork server of their own: see `quick_beam`."""
    monkeypatch.setenv(quick_beam.PLAIN, "1")


@pytest.fixture(scope="session")
def model() -> ModelSpec:
    """The bundled model, with its own image size."""
    return catalog.bundled(catalog.DEFAULT)


def _imported(network: str, version: int, *heads: str) -> dict[str, ImportReport]:
    """Imports heads of a network, each once a run of the tests, from a checkpoint of the released one's content.

    That holds what a released one has beside the network: the auxiliary head, if any, and the global step.
    """

    def make(directory: Path) -> dict[str, ImportReport]:
        arrays = formula_weights.weights(formula_weights.variables(network)) | {"global_step": np.int64(1234)}
        path = slim_checkpoints.write(directory / f"{network}.ckpt", arrays, version)
        reports = {head: checkpoint.import_checkpoint(network, path, directory / head, head) for head in heads}
        for file in directory.glob(f"{path.name}*"):  # a quarter of a gigabyte
            file.unlink()
        return reports

    return _made_once("-".join([network, *heads]), make)


@pytest.fixture(scope="session")
def inception_resnet_v2() -> ImportReport:
    """The feature vectors of Inception-ResNet V2, from a checkpoint in the V1 format, as it was released."""
    return _imported("inception_resnet_v2", slim_checkpoints.V1, checkpoint.FEATURE_VECTOR)[checkpoint.FEATURE_VECTOR]


@pytest.fixture(scope="session")
def inception_v2() -> dict[str, ImportReport]:
    """Both heads of Inception V2, from a checkpoint in the V2 format."""
    return _imported("inception_v2", slim_checkpoints.V2, *checkpoint.HEADS)
