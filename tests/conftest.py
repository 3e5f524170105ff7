"""Fixtures that several test modules share."""

import dataclasses
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import formula_weights, slim_checkpoints
from tests.emulators import bigquery_emulator, storage_emulator
from transforms.models import catalog
from transforms.models.slim import checkpoint
from transforms.models.slim.checkpoint import ImportReport
from transforms.models.spec import ModelSpec


def pytest_configure() -> None:
    # What a shell starts in the background ignores interruptions, and so would the commands that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def kept_models(tmp_path_factory) -> Iterator[Path]:
    """Where tests, and what they start, keep what they find out about models; large, so gone with them."""
    with pytest.MonkeyPatch.context() as patch:
        directory = tmp_path_factory.mktemp("kept")
        patch.setenv("BEAM_IMAGE_EMBEDDINGS_CACHE", str(directory))
        yield directory
        shutil.rmtree(directory)


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
    from apache_beam.io.gcp.internal.clients.bigquery import BigqueryV2

    directory = tmp_path_factory.mktemp("storage")
    with (
        storage_emulator(directory) as storage,
        bigquery_emulator(tmp_path_factory.mktemp("bigquery"), directory) as bigquery,
        pytest.MonkeyPatch.context() as patch,
    ):
        environment = storage | bigquery
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(BigqueryV2, "BASE_URL", f"{environment['BIGQUERY_EMULATOR_HOST']}/bigquery/v2/")
        _forget_clients()
        yield Cloud(environment, directory / ".cloudstorage")
    _forget_clients()


def _forget_clients() -> None:
    """Makes this process look anew for servers and credentials, which are found once."""
    from apache_beam.internal.gcp.auth import _Credentials

    from pipeline.warehouse import tables
    from transforms.storage import gcs

    _Credentials._credentials_init = False
    gcs.client.cache_clear()
    tables.client.cache_clear()


@pytest.fixture(scope="session")
def model() -> ModelSpec:
    """The bundled model, with its own image size."""
    return catalog.bundled(catalog.DEFAULT, None, "stretch")


def _written(tmp_path_factory, network, version):
    """A checkpoint with what a released one has beside the network: the auxiliary head, if any, and the global step."""
    arrays = formula_weights.weights(formula_weights.variables(network)) | {"global_step": np.int64(1234)}
    return slim_checkpoints.write(tmp_path_factory.mktemp(network) / f"{network}.ckpt", arrays, version)


@pytest.fixture(scope="session")
def inception_resnet_v2(tmp_path_factory) -> ImportReport:
    """The feature vectors of Inception-ResNet V2, from a checkpoint in the V1 format, as it was released."""
    path = _written(tmp_path_factory, "inception_resnet_v2", slim_checkpoints.V1)
    report = checkpoint.import_checkpoint("inception_resnet_v2", path, path.parent / "model")
    path.unlink()  # a quarter of a gigabyte
    return report


@pytest.fixture(scope="session")
def inception_resnet_v2_classifier(tmp_path_factory) -> ImportReport:
    """The classifier of Inception-ResNet V2."""
    path = _written(tmp_path_factory, "inception_resnet_v2", slim_checkpoints.V2)
    return checkpoint.import_checkpoint(
        "inception_resnet_v2", path, path.parent / "classifier", checkpoint.CLASSIFICATION
    )


@pytest.fixture(scope="session")
def inception_v2(tmp_path_factory) -> dict[str, ImportReport]:
    """Both heads of Inception V2, from a checkpoint in the V2 format."""
    path = _written(tmp_path_factory, "inception_v2", slim_checkpoints.V2)
    return {
        head: checkpoint.import_checkpoint("inception_v2", path, path.parent / head, head) for head in checkpoint.HEADS
    }
