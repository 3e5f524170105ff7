"""transforms.models.engines.fixed_batches: one batch shape, a device whose memory is too small for it, and images on
which the model raises."""

import concurrent.futures
import math
import pickle
import threading

import numpy as np
import pytest

from transforms.models.engines.fixed_batches import (
    FixedBatches,
    InferenceError,
    ModelFailure,
    OutOfDeviceMemory,
)


class Device:
    """A model whose vectors are each image's first byte, on a device that takes so many images at once.

    It raises over images whose first byte is in `poison`. Those in `too_large` do not fit even alone.
    """

    def __init__(self, fits=1000, poison=(), too_large=()):
        self.fits = fits
        self.poison = poison
        self.too_large = too_large
        self.tried = []
        self._lock = threading.Lock()

    def __call__(self, pixels):
        with self._lock:
            self.tried.append(len(pixels))
        numbers = pixels[:, 0, 0, 0]
        if len(pixels) > self.fits or np.isin(numbers, self.too_large).any():
            raise OutOfDeviceMemory(f"{len(pixels)} images")
        if np.isin(numbers, self.poison).any():
            raise InferenceError(f"no logarithm of {numbers.tolist()}")
        return pixels[:, 0, 0, :1].astype(np.float32)


def numbered(count):
    pixels = np.zeros((count, 2, 3, 3), np.uint8)
    pixels[:, 0, 0, 0] = np.arange(count)
    return pixels


@pytest.mark.parametrize("count", [1, 7, 8, 9, 16, 23])
def test_every_call_has_the_same_shape(count):
    device = Device()
    vectors, errors = FixedBatches(device, 8)(numbered(count))
    np.testing.assert_array_equal(vectors[:, 0], np.arange(count))
    assert errors == {}
    assert set(device.tried) == {8} and len(device.tried) == -(-count // 8)


def test_a_batch_that_is_too_large_for_the_device_is_halved_for_good():
    device = Device(fits=5)
    batches = FixedBatches(device, 32)
    np.testing.assert_array_equal(batches(numbered(32)).vectors[:, 0], np.arange(32))
    assert device.tried == [32, 16, 8] + [4] * 8 and batches.batch_size == 4
    device.tried.clear()
    batches(numbered(8))
    assert device.tried == [4, 4]


def test_memory_that_runs_out_in_the_middle():
    device = Device()
    batches = FixedBatches(device, 8)
    batches(numbered(8))
    device.fits = 3
    np.testing.assert_array_equal(batches(numbered(20)).vectors[:, 0], np.arange(20))
    assert batches.batch_size == 2


def test_threads_that_find_the_same_halve_once():
    batches = FixedBatches(Device(fits=16), 32)
    together = threading.Barrier(4)

    def call(_):
        together.wait()
        return batches(numbered(32))

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        for result in threads.map(call, range(4)):
            np.testing.assert_array_equal(result.vectors[:, 0], np.arange(32))
    assert batches.batch_size == 16


def test_a_device_on_which_not_even_a_black_image_fits_fails_the_job():
    device = Device(fits=0)
    with pytest.raises(ModelFailure, match="the model fails on every image, a black one too: 1 images"):
        FixedBatches(device, 8)(numbered(1))
    assert device.tried == [8, 4, 2, 1, 1]


def test_an_image_that_does_not_fit_alone_is_an_error_of_its_own():
    vectors, errors = FixedBatches(Device(too_large=[3]), 4)(numbered(8))
    assert list(errors) == [3] and type(errors[3]) is OutOfDeviceMemory
    np.testing.assert_array_equal(vectors[:, 0], [0, 1, 2, 4, 5, 6, 7])


@pytest.mark.parametrize(
    "poison", [[1], [32], [17], [1, 32], [16, 17], [7, 8], [3, 20]], ids=lambda poison: "-".join(map(str, poison))
)
def test_culprits_are_told_apart_by_few_calls(poison):
    device = Device(poison=poison)
    vectors, errors = FixedBatches(device, 32)(numbered(33)[1:])
    assert sorted(errors) == [number - 1 for number in poison]
    np.testing.assert_array_equal(vectors[:, 0], [number for number in range(1, 33) if number not in poison])
    for index, error in errors.items():  # each alone with its padding
        assert str(error) == f"no logarithm of {[index + 1] + [0] * 31}"
    assert set(device.tried) == {32}
    extra = len(device.tried) - 1
    assert extra <= len(poison) * (2 * math.log2(32) + 1)
    assert len(poison) > 1 or extra == 11


def test_a_batch_of_nothing_but_culprits_has_no_vectors():
    device = Device(poison=range(1, 9))
    vectors, errors = FixedBatches(device, 8)(numbered(9)[1:])
    assert sorted(errors) == list(range(8)) and vectors.shape == (0, 1) and vectors.dtype == np.float32
    assert len(device.tried) == 15 + 8  # each node of a binary tree, and a black image after each leaf


def test_one_image_a_call_needs_no_splitting():
    device = Device(poison=[2])
    vectors, errors = FixedBatches(device, 1)(numbered(4))
    np.testing.assert_array_equal(vectors[:, 0], [0, 1, 3])
    assert list(errors) == [2] and len(device.tried) == 5


def test_culprits_and_a_small_memory_at_once():
    device = Device(fits=5, poison=[6, 9])
    batches = FixedBatches(device, 16)
    vectors, errors = batches(numbered(20))
    assert sorted(errors) == [6, 9] and batches.batch_size == 4
    np.testing.assert_array_equal(vectors[:, 0], [number for number in range(20) if number not in (6, 9)])


def test_a_device_that_is_lost_in_the_middle_condemns_no_image():
    device = Device()

    def run(pixels):
        if len(device.tried) >= 2:
            raise InferenceError("InternalError: the device is lost")
        return device(pixels)

    with pytest.raises(
        ModelFailure, match="the model fails on every image, a black one too: InternalError: the device"
    ):
        FixedBatches(run, 8)(numbered(32))


@pytest.mark.parametrize("error", [MemoryError(), ValueError("a bug"), KeyboardInterrupt()], ids=repr)
def test_other_errors_are_not_the_images(error):
    calls = []

    def run(pixels):
        calls.append(1)
        raise error

    with pytest.raises(type(error)) as raised:
        FixedBatches(run, 8)(numbered(8))
    assert raised.value is error and len(calls) == 1


@pytest.mark.parametrize("kind", [InferenceError, OutOfDeviceMemory, ModelFailure])
def test_errors_travel_between_processes(kind):
    try:
        raise kind("first line") from RuntimeError(threading.Lock())
    except kind as error:
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - its own bytes
    assert type(copy) is kind and str(copy) == "first line"


def test_the_images_that_fill_up_a_batch_are_black():
    seen = []

    def run(pixels):
        seen.append(pixels.copy())
        return pixels[:, 0, 0, :1].astype(np.float32)

    FixedBatches(run, 4)(np.full((5, 2, 3, 3), 9, np.uint8))
    assert [batch.reshape(4, -1).max(axis=1).tolist() for batch in seen] == [[9] * 4, [9, 0, 0, 0]]


def test_a_size_that_another_thread_has_halved_is_not_made_larger():
    batches = FixedBatches(Device(), 32)
    batches._halve(8)
    batches._halve(32)
    assert batches.batch_size == 4
