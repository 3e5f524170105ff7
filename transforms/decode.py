"""Decoding: `EncodedBlock`s → `DecodedBlock`s in the model's size."""

import contextlib
import dataclasses
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam

from transforms.decoders import journal, task
from transforms.elements import counters
from transforms.elements.blocks import Blocks, check_batch_size
from transforms.elements.records import DecodedBlock, EncodedBlock, EncodedImage, Failure, ImageInfo, StageSeconds
from transforms.elements.stage import FAILURES, SECONDS, Stage, StageOutput, with_stage_outputs
from transforms.images.decode_image import STAGE, decode_or_failure
from transforms.images.decode_settings import MAX_PIXELS_DEFAULT, DecodeSettings
from transforms.images.resizing import Resizing, as_resizing
from transforms.models.engines.fixed_batches import BATCH_SIZE_DEFAULT


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
      journals: the prefix of the paths of local files that name the images being decoded; None for no such files.
      quarantine: images that are not decoded, because they killed a process more than once: the name as in `journal`,
        and the number of deaths.
      batch_size: images of a block, which the model gets at once. The last block of a bundle may have fewer.

    Raises:
      ValueError: if an attribute is invalid.
    """

    size: tuple[int, int]
    resizing: Resizing | str = "stretch"
    max_pixels: int = MAX_PIXELS_DEFAULT
    journals: str | None = None
    quarantine: Mapping[bytes, int] = dataclasses.field(default_factory=dict)
    batch_size: int = BATCH_SIZE_DEFAULT

    def __post_init__(self) -> None:
        self.settings = DecodeSettings(self.size, as_resizing(self.resizing), self.max_pixels)
        check_batch_size(self.batch_size)

    def expand(self, encoded: beam.PCollection[EncodedBlock]) -> StageOutput[DecodedBlock]:
        decode = _Decode(self)
        return StageOutput.of(encoded | "Decode" >> with_stage_outputs(decode, DecodedBlock))


class _Decode(beam.DoFn):
    def __init__(self, transform: DecodeImages):
        self._settings = transform.settings
        self._batch_size = transform.batch_size
        self._journals = transform.journals
        self._quarantine = transform.quarantine

    def setup(self) -> None:
        # Beam runs an instance of a DoFn in one thread at a time.
        path = f"{self._journals}{uuid.uuid4().hex}{journal.SUFFIX}" if self._journals else None
        self._journal = journal.Journal(path) if path else None
        self._blocks = Blocks(self._settings.size, self._batch_size)

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
            return task.quarantined(image.ref.key, deaths)
        with self._journal.at(image.ref) if self._journal else contextlib.nullcontext():
            return decode_or_failure(image, self._settings, self._blocks.next_pixels)
