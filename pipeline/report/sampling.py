"""The sample of a run for its page: some images with their vectors and pictures, and some failures.

The images are those whose keys have the smallest hashes. So the sample is the same on each runner and in each order,
samples of parts merge, and two runs over the same images share it.
"""

import dataclasses
import heapq
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import apache_beam as beam
import numpy as np
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.shared import Shared
from apache_beam.utils.windowed_value import WindowedValue

from pipeline.report.page.facts import FailedImage
from pipeline.report.page.sampled_images import MAX_SAMPLE, Sample
from transforms.elements import keys
from transforms.elements.records import DecodedBlock, Embedding, Failure
from transforms.images import thumbnail

# A thread holds this many elements more than the smallest, at 27 KB per picture.
_SPARE = 64
_VECTORS, _PICTURES, _FAILURES = "vectors", "pictures", "failures"

# Kind → elements of this kind with the smallest hashes, as tuples that begin with the hash and the key.
Collected: TypeAlias = Mapping[str, Sequence[tuple[Any, ...]]]


@dataclasses.dataclass(eq=False)
class CollectSample(beam.PTransform):
    """Pipeline → (kind, tuples), one element for each kind; `sample` and `failures` read them.

    A worker process passes on few elements more than a sample has, however many images it embeds: once it has seen
    MAX_SAMPLE of them, only smaller hashes can be in the sample.

    Attributes:
      vectors: all vectors of the run, in several collections.
      blocks: pixels of the images that are embedded now.
      failures: all failures.
      accelerator: a resource hint for the steps that take pixels, which keeps them in one stage with decoding.
    """

    vectors: Sequence[beam.PCollection[Embedding]]
    blocks: beam.PCollection[DecodedBlock]
    failures: beam.PCollection[Failure]
    accelerator: str | None = None

    def expand(self, root: Any) -> beam.PCollection[tuple[str, list[tuple[Any, ...]]]]:
        pictures: beam.PTransform = beam.ParDo(_Pictures())
        if self.accelerator:
            pictures = pictures.with_resource_hints(accelerator=self.accelerator)
        kinds = tuple[str, tuple[Any, ...]]
        return (
            (
                *(
                    vectors | f"Vectors{number}" >> beam.ParDo(_Vectors()).with_output_types(kinds)
                    for number, vectors in enumerate(self.vectors)
                ),
                self.blocks | "Pictures" >> pictures.with_output_types(kinds),
                self.failures | "Failed" >> beam.Map(of_failure).with_output_types(kinds),
            )
            | "All" >> beam.Flatten()
            | "Smallest" >> beam.combiners.Top.SmallestPerKey(MAX_SAMPLE)
        )


def sample(collected: Collected, dimension: int) -> Sample:
    """Returns the images with a vector, with their pictures if there are any."""
    vectors = {key: vector for _, key, vector in collected.get(_VECTORS, ())}
    pictures = {key: (picture, light) for _, key, picture, light in collected.get(_PICTURES, ())}
    light = [pictures[key][1] for key in vectors if key in pictures]
    return Sample(
        tuple(vectors),
        np.frombuffer(b"".join(vectors.values()), np.float32).reshape(len(vectors), dimension),
        tuple(pictures[key][0] if key in pictures else b"" for key in vectors),
        sum(light) / len(light) if light else None,
    )


def failures(collected: Collected) -> list[FailedImage]:
    """Returns up to MAX_SAMPLE images of each stage and error that failed."""
    return [
        FailedImage(*fields)
        for kind, elements in collected.items()
        if kind.startswith(_FAILURES)
        for _, *fields in elements
    ]


class Smallest:
    """The smallest hashes that a process has seen. Threads share it."""

    def __init__(self, count: int = MAX_SAMPLE):
        self._count = count
        self._lock = threading.Lock()
        self._largest_first: list[int] = []
        self._hashes: set[int] = set()

    def takes(self, hashed: bytes) -> bool:
        """Returns whether a hash is among the smallest so far, and keeps it if so. It may come again."""
        number = int.from_bytes(hashed, "big")
        with self._lock:
            if number in self._hashes:
                return True
            if len(self._hashes) < self._count:
                heapq.heappush(self._largest_first, -number)
            elif number < -self._largest_first[0]:
                self._hashes.remove(-heapq.heapreplace(self._largest_first, -number))
            else:
                return False
            self._hashes.add(number)
            return True

    def has(self, hashed: bytes) -> bool:
        """Returns whether a hash is still one of the smallest."""
        return int.from_bytes(hashed, "big") in self._hashes


class _Sampling(beam.DoFn):
    """Passes on, at the end of a bundle, the elements whose hashes are still among the smallest. Most are not."""

    def __init__(self) -> None:
        self._shared = Shared()

    def setup(self) -> None:
        self._smallest = self._shared.acquire(Smallest)

    def start_bundle(self) -> None:
        self._elements: dict[bytes, tuple[Any, ...]] = {}
        self._most = MAX_SAMPLE

    def finish_bundle(self) -> Iterable[WindowedValue]:
        self._let_go()
        for hashed, element in self._elements.items():
            yield GlobalWindows.windowed_value(self._output(hashed, *element))
        self._elements = {}

    def _output(self, hashed: bytes, *element: Any) -> tuple[str, tuple[Any, ...]]:
        raise NotImplementedError

    def _add(self, hashed: bytes, *element: Any) -> None:
        self._elements[hashed] = element
        if len(self._elements) > self._most:
            self._let_go()
            self._most = len(self._elements) + _SPARE

    def _let_go(self) -> None:
        has = self._smallest.has
        self._elements = {hashed: element for hashed, element in self._elements.items() if has(hashed)}


class _Vectors(_Sampling):
    def process(self, embedding: Embedding) -> Iterable[tuple[str, tuple[Any, ...]]]:
        key = embedding.info.ref.key
        if self._smallest.takes(hashed := keys.hashed(key)):
            self._add(hashed, key, np.asarray(embedding.vector, np.float32).tobytes())
        return ()

    def _output(self, hashed: bytes, *element: Any) -> tuple[str, tuple[Any, ...]]:
        return _VECTORS, (hashed, *element)


class _Pictures(_Sampling):
    def process(self, block: DecodedBlock) -> Iterable[tuple[str, tuple[Any, ...]]]:
        for info, pixels in zip(block.infos, block.pixels, strict=True):
            key = info.ref.key
            if self._smallest.takes(hashed := keys.hashed(key)):
                self._add(hashed, key, thumbnail.reduced(pixels), thumbnail.brightness(pixels))
        return ()

    def _output(self, hashed: bytes, *element: Any) -> tuple[str, tuple[Any, ...]]:
        key, pixels, light = element
        return _PICTURES, (hashed, key, thumbnail.encoded(pixels), light)


def of_vector(key: bytes, vector: bytes) -> tuple[str, tuple[Any, ...]]:
    """Returns the kind and the element of an image with a vector of float32."""
    return _VECTORS, (keys.hashed(key), key, vector)


def of_failure(failure: Failure) -> tuple[str, tuple[Any, ...]]:
    """Returns the kind and the element of an image that failed."""
    facts = failure.key, failure.stage, failure.error, failure.message, failure.retryable
    return f"{_FAILURES}/{failure.stage}/{failure.error}", (keys.hashed(failure.key), *facts)
