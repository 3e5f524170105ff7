"""The elements that travel between the stages: one frozen dataclass an edge. No Beam: `record_coders` has their coders.

    list → ImageRef → read → EncodedBlock → decode → DecodedBlock → embed → Embedding → write → Shard

A block holds several images, because an element costs a worker more time than the pixels of a small image do.

Between list and read, the records of earlier runs (`Known`) show which images need no inference. These leave the main
path as `Reuse` and `Copy`. Each stage also outputs a `Failure` for each image that it could not process, and
`StageSeconds`, the time that its workers were busy.
"""

import dataclasses
import time

import numpy as np
import numpy.typing as npt


@dataclasses.dataclass(frozen=True, slots=True)
class ImageRef:
    """The place of an image, or of a shard of images.

    Attributes:
      key: bytes of the URI as listed, see `keys`.
      version: changes when the content under the key changes: the generation in Cloud Storage, elsewhere size and
        mtime; "" if it is unknown.
      size: of the encoded bytes; -1 if it is unknown.
      crc32c: checksum of the encoded bytes, in base64 as Cloud Storage gives it; "" if it is unknown.
      has_copies: whether other images of the run have the same bytes and wait for this one's vector.
      in_shard: the key of the shard that holds the image; b"" if it is a file of its own.
    """

    key: bytes
    version: str = ""
    size: int = -1
    crc32c: str = ""
    has_copies: bool = False
    in_shard: bytes = b""


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """An image in a shard, and its number in it."""

    ref: ImageRef
    number: int


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """The record that an earlier run, or an unfinished attempt at this run, wrote for an image with this run's model.

    Attributes:
      key, version, size, crc32c: of the image, as in an ImageRef.
      sha256: of the encoded bytes, hex.
      written_at: seconds since 1970.
      shard, offset: the file that holds the record, and its place there: the byte at which it begins, or in a Parquet
        file its row; "" and -1 for a row of a table, which is looked up by its key.
      attempt: the unfinished attempt at this run that wrote it; "" for an earlier run.
      is_file: whether the record says that the image was listed as a file of its own. False for an image in a shard,
        and for records from before `image/shard`, which do not say.
    """

    key: bytes
    version: str
    sha256: str
    size: int
    crc32c: str
    written_at: float
    shard: str = ""
    offset: int = -1
    attempt: str = ""
    is_file: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Reuse:
    """An image whose vector an earlier run, or an unfinished attempt, has stored; maybe under another key."""

    ref: ImageRef
    known: Known


@dataclasses.dataclass(frozen=True, slots=True)
class Copy:
    """An image with the same bytes as another of this run, whose key is `of`."""

    ref: ImageRef
    of: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image as stored: the bytes of a JPEG, PNG, …; `ref` has their number and their checksum."""

    ref: ImageRef
    encoded: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class EncodedBlock:
    """Images as stored, which were read together."""

    images: tuple[EncodedImage, ...]

    def __len__(self) -> int:
        return len(self.images)


@dataclasses.dataclass(frozen=True, slots=True)
class ImageInfo:
    """Facts about an image: `sha256` of the encoded bytes (hex), `height` and `width` as stored, in pixels."""

    ref: ImageRef
    sha256: str
    format: str
    height: int
    width: int


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class DecodedImage:
    """An image ready for the model: `pixels`, uint8 (height, width, 3) in the model's size."""

    info: ImageInfo
    pixels: npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class DecodedBlock:
    """Images that the model gets at once: `pixels`, uint8 (len(infos), height, width, 3) in the model's size."""

    infos: tuple[ImageInfo, ...]
    pixels: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.infos)


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Embedding:
    """The vector of an image, float32 (dimension,)."""

    info: ImageInfo
    vector: npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """An image without a vector.

    Attributes:
      key: of the image.
      stage: the one in which it failed.
      error, message: why.
      retryable: whether another try may help.
      is_file: whether the key was listed as that of a file. Images in shards were not: they may have any key.
    """

    key: bytes
    stage: str
    error: str
    message: str
    retryable: bool
    is_file: bool = False

    @classmethod
    def of(cls, key: bytes, stage: str, error: Exception, *, is_final: bool = False) -> "Failure":
        """Returns the failure for an error. Its message may quote a file, and is cut after 500 characters.

        Another try may help where a store or memory failed. An error of another kind says so by an attribute
        `retryable` of its class. A ValueError is the image's own fault.

        Args:
          key: of the image.
          stage: the one in which it failed.
          error: why.
          is_final: whether another try cannot help, whatever the error.
        """
        may_pass = isinstance(error, (OSError, MemoryError)) and not isinstance(error, ValueError)
        retryable = getattr(error, "retryable", may_pass) and not is_final
        return cls(key, stage, type(error).__name__, str(error)[:500], retryable)


