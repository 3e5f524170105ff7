"""The elements that travel between the stages: one frozen dataclass an edge, each with its coder.

    list → ImageRef → read → EncodedImage → decode → DecodedImage → embed → Embedding → write → Shard

Between list and read, what earlier runs wrote (`Known`) takes out images that need no inference, as `Reuse` and `Copy`.
Beside the main path every stage may give `Failure`s (what one image could not do) and `StageSeconds` (how long a worker
was busy with what), under the tags FAILURES and SECONDS.

A key is the bytes of the URI under which an image was listed: names need not be UTF-8. `uri()` and `key()` convert
between it and the `str` that filesystems take, without loss (PEP 383).
"""

import dataclasses
import time
import typing
from typing import Any

import numpy as np
import numpy.typing as npt
from apache_beam import coders

FAILURES = "failures"
SECONDS = "seconds"


def key(uri: str) -> bytes:
    """Returns the key of a URI or path as a filesystem spells it."""
    return uri.encode("utf-8", "surrogateescape")


def uri(key: bytes) -> str:
    """Returns the URI or path of a key, as a filesystem takes it."""
    return key.decode("utf-8", "surrogateescape")


@dataclasses.dataclass(frozen=True)
class ImageRef:
    """Where something to read is: an image, or a shard of images.

    `version` tells two contents under one key apart without reading them: the generation in Cloud Storage, else size
    and mtime. `size` is in bytes, `crc32c` the checksum of the bytes, in base64 as Cloud Storage gives it. "", -1 and
    "" where the listing does not know. `has_copies`: other images of the run have the same bytes, and wait for its
    vector.
    """

    key: bytes
    version: str
    size: int
    crc32c: str = ""
    has_copies: bool = False


@dataclasses.dataclass(frozen=True)
class Known:
    """What an earlier run wrote of an image with this run's model.

    `written_at` is in seconds since 1970. `shard` and `offset` say in which file and at which byte its record lies; ""
    and -1 where that is a row of a table, which is found by its key.
    """

    key: bytes
    version: str
    sha256: str
    size: int
    crc32c: str
    written_at: float
    shard: str = ""
    offset: int = -1


@dataclasses.dataclass(frozen=True)
class Reuse:
    """An image whose bytes were embedded by an earlier run, under whatever name."""

    ref: ImageRef
    known: Known


@dataclasses.dataclass(frozen=True)
class Copy:
    """An image with the same bytes as another of this run, whose key is `of`."""

    ref: ImageRef
    of: bytes


@dataclasses.dataclass(frozen=True)
class EncodedImage:
    """An image as stored: the bytes of a JPEG, PNG, …; `crc32c` and `has_copies` as in an ImageRef."""

    key: bytes
    version: str
    encoded: bytes
    crc32c: str = ""
    has_copies: bool = False

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return len(self.encoded)


@dataclasses.dataclass(frozen=True)
class ImageInfo:
    """What is recorded of an image: `sha256` of the encoded bytes (hex), `height` and `width` as stored, in pixels, and
    `size`, `crc32c` and `has_copies` as in an ImageRef."""

    key: bytes
    version: str
    sha256: str
    format: str
    height: int
    width: int
    size: int = -1
    crc32c: str = ""
    has_copies: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class DecodedImage:
    """An image ready for the model: `pixels`, uint8 (height, width, 3) in the model's size."""

    info: ImageInfo
    pixels: npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, eq=False)
class Embedding:
    """What the pipeline is for: `vector`, float32 (dimension,)."""

    info: ImageInfo
    vector: npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Failure:
    """What became of an image that has no vector: in which stage, by which error, and whether a new try may help."""

    key: bytes
    stage: str
    error: str
    message: str
    retryable: bool

    @classmethod
    def of(cls, key: bytes, stage: str, error: Exception, retryable: bool = False) -> "Failure":
        """Returns the failure that an error is; of its message, which may quote a stranger's file, the beginning."""
        return cls(key, stage, type(error).__name__, str(error)[:500], retryable)


