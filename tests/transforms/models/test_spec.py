"""transforms.models.spec: names, and digests that tell what is comparable."""

import subprocess
import sys

import pytest

from transforms.models import spec


def test_the_default():
    found = spec.resolve("efficientnet_lite0", None, "stretch")
    assert (found.name, found.dimension, found.image_size, found.precision) == (
        "efficientnet_lite0",
        1280,
        (224, 224),
        "float32",
    )
    assert len(found.digest) == 64 and int(found.digest, 16)


def test_the_digest_covers_the_preprocessing():
    digests = {
        spec.resolve("efficientnet_lite0", size, mode).digest
        for size in (None, (240, 240), (240, 224))
        for mode in ("stretch", "crop", "pad")
    }
    assert len(digests) == 9
    same = spec.resolve("efficientnet_lite0", (224, 224), "stretch").digest
    assert same == spec.resolve("efficientnet_lite0", None, "stretch").digest


def test_the_digest_covers_the_weights(monkeypatch, tmp_path):
    before = spec.resolve("efficientnet_lite0", (96, 96), "stretch").digest
    spec._digest.cache_clear()
    (tmp_path / "efficientnet_lite0.npz").write_bytes(b"other weights")
    monkeypatch.setattr(spec, "_WEIGHTS", tmp_path)
    assert spec.resolve("efficientnet_lite0", (96, 96), "stretch").digest != before
    spec._digest.cache_clear()


def test_an_unknown_model():
    with pytest.raises(ValueError, match="model='resnet': no such model; expected one of efficientnet_lite0"):
        spec.resolve("resnet", None, "stretch")


def test_a_size_too_small_for_the_network():
    with pytest.raises(ValueError, match="image_size=16x224: expected at least 32 pixels"):
        spec.resolve("efficientnet_lite0", (16, 224), "stretch")


def test_the_weights_fit_the_package():
    assert spec.weights_file("efficientnet_lite0").stat().st_size <= 10 * 10**6


def test_a_spec_needs_no_tensorflow():
    code = (
        "import sys; from transforms.models import spec; spec.resolve('efficientnet_lite0', None, 'crop'); "
        "assert not {'tensorflow', 'apache_beam'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
