"""Decoding: `EncodedBlock`s → `DecodedBlock`s in the model's size."""

import contextlib
import dataclasses
import hashlib
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam

from transforms.decoders import job, journal, pool
from transforms.elements import counters
from transforms.elements.blocks import Blocks
from transforms.elements.records import DecodedBlock, EncodedBlock, EncodedImage, Failure, ImageInfo, StageSeconds
from transforms.elements.stage import FAILURES, SECONDS, Stage, StageOutput, with_stage_outputs
from transforms.images import decoding
from transforms.images.resizing import Resizing
from transforms.models.engines.fixed_batches import BATCH_SIZE_DEFAULT

STAGE = job.STAGE


@dataclasses.dataclass(eq=False)
class DecodeImages(Stage):
    """EncodedBlock → StageOutput of DecodedBlock.

    >>> from pathlib import Path
    >>> from transforms.elements.records import EncodedImage, ImageRef
    >>> cat = Path("pipeline/samples/images/cat.jpg").read_bytes()
    >>> with beam.Pipeline(runner="FnApiRunner") as pipeline:
    ...     encoded = pipeline | beam.Create([EncodedBlock((EncodedImage(ImageRef(b"cat.jpg"), cat),))])
    ...     _ = (encoded | DecodeImages((224, 224))).main | beam.Map(lambda block: print(block.pixels.shape))
    (1, 224, 224, 3)

    Attributes:
      size: (height, width) of the model's input, in pixels.
      resizing: how images are brought to that size; a name of resizing.RESIZE_MODES for the default of that mode.
      max_pixels: the most pixels that an image's header may announce.
      journals: the first half of the paths of local files that name the images being decoded; None for no such files.
      quarantine: names, as in `journal`, of images that are not decoded, because they have killed a process more than
        once, and how often.
      batch_size: images of a block, which the model gets at once. The last block of a bundle may have fewer.

    Raises:
      ValueError: if an attribute is invalid.
    """

    size: tuple[int, int]
    resizing: Resizing | str = "stretch"
    max_pixels: int = decoding.MAX_PIXELS_DEFAULT
    journals: str | None = None
    quarantine: Mapping[bytes, int] = dataclasses.field(default_factory=dict)
    batch_size: int = BATCH_SIZE_DEFAULT

    def __post_init__(self) -> None:
        self.resizing = Resizing.of(self.resizing)
        decoding.check_settings(self.size, self.max_pixels)
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size!r}: expected a number of images from 1")

    def expand(self, encoded: beam.PCollection[EncodedBlock]) -> StageOutput[DecodedBlock]:
        decode = _Decode(self)
        return StageOutput.of(encoded | "Decode" >> with_stage_outputs(decode, DecodedBlock))


class _Decode(beam.DoFn):
    def __init__(self, settings: DecodeImages):
        self._size = settings.size
        self._batch_size = settings.batch_size
        self._resizing = settings.resizing
        self._max_pixels = settings.max_pixels
        self._journals = settings.journals
        self._quarantine = settings.quarantine

    def setup(self) -> None:
        # Beam runs an instance of a DoFn in one thread at a time.
        path = f"{self._journals}{uuid.uuid4().hex}{journal.SUFFIX}" if self._journals else None
        self._journal = journal.Journal(path) if path else None
        self._blocks = Blocks(self._size, self._batch_size)

    def start_bundle(self) -> None:
        self._blocks.forget()

    def process(
        self, encoded: EncodedBlock, timestamp: Any = beam.DoFn.TimestampParam, window: Any = beam.DoFn.WindowParam
    ) -> Iterable[Any]:
        total = longest = core_seconds = 0.0
        decoded = 0
        for image in encoded.images:
            start, start_of_core = time.perf_counter(), time.thread_time()
            info = self._decode(image)
            # Measured before a yield, because the next stage runs inside it.
            seconds = time.perf_counter() - start
            core_seconds += time.thread_time() - start_of_core
            counters.observe(counters.DECODE_MICROSECONDS, seconds)
            total, longest = total + seconds, max(longest, seconds)
            if isinstance(info, Failure):
                yield beam.pvalue.TaggedOutput(FAILURES, info)
            else:
                decoded += 1
                yield from self._blocks.add(info, timestamp, window)
        if decoded:
            counters.inc(counters.IMAGES_DECODED, decoded)
        busy = StageSeconds.of(STAGE, total, items=len(encoded), longest=longest, core_seconds=core_seconds)
        yield beam.pvalue.TaggedOutput(SECONDS, busy)

    def finish_bundle(self) -> Iterator[Any]:
        yield from self._blocks.finish()

    def _decode(self, image: EncodedImage) -> ImageInfo | Failure:
        if deaths := self._quarantine.get(journal.name(image.ref)):
            return pool.quarantined(image.ref.key, deaths)
        with self._journal.at(image.ref) if self._journal else contextlib.nullcontext():
            return self._decoded(image)

    def _decoded(self, image: EncodedImage) -> ImageInfo | Failure:
        """Decodes an image into the next place of the block."""
        try:
            decoded = decoding.decode(
                image.encoded, self._size, self._resizing, self._max_pixels, out=self._blocks.next_pixels
            )
        except decoding.ImageError as error:
            return Failure.of(image.ref.key, STAGE, error)
        sha256 = hashlib.sha256(image.encoded).hexdigest()
        return ImageInfo(image.ref, sha256=sha256, format=decoded.format, height=decoded.height, width=decoded.width)
