"""The simulated device, on a clock of its own. `test_small_images.py` runs the command with one."""

import numpy as np
import pytest

from benchmarks.simulated_device import Device


class Clock:
    """A clock that stands still, and the sleeps that were asked of it."""

    def __init__(self):
        self.now = 100.0
        self.sleeps = []

    def device(self, images_per_second):
        return Device(images_per_second, lambda: self.now, self.sleeps.append)


@pytest.fixture
def clock():
    return Clock()


def test_a_batch_takes_its_images_divided_by_the_speed(clock):
    clock.device(50)(np.zeros((10, 64, 64, 3), np.uint8))
    assert clock.sleeps == [pytest.approx(10 / 50)]


def test_of_two_batches_in_flight_the_second_begins_when_the_first_ends(clock):
    device = clock.device(50)
    device(np.zeros((10, 64, 64, 3), np.uint8))
    clock.now += 0.1
    device(np.zeros((10, 64, 64, 3), np.uint8))
    assert clock.sleeps[1] == pytest.approx(0.1 + 0.2)


def test_a_device_that_had_nothing_to_do_begins_at_once(clock):
    device = clock.device(50)
    device(np.zeros((10, 64, 64, 3), np.uint8))
    clock.now += 1
    device(np.zeros((10, 64, 64, 3), np.uint8))
    assert clock.sleeps[1] == pytest.approx(0.2)


def test_a_vector_is_of_the_pixels_of_its_image(clock):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    vectors = clock.device(50)(pixels)
    assert vectors.shape == (3, 48) and vectors.dtype == np.float32
    assert np.array_equal(vectors[1], clock.device(50)(pixels[1:2])[0])
    assert not np.array_equal(vectors[0], vectors[1])
