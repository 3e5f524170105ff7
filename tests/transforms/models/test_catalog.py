"""transforms.models.catalog: names, what they stand for, and the weights in the package."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from transforms.models import catalog
from transforms.models.preprocessing import Choices


def test_the_default():
    found = catalog.bundled("efficientnet_lite0")
    assert (found.name, found.format, found.dimension, found.image_size, found.precision) == (
        "efficientnet_lite0",
        "bundled",
        1280,
        (224, 224),
        "float32",
    )
    assert len(found.digest) == 64 and int(found.digest, 16)


def test_the_digest_covers_the_preprocessing():
    digests = {
        catalog.bundled("efficientnet_lite0", Choices(image_size=size, resize_mode=mode)).digest
        for size in (None, (240, 240), (240, 224))
        for mode in ("stretch", "crop", "pad")
    }
    assert len(digests) == 9
    same = catalog.bundled("efficientnet_lite0", Choices(image_size=(224, 224))).digest
    assert same == catalog.bundled("efficientnet_lite0").digest


def test_a_size_too_small_for_the_network():
    with pytest.raises(ValueError, match="image_size=16x224: expected at least 32 pixels"):
        catalog.bundled("efficientnet_lite0", Choices(image_size=(16, 224)))


def test_the_weights_fit_the_package():
    assert catalog.weights_file("efficientnet_lite0").stat().st_size <= 10 * 10**6


def test_a_bundled_model_is_resolved_without_tensorflow():
    code = (
        "import sys; from transforms.models.resolve import resolve; resolve('efficientnet_lite0'); "
        "assert not {'tensorflow', 'apache_beam'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "module", "size"),
    [
        ("inception_resnet_v2", "inception_resnet_v2/feature_vector/4", 299),
        ("inception_resnet_v2/3", "inception_resnet_v2/feature_vector/3", 299),
        ("inception_resnet_v2/1", "inception_resnet_v2/feature_vector/1", 299),
        ("inception_v2", "inception_v2/feature_vector/1", 224),
        ("inception_resnet_v2/classification", "inception_resnet_v2/classification/4", 299),
        ("inception_resnet_v2/classification/3", "inception_resnet_v2/classification/3", 299),
        ("inception_resnet_v2/classification/1", "inception_resnet_v2/classification/1", 299),
        ("inception_v2/classification", "inception_v2/classification/1", 224),
    ],
)
def test_names_of_the_hubs_modules(name, module, size):
    known = catalog.HUB[name]
    assert known.handle == f"https://tfhub.dev/google/imagenet/{module}" and known.image_size == (size, size)


def test_every_name_is_of_one_kind_and_the_default_is_bundled():
    assert not catalog.BUNDLED.keys() & catalog.HUB.keys()
    assert catalog.DEFAULT in catalog.BUNDLED


def test_the_weights_are_floats_that_end_in_vectors_of_the_models_size():
    for name, model in catalog.BUNDLED.items():
        weights = catalog.weights(name)
        assert {array.dtype.kind for array in weights.values()} == {"f"}
        assert weights["head/kernel"].shape[-1] == model.dimension


def test_weights_that_are_a_pickle_are_refused(tmp_path, monkeypatch):
    known = catalog.BUNDLED["efficientnet_lite0"]
    np.savez(tmp_path / "evil.npz", stem=np.array([{"a": 1}], object))
    monkeypatch.setattr(catalog, "_WEIGHTS", tmp_path)
    monkeypatch.setitem(catalog.BUNDLED, "efficientnet_lite0", dataclasses.replace(known, weights="evil.npz"))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        catalog.weights("efficientnet_lite0")
