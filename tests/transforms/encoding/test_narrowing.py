"""transforms.encoding.narrowing: what float16 reaches, and what not."""

import numpy as np
import pytest

from transforms.encoding.narrowing import narrowed

KEYS = [b"/a.jpg", b"/b.jpg"]


def test_numbers_are_rounded():
    narrow = narrowed(np.array([[1, 1e-9], [65_519, 1 / 3]], np.float32), KEYS)
    np.testing.assert_array_equal(narrow, np.array([[1, 0], [65_504, 0.33325195]], np.float16))


def test_a_number_beyond_float16_has_the_key_of_its_vector():
    with pytest.raises(ValueError, match=r"'/b.jpg' has a number beyond 65,504, the largest float16: expected"):
        narrowed(np.array([[1, 2], [3, -65_520]], np.float32), KEYS)


def test_what_is_not_finite_is_left_to_the_reader():
    assert np.isinf(narrowed(np.array([[np.inf, 1]], np.float32), KEYS[:1])[0, 0])
