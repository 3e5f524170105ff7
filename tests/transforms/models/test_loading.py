"""transforms.models.loading: pixels in, vectors out, from any thread."""

import concurrent.futures
import dataclasses

import numpy as np
import pytest

from transforms.models import loading, spec


@pytest.fixture(scope="module")
def loaded(model):
    return loading.load(model)


def test_shapes_and_types(loaded):
    for count in (1, 2, 7):
        vectors = loaded(np.zeros((count, 224, 224, 3), np.uint8))
        assert vectors.shape == (count, 1280) and vectors.dtype == np.float32


def test_another_image_size():
    model = loading.load(spec.bundled("efficientnet_lite0", (96, 160), "stretch"))
    assert model(np.zeros((2, 96, 160, 3), np.uint8)).shape == (2, 1280)


def test_threads_share_a_model(loaded):
    batches = [np.random.default_rng(i).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8) for i in range(8)]
    expected = [loaded(batch) for batch in batches]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for found, alone in zip(pool.map(loaded, batches), expected, strict=True):
            np.testing.assert_allclose(found, alone, rtol=0, atol=2e-5 * np.abs(alone).max())  # order of float32 sums


def test_every_known_name_has_a_loader():
    for name in spec.BUNDLED:
        assert name in loading._BUNDLED


def test_weights_that_are_a_pickle_are_refused(model, tmp_path, monkeypatch):
    np.savez(tmp_path / "evil.npz", stem=np.array([{"a": 1}], object))
    monkeypatch.setattr(spec, "_WEIGHTS", tmp_path)
    monkeypatch.setitem(spec.BUNDLED, model.name, dataclasses.replace(spec.BUNDLED[model.name], weights="evil.npz"))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        loading.load(model)