@dataclasses.dataclass(frozen=True, slots=True)
class LeftOut:
    """Files that were passed over for their names: see `left_out` for `why` and `name`, and how many there are."""

    why: str
    name: str
    files: int


@dataclasses.dataclass(frozen=True, slots=True)
class StageSeconds:
    """How long workers' threads were busy in a stage, for one item (an image, a file, a list) or for several.

    Attributes:
      stage: the STAGE of the stage's module.
      device: the device that the model ran on; "" for other stages, and for a sum over several devices.
      items: number of images, files or lists.
      seconds: of all threads together.
      longest: seconds of the item that took longest.
      calls: number of calls. It is less than `items` if items share a call: each image of a batch has a fraction.
      started, ended: when the first call started and the last one ended, in seconds since 1970. The report counts them
        from the start of the command.
      core_seconds: their CPU time in seconds; 0.0 where that is not measured.
      lock_seconds: for which any thread of the process held the GIL; 0.0 where that is not measured.
    """

    stage: str
    device: str
    items: int
    seconds: float
    longest: float
    calls: float
    started: float
    ended: float
    core_seconds: float = 0.0
    lock_seconds: float = 0.0

    @classmethod
    def of(
        cls,
        stage: str,
        seconds: float,
        *,
        items: int = 1,
        calls: float | None = None,
        longest: float | None = None,
        device: str = "",
        core_seconds: float = 0.0,
        lock_seconds: float = 0.0,
        ended: float | None = None,
    ) -> "StageSeconds":
        """Returns the time of items that ended just now, or at `ended` in seconds since 1970.

        Args:
          stage, seconds, items, device, core_seconds, lock_seconds: see the attributes.
          calls: by default one for each item. Items of one call last as long as the whole call.
          longest: by default all items took the same time.
          ended: when the last call ended.
        """
        calls = float(items) if calls is None else calls
        ended = time.time() if ended is None else ended
        started = ended - seconds / min(calls, 1.0)
        longest = seconds / items if longest is None else longest
        return cls(stage, device, items, seconds, longest, calls, started, ended, core_seconds, lock_seconds)

    def merge(self, other: "StageSeconds") -> "StageSeconds":
        """Returns the sum of two times of one stage."""
        return StageSeconds(
            self.stage,
            self.device if self.device == other.device else "",
            self.items + other.items,
            self.seconds + other.seconds,
            longest=max(self.longest, other.longest),
            calls=self.calls + other.calls,
            started=min(self.started, other.started),
            ended=max(self.ended, other.ended),
            core_seconds=self.core_seconds + other.core_seconds,
            lock_seconds=self.lock_seconds + other.lock_seconds,
        )

    def since(self, start: float) -> "StageSeconds":
        """Returns the same with `started` and `ended` in seconds after `start`, which is in seconds since 1970."""
        return dataclasses.replace(self, started=self.started - start, ended=self.ended - start)


@dataclasses.dataclass(frozen=True, slots=True)
class Shard:
    """A file of records, complete under `path`.

    Attributes:
      sha256: of the file, hex; "" for a format that has checksums of its own for all bytes.
    """

    path: str
    records: int
    sha256: str = ""