@dataclasses.dataclass(frozen=True)
class StageSeconds:
    """How long workers' threads were busy in a stage, for one item (an image, a file, a list) or for several.

    Attributes:
      stage: the STAGE of the stage's module.
      device: the device that the model ran on; "" for other stages, and for a sum over several devices.
      items: number of images, files or lists.
      seconds: of all threads together.
      longest: seconds of the item that took longest.
      calls: number of calls. It is less than `items` where items share a call: each image of a batch has a fraction.
      started, ended: when the first call started and the last one ended, in seconds since 1970. The report counts them
        from the start of the command.
    """

    stage: str
    device: str
    items: int
    seconds: float
    longest: float
    calls: float
    started: float
    ended: float

    @classmethod
    def of(
        cls, stage: str, seconds: float, *, calls: float = 1.0, device: str = "", ended: float | None = None
    ) -> "StageSeconds":
        """Returns the time of one item that ended just now, or at `ended` in seconds since 1970."""
        if ended is None:
            ended = time.time()
        started = ended - seconds / calls  # each item of a shared call lasts as long as the whole call
        return cls(stage, device, 1, seconds, seconds, calls, started, ended)

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
        )

    def since(self, start: float) -> "StageSeconds":
        """Returns the same with `started` and `ended` in seconds after `start`, which is in seconds since 1970."""
        return dataclasses.replace(self, started=self.started - start, ended=self.ended - start)


@dataclasses.dataclass(frozen=True)
class Shard:
    """A file of records, complete under `path`."""

    path: str
    records: int


class _ArrayCoder(coders.Coder):
    """Numpy arrays of one dtype: the shape, then the raw bytes, without pickling."""

    def __init__(self, dtype: type[np.generic]):
        self._dtype = dtype
        self._parts = coders.TupleCoder([coders.IterableCoder(coders.VarIntCoder()), coders.BytesCoder()])

    def encode(self, value: npt.NDArray[Any]) -> bytes:
        encoded: bytes = self._parts.encode((value.shape, np.ascontiguousarray(value, self._dtype).tobytes()))
        return encoded

    def decode(self, encoded: bytes) -> npt.NDArray[Any]:
        shape, raw = self._parts.decode(encoded)
        return np.frombuffer(raw, self._dtype).reshape(tuple(shape))

    def is_deterministic(self) -> bool:
        return True


class RecordCoder(coders.Coder):
    """A record as the tuple of its fields, each by the coder of its type: compact, deterministic, and no pickle."""

    def __init__(self, record: type):
        self._record = record
        hints = typing.get_type_hints(record)
        self._names = tuple(field.name for field in dataclasses.fields(record))
        self._tuple = coders.TupleCoder([_FIELD_CODERS[hints[name]] for name in self._names])

    def encode(self, value: Any) -> bytes:
        encoded: bytes = self._tuple.encode(tuple(getattr(value, name) for name in self._names))
        return encoded

    def decode(self, encoded: bytes) -> Any:
        return self._record(*self._tuple.decode(encoded))

    def is_deterministic(self) -> bool:
        return True

    def to_type_hint(self) -> type:
        return self._record

    @classmethod
    def from_type_hint(cls, typehint: type, unused_registry: Any) -> "RecordCoder":
        return cls(typehint)


_FIELD_CODERS: dict[Any, coders.Coder] = {
    bytes: coders.BytesCoder(),
    str: coders.StrUtf8Coder(),
    int: coders.VarIntCoder(),
    bool: coders.BooleanCoder(),
    float: coders.FloatCoder(),
    npt.NDArray[np.uint8]: _ArrayCoder(np.uint8),
    npt.NDArray[np.float32]: _ArrayCoder(np.float32),
}
for _part in (ImageRef, Known, ImageInfo):
    _FIELD_CODERS[_part] = RecordCoder(_part)

for _record in (
    ImageRef,
    Known,
    Reuse,
    Copy,
    EncodedImage,
    ImageInfo,
    DecodedImage,
    Embedding,
    Failure,
    StageSeconds,
    Shard,
):
    coders.registry.register_coder(_record, RecordCoder)
