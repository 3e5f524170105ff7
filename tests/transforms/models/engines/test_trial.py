"""transforms.models.engines.trial: a first call of a model, and how it begins."""

import dataclasses

import keras
import numpy as np
import pytest

from tests.helpers import onnx_models
from transforms.models.engines import trial
from transforms.models.preprocessing import Choices, of_range
from transforms.models.resolve import resolve

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 3), np.uint8)


def test_vectors_in_float32_whatever_the_precision_is(tmp_path):
    spec = resolve(str(onnx_models.write(tmp_path / "m.onnx")), Choices((6, 5)).over(of_range("0..255")))
    expected = onnx_models.vectors(PIXELS, 1)
    for precision in ("float32", "bfloat16"):
        vectors = trial.embed(dataclasses.replace(spec, precision=precision), PIXELS)
        np.testing.assert_allclose(vectors, expected, rtol=1e-5, atol=1e-4)
    assert trial.rescaling(spec) is None


@pytest.mark.parametrize("scale", [1 / 255, None])
def test_a_keras_file_tells_its_rescaling(tmp_path, scale):
    rescaling = [keras.layers.Rescaling(scale)] if scale else []
    layers = [keras.Input((6, 5, 3)), *rescaling, keras.layers.GlobalAveragePooling2D()]
    keras.Sequential(layers).save(tmp_path / "m.keras")
    spec = resolve(str(tmp_path / "m.keras"))
    assert trial.rescaling(spec) == (pytest.approx(scale) if scale else None)
    np.testing.assert_allclose(trial.embed(spec, PIXELS), PIXELS.mean(axis=(1, 2)) / 255 * (scale or 1), rtol=1e-4)
