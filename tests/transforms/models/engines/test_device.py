"""transforms.models.engines.device: a GPU that was asked for and is not there is an error, not a slow run."""

from types import SimpleNamespace

import pytest
import tensorflow as tf

from transforms.models.engines import device

needs_cpu = pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="there is a GPU here")


@needs_cpu
def test_no_gpu_here():
    assert device.name() == "CPU"
    device.check_gpu(expected=False)
    with pytest.raises(
        RuntimeError, match=r"a GPU was asked for and TensorFlow finds none, only devices=\['/device:CPU"
    ):
        device.check_gpu(expected=True)


@needs_cpu
@pytest.mark.parametrize(
    ("built_with_cuda", "driver", "reason"),
    [
        (False, "libc.so.6", "built without CUDA; the image of this project's Dockerfile"),
        (True, "libnone.so.1", "there is no NVIDIA driver, libnone.so.1 cannot be loaded: .* installs it"),
        (True, "libc.so.6", "either no GPU is attached, or CUDA's libraries are missing in the image or too new"),
    ],
    ids=["CPU build", "no driver", "no GPU or no libraries"],
)
def test_why_there_is_none(monkeypatch, built_with_cuda, driver, reason):
    monkeypatch.setattr(tf.test, "is_built_with_cuda", lambda: built_with_cuda)
    monkeypatch.setattr(device, "_DRIVER", driver)
    with pytest.raises(RuntimeError, match=reason):
        device.check_gpu(expected=True)


@pytest.mark.parametrize(
    ("details", "name"), [({"device_name": "NVIDIA L4"}, "GPU NVIDIA L4"), ({}, "GPU")], ids=["named", "unnamed"]
)
def test_a_gpu_has_the_name_that_its_details_give(monkeypatch, details, name):
    monkeypatch.setattr(device, "has_gpu", lambda: True)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [f"a {kind}"])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", {"a GPU": details}.get)
    assert device.name() == name
    device.check_gpu(expected=True)


@pytest.fixture
def gpus(monkeypatch):
    """Two GPUs, by the names of those whose memory grows."""
    growing = []
    device.has_gpu.cache_clear()
    monkeypatch.setattr(device, "has_driver", lambda: True)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [f"{kind}:0", f"{kind}:1"])
    monkeypatch.setattr(
        tf.config.experimental, "set_memory_growth", lambda gpu, is_growing: growing.append((gpu, is_growing))
    )
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [SimpleNamespace(name=f"/device:{kind}:0")])
    yield growing
    device.has_gpu.cache_clear()


def test_memory_of_each_gpu_is_taken_as_needed(gpus):
    assert device.has_gpu() and gpus == [("GPU:0", True), ("GPU:1", True)]
    assert device.gpus() == ["/device:GPU:0"]


def test_without_a_driver_tensorflow_is_not_asked(monkeypatch):
    device.has_gpu.cache_clear()
    monkeypatch.setattr(device, "_DRIVER", "libnone.so.1")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: pytest.fail("TensorFlow was asked"))
    assert not device.has_driver() and not device.has_gpu() and device.gpus() == [] and device.name() == device.CPU
    device.has_gpu.cache_clear()
