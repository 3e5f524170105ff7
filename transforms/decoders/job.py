"""A job of a decoder process, its settings and its results: all that the two sides say to each other."""

import dataclasses
import math

from transforms.elements.records import Failure, ImageInfo, ImageRef
from transforms.images.decode_settings import DecodeSettings
from transforms.storage.context import Storage

# A number of processes that stands for one per core of the worker.
ONE_A_CORE = -1
TIMEOUT_DEFAULT = 60.0

# A message costs some 0.2 ms, so a job has many small images. Several jobs wait in each process, so that it works on
# while the worker is busy.
_JOB_IMAGES = 64
_JOB_BYTES = 2 << 20
SLOTS = 3
# Messages to a process fit into the buffer of its socket, so that a process that hangs does not block the sender.
JOB_KEY_BYTES = 16 << 10


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of all decoder processes of a worker.

    Attributes:
      processes: how many there are.
      images: what the images are decoded to.
      read_concurrency: how many remote files a process has in flight.
      storage: how buckets are reached.
      timeout: seconds that decoding one image may take.
    """

    processes: int
    images: DecodeSettings
    read_concurrency: int
    storage: Storage
    timeout: float

    @property
    def job_images(self) -> int:
        """The most images of one job."""
        return max(1, min(_JOB_IMAGES, _JOB_BYTES // (math.prod(self.images.size) * 3)))


@dataclasses.dataclass(frozen=True)
class InboxImage:
    """An image that was read: its bytes are in the inbox of the job's slot."""

    ref: ImageRef
    offset: int
    length: int


@dataclasses.dataclass(frozen=True)
class Job:
    """Images for one process.

    Attributes:
      slot: the place for the pixels. It also names the job, because a slot has one job at a time.
      images: to read and decode, or only to decode.
      failed: the failures of images that are not tried again, by their index.
    """

    slot: int
    images: tuple[ImageRef | InboxImage, ...]
    failed: dict[int, Failure]


@dataclasses.dataclass(frozen=True)
class Done:
    """The results of the images of a job, in order. The pixels of image i lie at i in the job's slot.

    Attributes:
      slot: of the job.
      results: of the images.
      read, decode: seconds that each image took to be read and to be decoded. A step that was not taken is None.
      bytes_read: of all images that were read.
      core_seconds: CPU time of the process since the end of its last job, in seconds.
    """

    slot: int
    results: tuple[ImageInfo | Failure, ...]
    read: tuple[float | None, ...]
    decode: tuple[float | None, ...]
    bytes_read: int
    core_seconds: float
