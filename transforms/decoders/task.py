"""A task: the images of one job, and which of them is to blame when a decoder process ends."""

import weakref
from collections import Counter
from typing import TYPE_CHECKING

from transforms.elements.records import EncodedImage, Failure, ImageRef
from transforms.images.decode_image import STAGE

if TYPE_CHECKING:
    from transforms.decoders.dispatcher import Tasks

# An image whose decoding has ended this many processes is a failure. Something else may have ended the first.
_DEATHS_OF_AN_IMAGE = 2


class KilledTheProcess(Exception):
    """An image that was being decoded when a process died, twice or more often."""


class TookTooLong(Exception):
    """An image whose decoding was stopped after a time that is long enough for any image."""

    retryable = True  # a machine that is less busy may be fast enough


def quarantined(key: bytes, deaths: int) -> Failure:
    """Returns the failure of an image that has killed `deaths` processes of a run, and is not decoded again."""
    often = "twice" if deaths == _DEATHS_OF_AN_IMAGE else f"{deaths} times"
    error = KilledTheProcess(f"{often}, when a process of this run died, it was decoding this image")
    return Failure.of(key, STAGE, error)


class Task:
    """The images of a job. When its process dies, another process gets the whole task.

    Attributes:
      owner: a reference to the tasks of the thread that wants the result. It is dead once that thread is gone.
      images: to read and decode, or only to decode.
      failed: the failures of images that are not tried again, by their index.
    """

    def __init__(self, owner: "Tasks", images: tuple[ImageRef | EncodedImage, ...]):
        self.owner = weakref.ref(owner)
        self.images = images
        self.failed: dict[int, Failure] = {}
        self._deaths: Counter[int] = Counter()

    def blame(self, image: int, error: Exception | None) -> None:
        """Counts the end of a process against an image. With an error, the image is a failure."""
        self._deaths[image] += 1
        if error is None and self._deaths[image] >= _DEATHS_OF_AN_IMAGE:
            error = KilledTheProcess("twice, when a decoder process died, it was decoding this image")
        if error:
            self.failed[image] = Failure.of(_ref(self.images[image]).key, STAGE, error)


def _ref(image: ImageRef | EncodedImage) -> ImageRef:
    return image if isinstance(image, ImageRef) else image.ref
