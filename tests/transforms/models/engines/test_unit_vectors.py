"""transforms.models.engines.unit_vectors: vectors of length 1."""

import dataclasses

import numpy as np

from tests.helpers import onnx_models
from transforms.models.engines import loading, unit_vectors
from transforms.models.preprocessing import Choices
from transforms.models.resolve import resolve


def test_a_vector_of_zeros_stays():
    vectors = np.array([[3, 4], [0, 0], [1e-30, 0], [1e30, 1e30]], np.float32)
    scaled = unit_vectors.scaled(vectors)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, [[0.6, 0.8], [0, 0], [1, 0], [0.5**0.5, 0.5**0.5]], rtol=1e-6)


def test_a_component_that_is_not_finite_does_not_become_finite():
    scaled = unit_vectors.scaled(np.array([[np.nan, 1], [np.inf, 1]], np.float32))
    assert (~np.isfinite(scaled)).any(axis=1).all()


def test_a_model_of_unit_vectors(tmp_path):
    file = str(onnx_models.write(tmp_path / "m.onnx"))
    plain, unit = (resolve(file, Choices((6, 5)), normalize=normalize) for normalize in (False, True))
    assert unit == dataclasses.replace(plain, normalize=True, digest=unit.digest) and unit.digest != plain.digest
    pixels = np.random.default_rng(0).integers(1, 256, (3, 6, 5, 3), np.uint8)
    vectors = loading.load(plain)(pixels)
    expected = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(loading.load(unit)(pixels), expected, rtol=1e-6)


def test_the_lengths_of_large_numbers_do_not_overflow():
    scaled = unit_vectors.scaled(np.array([[3e38, 3e38], [1e-40, 1e-40]], np.float32))
    np.testing.assert_allclose(np.linalg.norm(scaled.astype(np.float64), axis=1), 1, rtol=1e-6)  # float32
