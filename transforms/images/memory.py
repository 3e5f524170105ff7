"""The memory that decoding takes: an estimate for each image, and turns for large ones.

Small images are decoded by all threads at once. Large images share a budget, so that a process whose every thread meets
a large image needs no more memory than the budget.
"""

import contextlib
import ctypes
import threading
from collections import deque
from collections.abc import Sequence

from PIL import Image

from transforms.images import jpeg_header
from transforms.images.resizing import Box

# Bytes that the large images of a process may take at once.
DECODING_BYTES = 1 << 30
# Once an image has given back this many bytes, glibc is asked to return freed memory to the system. That takes tens of
# milliseconds.
RETURNED_BYTES = DECODING_BYTES // 16

# Bytes per pixel besides Pillow's own copy of the picture, at their peak. Measured with Pillow 12.3 and pillow_heif 1.8
# on 4000×4000 pixels. A TIFF may be a single strip, and AVIF and HEIC may have 12 bits per sample.
_DECODER = {"WEBP": 13, "AVIF": 12, "HEIF": 12, "TIFF": 5, "BMP": 8}

# Bytes per pixel that the conversions of decoding.py add: a mode, its converted copy, a copy for the resize.
_CONVERSION = {"L": 0, "RGB": 0, "CMYK": 0, "1": 1, "LA": 4, "RGBA": 4, "I": 12}
_OTHER_CONVERSION = 8

# simplejpeg's array, its copy as bytes, and the resizer's.
_FAST_JPEG = 9

# The finished picture: resized, turned, in sRGB, over white, as an array.
_RESULT = 20


class Budget:
    """Bytes that several threads share. Requests are served in their order, so that a large one is not starved.

    Attributes:
      total: the most bytes that are taken at once. A larger request is served once it is alone.
      free_of_charge: a request of at most this many bytes, 1/64 of the total, neither waits nor counts.
    """

    def __init__(self, total: int):
        self.total = total
        self.free_of_charge = total // 64
        self._available = total
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    def take(self, size: int) -> None:
        """Waits until `size` bytes, at most the total, are available to this thread, and takes them."""
        request = object()
        with self._changed:
            self._queue.append(request)
            try:
                self._changed.wait_for(lambda: self._queue[0] is request and self._available >= size)
                self._available -= size
            finally:
                self._queue.remove(request)
                self._changed.notify_all()

    def give_back(self, size: int) -> None:
        if size >= RETURNED_BYTES:
            return_freed_memory()
        with self._changed:
            self._available += size
            self._changed.notify_all()


class Turn:
    """A context for decoding one image: `wait` takes bytes of a budget, and the end of the context gives them back."""

    def __init__(self, budget: Budget):
        self._budget = budget
        self._taken = 0

    def __enter__(self) -> "Turn":
        return self

    def __exit__(self, *_: object) -> None:
        if self._taken:
            self._budget.give_back(self._taken)

    def wait(self, size: int) -> None:
        """Waits for the turn of an image that needs `size` bytes. Returns at once if it is small, or has its turn."""
        if size > self._budget.free_of_charge and not self._taken:
            size = min(size, self._budget.total)
            self._budget.take(size)
            self._taken = size


def return_freed_memory() -> None:
    """Returns freed memory to the system. glibc keeps up to 64 MiB for each thread, which no other thread can use."""
    with contextlib.suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


BUDGET = Budget(DECODING_BYTES)


def decoding_bytes(image: Image.Image, box: Box, inner: tuple[int, int]) -> int:
    """Returns an upper estimate of the bytes that it takes to decode an image and to resize it.

    Args:
      image: an image of which only the header was read; not a JPEG.
      box: (left, top, right, bottom) of the part to use, in pixels of the image.
      inner: the (width, height) to resize that part to.
    """
    converted = _CONVERSION.get(image.mode, _OTHER_CONVERSION)
    if "transparency" in image.info:
        converted = _OTHER_CONVERSION
    sample = 1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;16") else 4
    pixel = sample + max(_DECODER.get(str(image.format), 0), converted)
    return pixel * image.width * image.height + _resizing_bytes(image.size, box, inner)


def jpeg_bytes(header: jpeg_header.Header, reduced: tuple[int, int], box: Box, inner: tuple[int, int]) -> int:
    """Returns the same estimate for a JPEG that is decoded at a reduced (width, height)."""
    coefficients = 0 if header.is_one_scan else _coefficient_bytes(header.size, header.samplings)
    return coefficients + _FAST_JPEG * reduced[0] * reduced[1] + _resizing_bytes(reduced, box, inner)


def _resizing_bytes(size: tuple[int, int], box: Box, inner: tuple[int, int]) -> int:
    # Pillow resizes along the rows first. Its weights are two doubles for each pixel of an axis.
    rows = 4 * inner[0] * int(box[3] - box[1])
    return rows + 16 * (size[0] + size[1]) + _RESULT * inner[0] * inner[1]


def _coefficient_bytes(stored: tuple[int, int], samplings: Sequence[tuple[int, int]]) -> int:
    """Returns the bytes that libjpeg holds for a picture in several scans: its coefficients, 2 each, in full size."""
    per_pixel = sum(across * down for across, down in samplings)
    largest = max(across for across, _ in samplings) * max(down for _, down in samplings)
    return 2 * stored[0] * stored[1] * per_pixel // max(1, largest)
