"""Fixtures that several test modules share."""

import numpy as np
import pytest

from tests import formula_weights, slim_checkpoints
from transforms.models import checkpoint
from transforms.models import spec as models
from transforms.models.checkpoint import ImportReport
from transforms.models.spec import ModelSpec


@pytest.fixture(scope="session")
def model() -> ModelSpec:
    """The bundled model, with its own image size."""
    return models.bundled(models.DEFAULT, None, "stretch")


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
