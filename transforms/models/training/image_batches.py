"""Labelled images → batches to train on: read and decoded in parallel as training asks for them, bad ones left out.

At most a few batches are in memory at any time, however many images there are.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from transforms.cores import usable_cores
from transforms.images import decoding
from transforms.models.training.training_set import Labelled, Split

# An image to augment is decoded this much larger along each side, then cropped: 256 pixels for 224, as for ImageNet
# since Krizhevsky et al. 2012 (https://papers.nips.cc/paper/4824).
_CROPPED_FROM = 8 / 7
_PREFETCHED_BATCHES = 2


class ImageBatches:
    """Makes datasets of images, and remembers which images were bad.

    Attributes:
      bad: key → why an image is left out, the name of an error's class; an image is in it once it was tried.
    """

    def __init__(
        self, read: Callable[[bytes], bytes], classes: Sequence[str], image_size: tuple[int, int], batch_size: int
    ):
        """Takes how to come by images.

        Args:
          read: key → the bytes of an encoded image; called from several threads.
          classes: labels in the order of their numbers.
          image_size: (height, width) in pixels.
          batch_size: images a batch; the last one of an epoch may have fewer.
        """
        self.bad: dict[bytes, str] = {}
        self._read = read
        self._numbers = {label: number for number, label in enumerate(classes)}
        self._image_size = image_size
        self._batch_size = batch_size

    def decode(self, key: bytes, image_size: tuple[int, int]) -> npt.NDArray[np.uint8] | None:
        """Returns the pixels of an image, uint8 (height, width, 3); None for a bad one, which is noted."""
        try:
            return decoding.decode(self._read(key), image_size).pixels
        except Exception as error:  # noqa: BLE001 - each storage client has errors of its own, all of them this image's
            self.bad[key] = type(error).__name__
            return None

    def check(self, split: Split) -> None:
        """Makes sure that each class has an image to train on that can be decoded, and validation one of any class.

        Raises:
          ValueError: if not.
        """
        todo = {label: f"class {label!r}: none of its {{}} training images" for label in split.classes}
        groups: dict[str, list[bytes]] = {label: [] for label in todo}
        for image in split.training:
            groups[image.label].append(image.key)
        if split.validation:
            todo[""] = "none of the {} validation images"
            groups[""] = [image.key for image in split.validation]
        for label, said in todo.items():
            if all(self.decode(key, (1, 1)) is None for key in groups[label]):  # ends with the first that is good
                key = groups[label][0]
                raise ValueError(
                    f"{said.format(len(groups[label]))} can be read and decoded; the first, "
                    f"{key.decode('utf-8', 'backslashreplace')!r}, is a case of {self.bad[key]}"
                )

    def training(self, labelled: Sequence[Labelled], *, seed: int, augment: bool) -> tf.data.Dataset:
        """Returns (images, float32 (n, height, width, 3) in [0, 1]; class numbers, int32 (n,)).

        Args:
          labelled: the images; they come in a new order each epoch.
          seed: of the order and of the augmentation, which are the same for the same seed.
          augment: whether images are flipped at random and cropped at random, by up to an eighth along each side.
        """
        numbered = self._numbered(labelled).shuffle(len(labelled), seed=seed, reshuffle_each_iteration=True)
        if not augment:
            return self._batched(numbered.map(self._load(labelled, self._image_size), self._threads))
        height, width = self._image_size
        larger = (round(height * _CROPPED_FROM), round(width * _CROPPED_FROM))
        # Seeds beside the images, not inside of the parallel map: what a thread is given does not depend on its speed.
        seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(4)
        loaded = tf.data.Dataset.zip(numbered.map(self._load(labelled, larger), self._threads), seeds)

        def augmented(
            image: tuple[tf.Tensor, tf.Tensor, tf.Tensor], seeds: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            pixels, number, is_good = image
            pixels = tf.image.stateless_random_crop(pixels, (height, width, 3), seeds[:2])
            return tf.image.stateless_random_flip_left_right(pixels, seeds[2:]), number, is_good

        return self._batched(loaded.map(augmented))

    def validation(self, labelled: Sequence[Labelled]) -> tf.data.Dataset:
        """Returns the same as `training`, in order and as they are."""
        return self._batched(self._numbered(labelled).map(self._load(labelled, self._image_size), self._threads))

    @property
    def _threads(self) -> int:
        return usable_cores()  # Pillow leaves Python's lock while it decodes

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
        # Bytes are kept waiting, floats are made of one batch at a time.
        waiting = batches.prefetch(_PREFETCHED_BATCHES)
        return waiting.map(lambda pixels, numbers: (tf.cast(pixels, tf.float32) / 255.0, numbers))
