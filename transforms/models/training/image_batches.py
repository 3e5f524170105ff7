"""Labelled images → batches for training. Threads read and decode the images while training runs.

Bad images are left out. Only a few batches are in memory at any time, however many images there are.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from transforms.concurrent.cores import usable_cores
from transforms.elements import keys
from transforms.images import decoding
from transforms.models.engines import opening
from transforms.models.preprocessing import TF_HUB, Preprocessing
from transforms.models.training.training_set import Labelled, Split

# Augmentation decodes an image larger by this factor along each side, then crops it: from 256 pixels to 224, as usual
# for ImageNet since Krizhevsky et al. 2012 (https://papers.nips.cc/paper/4824).
_AUGMENTATION_SCALE = 8 / 7
_PREFETCHED_BATCHES = 2


class ImageBatches:
    """Makes datasets of images and records the bad images.

    Attributes:
      bad: key → name of the error's class, for each image that could not be read or decoded so far.
    """

    def __init__(
        self,
        read: Callable[[bytes], bytes],
        classes: Sequence[str],
        image_size: tuple[int, int],
        batch_size: int,
        preprocessing: Preprocessing = TF_HUB,
    ):
        """Takes the source and the shape of the batches.

        Args:
          read: key → the bytes of an encoded image. It is called from several threads.
          classes: labels in the order of their numbers.
          image_size: (height, width) in pixels.
          batch_size: images per batch. The last batch of an epoch may have fewer.
          preprocessing: how pixels become the values that the model takes.
        """
        self.bad: dict[bytes, str] = {}
        self._read = read
        self._numbers = {label: number for number, label in enumerate(classes)}
        self._image_size = image_size
        self._batch_size = batch_size
        self._preprocessing = preprocessing

    def decode(self, key: bytes, image_size: tuple[int, int]) -> npt.NDArray[np.uint8] | None:
        """Returns the pixels of an image, uint8 (height, width, 3). A bad image gives None and an entry in `bad`."""
        try:
            return decoding.decode(self._read(key), image_size, self._preprocessing.resizing).pixels
        # These errors concern this image only. It is counted and left out. `check` fails if a class has no image left.
        except (OSError, ValueError) as error:
            self.bad[key] = type(error).__name__
            return None

    def check(self, split: Split) -> None:
        """Checks that each class has a training image that can be decoded, and that the validation images have one.

        Raises:
          ValueError: if a class has none, or all validation images are bad.
        """
        training: dict[str, list[bytes]] = {label: [] for label in split.classes}
        for image in split.training:
            training[image.label].append(image.key)
        for label, image_keys in training.items():
            self._check_any_good(image_keys, f"class {label!r}: none of its {len(image_keys)} training images")
        if split.validation:
            image_keys = [image.key for image in split.validation]
            self._check_any_good(image_keys, f"none of the {len(image_keys)} validation images")

    def _check_any_good(self, image_keys: Sequence[bytes], problem: str) -> None:
        """Decodes images up to the first good one. Raises ValueError with `problem` if there is none."""
        if all(self.decode(key, (1, 1)) is None for key in image_keys):
            first = image_keys[0]
            raise ValueError(
                f"{problem} can be read and decoded; the first, {keys.text(first)!r}, is a case of {self.bad[first]}"
            )

    def training(self, labelled: Sequence[Labelled], *, seed: int, augment: bool) -> tf.data.Dataset:
        """Returns a dataset of batches: (values of images, float32 (n, height, width, 3); class numbers, int32 (n,)).

        Args:
          labelled: the images. Their order differs between epochs.
          seed: of the order and of the augmentation. The same seed gives the same batches.
          augment: whether to flip and crop images at random. A crop removes an eighth along each side.
        """
        numbered = self._numbered(labelled).shuffle(len(labelled), seed=seed, reshuffle_each_iteration=True)
        if not augment:
            return self._batched(numbered.map(self._load(labelled, self._image_size), self._threads))
        height, width = self._image_size
        larger = (round(height * _AUGMENTATION_SCALE), round(width * _AUGMENTATION_SCALE))
        # The seeds are drawn outside the parallel map, so that an image's seed does not depend on the threads' speed.
        seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(4)
        loaded = tf.data.Dataset.zip(numbered.map(self._load(labelled, larger), self._threads), seeds)

        def crop_and_flip(
            image: tuple[tf.Tensor, tf.Tensor, tf.Tensor], seeds: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            pixels, number, is_good = image
            pixels = tf.image.stateless_random_crop(pixels, (height, width, 3), seeds[:2])
            return tf.image.stateless_random_flip_left_right(pixels, seeds[2:]), number, is_good

        return self._batched(loaded.map(crop_and_flip))

    def validation(self, labelled: Sequence[Labelled]) -> tf.data.Dataset:
        """Returns the batches of `training` without shuffling and without augmentation."""
        return self._batched(self._numbered(labelled).map(self._load(labelled, self._image_size), self._threads))

    @property
    def _threads(self) -> int:
        return usable_cores()  # Pillow releases the GIL while it decodes

    def _numbered(self, labelled: Sequence[Labelled]) -> tf.data.Dataset:
        numbers = np.array([self._numbers[image.label] for image in labelled], np.int32)
        return tf.data.Dataset.from_tensor_slices((np.arange(len(labelled)), numbers))

    def _load(
        self, labelled: Sequence[Labelled], image_size: tuple[int, int]
    ) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
        black = np.zeros((*image_size, 3), np.uint8)

        def decode(index: np.int64) -> tuple[npt.NDArray[np.uint8], bool]:
            pixels = self.decode(labelled[int(index)].key, image_size)
            return (black, False) if pixels is None else (pixels, True)

        def load(index: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            pixels, is_good = tf.numpy_function(decode, [index], (tf.uint8, tf.bool))
            return tf.ensure_shape(pixels, (*image_size, 3)), number, tf.ensure_shape(is_good, ())

        return load

    def _batched(self, loaded: tf.data.Dataset) -> tf.data.Dataset:
        good = loaded.filter(lambda pixels, number, is_good: is_good)
        batches = good.map(lambda pixels, number, is_good: (pixels, number)).batch(self._batch_size)
        # Batches are prefetched as bytes, a quarter of the size of floats. One batch at a time becomes floats.
        prefetched = batches.prefetch(_PREFETCHED_BATCHES)
        floats = prefetched.map(lambda pixels, numbers: (opening.values(pixels, self._preprocessing), numbers))
        # By default tf.data would convert several batches at a time, and prefetch more of them while training waits.
        options = tf.data.Options()
        options.experimental_optimization.apply_default_optimizations = False
        return floats.with_options(options)
