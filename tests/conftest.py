"""Fixtures that several test modules share."""

import pytest

from transforms.models import spec as models
from transforms.models.spec import ModelSpec


@pytest.fixture(scope="session")
def model() -> ModelSpec:
    """The bundled model, with its own image size."""
    return models.resolve(models.DEFAULT, None, "stretch")
