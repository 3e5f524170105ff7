"""Decoding: `EncodedImage`s → `DecodedImage`s in the model's size."""

import dataclasses
import hashlib
import time
from collections.abc import Iterable

import apache_beam as beam

from transforms import counters
from transforms.images import decoding
from transforms.records import FAILURES, SECONDS, DecodedImage, EncodedImage, Failure, ImageInfo, StageSeconds

STAGE = "decode"


@dataclasses.dataclass(eq=False)
class DecodeImages(beam.PTransform):
    """EncodedImage → DecodedImage, and `Failure`s and `StageSeconds` under their tags.

    Attributes:
      size: (height, width) that the model takes, in pixels.
      resize_mode: one of images.RESIZE_MODES.
      max_pixels: the most pixels that an image's header may announce.
    """

    size: tuple[int, int]
    resize_mode: str = "stretch"
    max_pixels: int = decoding.MAX_PIXELS_DEFAULT

    def __post_init__(self) -> None:
        if self.resize_mode not in decoding.RESIZE_MODES:
            raise ValueError(f"resize_mode={self.resize_mode!r}: expected one of {', '.join(decoding.RESIZE_MODES)}")

    def expand(self, encoded: beam.PCollection[EncodedImage]) -> beam.pvalue.DoOutputsTuple:
        decode = _Decode(self.size, self.resize_mode, self.max_pixels)
        return encoded | "Decode" >> beam.ParDo(decode).with_outputs(FAILURES, SECONDS, main="images")


class _Decode(beam.DoFn):
    def __init__(self, size: tuple[int, int], resize_mode: str, max_pixels: int):
        self._size = size
        self._resize_mode = resize_mode
        self._max_pixels = max_pixels

    def process(self, image: EncodedImage) -> Iterable[DecodedImage]:
        start = time.perf_counter()
        decoded = self._decode(image)
        # Before anything is yielded: whatever takes the image runs inside that yield.
        seconds = StageSeconds(STAGE, time.perf_counter() - start)
        counters.observe(counters.DECODE_MICROSECONDS, seconds.seconds)
        yield beam.pvalue.TaggedOutput(SECONDS, seconds)
        if isinstance(decoded, Failure):
            yield beam.pvalue.TaggedOutput(FAILURES, decoded)
        else:
            counters.inc(counters.IMAGES_DECODED)
            yield decoded

    def _decode(self, image: EncodedImage) -> DecodedImage | Failure:
        try:
            decoded = decoding.decode(image.encoded, self._size, self._resize_mode, self._max_pixels)
        except decoding.ImageError as error:
            return Failure.of(image.key, STAGE, error)
        sha256 = hashlib.sha256(image.encoded).hexdigest()
        info = ImageInfo(
            image.key,
            image.version,
            sha256,
            decoded.format,
            decoded.height,
            decoded.width,
            image.size,
            image.crc32c,
            image.has_copies,
        )
        return DecodedImage(info, decoded.pixels)
