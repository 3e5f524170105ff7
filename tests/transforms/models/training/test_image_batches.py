"""transforms.models.training.image_batches: what training gets to see, when, and what happens to bad images."""

import threading
import time

import numpy as np
import pytest

from tests.helpers import data_generation as data
from transforms.concurrent.cores import usable_cores
from transforms.images import decoding
from transforms.models.preprocessing import Preprocessing
from transforms.models.training import training_set
from transforms.models.training.image_batches import ImageBatches
from transforms.models.training.training_set import Labelled

SIZE = (24, 32)
FILES = {b"%02d" % i: data.jpeg(i, 48, 64) for i in range(40)}
LABELLED = [Labelled(key, "odd" if int(key) % 2 else "even") for key in FILES]


def batches_of(files, size=8):
    def read(key):
        if key not in files:
            raise FileNotFoundError(key)
        return files[key]

    return ImageBatches(read, ("even", "odd"), SIZE, size)


def collect(dataset):
    pixels, numbers = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(pixels), np.concatenate(numbers)


def test_validation_is_in_order_and_as_decoded():
    dataset = batches_of(FILES).validation(LABELLED)
    assert [tuple(spec.shape) for spec in dataset.element_spec] == [(None, *SIZE, 3), (None,)]
    pixels, numbers = collect(dataset)
    expected = np.stack([decoding.decode(FILES[image.key], SIZE).pixels for image in LABELLED])
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels, expected / 255, atol=1e-7)  # float32
    assert numbers.tolist() == [int(image.key) % 2 for image in LABELLED]


def test_values_are_those_that_the_module_takes():
    preprocessing = Preprocessing((0.5, 0.4, 0.3), (0.5, 0.25, 0.2), "bgr", "crop", "bicubic", 0.8)
    batches = ImageBatches(FILES.__getitem__, ("even", "odd"), SIZE, 8, preprocessing)
    values, _ = collect(batches.validation(LABELLED))
    pixels = np.stack([decoding.decode(FILES[image.key], SIZE, preprocessing.resizing).pixels for image in LABELLED])
    expected = (pixels[..., ::-1] / 255 - preprocessing.mean) / preprocessing.std
    np.testing.assert_allclose(values, expected, atol=1e-5)


def test_training_has_each_image_once_in_a_new_order_each_epoch():
    dataset = batches_of(FILES).training(LABELLED, seed=1, augment=False)
    validated, _ = collect(batches_of(FILES).validation(LABELLED))
    orders = []
    for _ in range(2):
        pixels, numbers = collect(dataset)
        orders.append([int(np.abs(validated - image).sum(axis=(1, 2, 3)).argmin()) for image in pixels])
        assert numbers.tolist() == [row % 2 for row in orders[-1]]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(40))
    assert orders[0] != orders[1] != list(range(40))


@pytest.mark.parametrize("augment", [False, True])
def test_a_seed_decides_on_everything(augment):
    first, again, other = (
        collect(batches_of(FILES).training(LABELLED, seed=seed, augment=augment))[0] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_augmenting_flips_and_crops():
    files = {b"0": data.encoded(data.quadrants(64, 48), "PNG")}
    one = [Labelled(b"0", "odd")] * 64
    pixels, _ = collect(batches_of(files).training(one, seed=0, augment=True))
    assert pixels.shape == (64, *SIZE, 3) and pixels.min() >= 0 and pixels.max() <= 1
    red_on_the_left = pixels[:, 0, 0, 0] > pixels[:, 0, -1, 0]
    assert 16 < red_on_the_left.sum() < 48  # 32 expected; beyond 4 standard deviations, one seed in 16,000
    crops = {image.tobytes() for image in pixels}
    assert len(crops) > 20  # of 2 × 5 × 4 that there are


def test_bad_images_are_left_out_and_noted():
    broken = {name.encode(): content for name, (content, _) in data.broken_images().items()}
    files = FILES | broken
    labels = [*LABELLED, *(Labelled(key, "odd") for key in broken), Labelled(b"missing", "even")]
    batches = batches_of(files)
    for dataset in (batches.training(labels, seed=0, augment=False), batches.validation(labels)):
        pixels, _ = collect(dataset)
        assert len(pixels) == 40
    errors = {name.encode(): error for name, (_, error) in data.broken_images().items()}
    assert batches.bad == errors | {b"missing": "FileNotFoundError"}


def test_few_images_are_read_before_they_are_asked_for():
    read, lock = [], threading.Lock()

    def reading(key):
        with lock:
            read.append(key)
        time.sleep(0.005)  # slower than training, which waits
        return FILES[b"%02d" % (int(key) % 40)]

    many = [Labelled(b"%05d" % i, "odd") for i in range(2000)]
    dataset = ImageBatches(reading, ("odd",), SIZE, 8).training(many, seed=0, augment=False)
    iterator = iter(dataset)
    for _ in range(3):
        next(iterator)
    counts = [len(read)]
    while counts[-1] != counts[0] or len(counts) < 2:  # until it rests
        counts = [counts[-1]]
        time.sleep(0.3)
        counts.append(len(read))
    # 3 batches of 8 are given, 2 are prefetched, one more waits for its place, and each thread has an image and is at
    # another.
    assert 24 <= counts[-1] <= 24 + 3 * 8 + 2 * usable_cores()


def test_check_wants_an_image_of_each_class_and_one_to_validate_with():
    good, bad = data.jpeg(0), b"no image"
    files = {b"a": good, b"b1": bad, b"b2": bad, b"v": good}

    training = (Labelled(b"a", "a"), Labelled(b"b1", "b"), Labelled(b"b2", "b"))
    validation = (Labelled(b"v", "a"),)

    def check(validation=validation):
        split = training_set.Split(("a", "b"), training, validation)
        ImageBatches(files.__getitem__, ("a", "b"), SIZE, 8).check(split)

    with pytest.raises(ValueError, match="class 'b': none of its 2 training images .* 'b1', is a case of UnknownForm"):
        check()
    files[b"b2"] = good
    check()
    check(validation=())
    files[b"v"] = b""
    with pytest.raises(ValueError, match="none of the 1 validation images can be read .* 'v', is a case of EmptyImage"):
        check()
