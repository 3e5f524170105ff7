"""transforms.models.engines.fixed_batches: one batch shape, and a device whose memory is too small for it."""

import concurrent.futures
import threading

import numpy as np
import pytest

from transforms.models.engines.fixed_batches import FixedBatches, OutOfDeviceMemory


class Device:
    """A model whose vectors are each image's first byte, on a device that takes so many images at once."""

    def __init__(self, fits=1000):
        self.fits = fits
        self.tried = []
        self._lock = threading.Lock()

    def __call__(self, pixels):
        with self._lock:
            self.tried.append(len(pixels))
        if len(pixels) > self.fits:
            raise OutOfDeviceMemory(f"{len(pixels)} images")
        return pixels[:, 0, 0, :1].astype(np.float32)


def numbered(count):
    pixels = np.zeros((count, 2, 3, 3), np.uint8)
    pixels[:, 0, 0, 0] = np.arange(count)
    return pixels


@pytest.mark.parametrize("count", [1, 7, 8, 9, 16, 23])
def test_every_call_has_the_same_shape(count):
    device = Device()
    vectors = FixedBatches(device, 8)(numbered(count))
    np.testing.assert_array_equal(vectors[:, 0], np.arange(count))
    assert set(device.tried) == {8} and len(device.tried) == -(-count // 8)


def test_a_batch_that_is_too_large_for_the_device_is_halved_for_good():
    device = Device(fits=5)
    batches = FixedBatches(device, 32)
    np.testing.assert_array_equal(batches(numbered(32))[:, 0], np.arange(32))
    assert device.tried == [32, 16, 8] + [4] * 8 and batches.batch_size == 4
    device.tried.clear()
    batches(numbered(8))
    assert device.tried == [4, 4]


def test_memory_that_runs_out_in_the_middle():
    device = Device()
    batches = FixedBatches(device, 8)
    batches(numbered(8))
    device.fits = 3
    np.testing.assert_array_equal(batches(numbered(20))[:, 0], np.arange(20))
    assert batches.batch_size == 2


def test_threads_that_find_the_same_halve_once():
    batches = FixedBatches(Device(fits=16), 32)
    together = threading.Barrier(4)

    def call(_):
        together.wait()
        return batches(numbered(32))

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        for vectors in threads.map(call, range(4)):
            np.testing.assert_array_equal(vectors[:, 0], np.arange(32))
    assert batches.batch_size == 16


def test_not_even_one_image_fits():
    with pytest.raises(OutOfDeviceMemory, match="not even one image"):
        FixedBatches(Device(fits=0), 8)(numbered(1))
