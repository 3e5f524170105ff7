"""Copies: equal bytes are embedded once, in this run or in an earlier one, whatever their names.

A listing has the size of each image, and in Cloud Storage its CRC32C. An image that shares them with no other has no
copy and is not read here. Large local files of one size are compared by their first and last bytes. Only images that
may still have a copy are read for their SHA-256. Images at URLs are not compared, because each would be sent twice. The
joins carry names and digests. No bytes of an image cross a shuffle.
"""

import dataclasses
import hashlib
import operator
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam

from transforms.elements import counters, keys
from transforms.elements.packs import FlattenRefs, JoinByKey, Keyed, by_key
from transforms.elements.record_coders import of_bytes, to_bytes
from transforms.elements.records import Copy, Embedding, Failure, ImageRef, Known, Reuse, StageSeconds
from transforms.elements.stage import FAILURES, Stage, StageOutput, with_stage_outputs
from transforms.storage import local, locations

# The report times reading for digests as a stage of its own, apart from reading for pixels.
STAGE = "digest"

# Reading both ends of a smaller file takes as long as reading all of it. Its digest is needed anyway if it has a twin.
_LARGE_BYTES = 1 << 17
_END_BYTES = 4096

_UNIQUE, _SUSPECTS, _KNOWN = "unique", "suspects", "known"
_FIRSTS, _REUSED, _RESUMED, _COPIES = "firsts", "reused", "resumed", "copies"


class CopiesOutput(NamedTuple):
    """Images by the source of their vectors.

    Attributes:
      to_embed: refs of images to read, decode and embed: one of each group of equal images.
      reused: images whose bytes an earlier run has embedded.
      resumed: images whose bytes an unfinished attempt at this run has embedded under another key.
      copies: images with the same bytes as an image in `to_embed`.
      failures, seconds: of reading images for their digests.
    """

    to_embed: beam.PCollection[ImageRef]
    reused: beam.PCollection[Reuse]
    resumed: beam.PCollection[Reuse]
    copies: beam.PCollection[Copy]
    failures: beam.PCollection[Failure]
    seconds: beam.PCollection[StageSeconds]


@dataclasses.dataclass(eq=False)
class FindCopies(Stage):
    """{"refs": ImageRef, "known": Known} → CopiesOutput.

    >>> from pathlib import Path
    >>> from transforms.list import ListImages
    >>> from transforms.read import DigestImages
    >>> with beam.Pipeline(runner="FnApiRunner") as pipeline:
    ...     listed = pipeline | ListImages(("pipeline/samples/images/*",))
    ...     known = pipeline | "Known" >> beam.Create([]).with_output_types(Known)
    ...     output = {"refs": listed.main, "known": known} | FindCopies(DigestImages())
    ...     _ = output.to_embed | beam.combiners.Count.Globally() | beam.Map(print)
    13

    Attributes:
      digest: ImageRef → StageOutput of (SHA-256 in hex, ImageRef); applied to images that may have a twin.
      by_crc32c: whether every ref has a CRC32C. Every ref has a size, except those of URLs.
      in_packs: see JoinByKey.

    Raises:
      ValueError: if `digest` is not a PTransform.
    """

    digest: beam.PTransform
    by_crc32c: bool = False
    in_packs: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.digest, beam.PTransform):
            raise ValueError(f"digest={self.digest!r}: expected a PTransform, such as DigestImages()")  # noqa: TRY004 - as everywhere

    def expand(self, inputs: dict[str, beam.PCollection]) -> CopiesOutput:
        refs, known = inputs["refs"], inputs["known"]
        by_listed = by_key(_size_and_crc32c if self.by_crc32c else _size)
        same_listed = {
            "refs": refs | "RefsByListed" >> by_listed,
            "known": known | "KnownByListed" >> by_listed,
        } | "SameListed" >> JoinByKey(self.in_packs)
        suspect = beam.ParDo(_Suspect()).with_output_types(
            ImageRef, **{_SUSPECTS: ImageRef, _KNOWN: tuple[bytes, bytes]}
        )
        suspected = same_listed | "Suspect" >> suspect.with_outputs(_SUSPECTS, _KNOWN, main=_UNIQUE)
        digests = suspected[_SUSPECTS] | "ReadForDigest" >> self.digest
        by_sha256 = beam.MapTuple(lambda sha256, ref: (sha256.encode(), to_bytes(ref))).with_output_types(Keyed)
        same_digest = {
            "refs": digests.main | "RefsByDigest" >> by_sha256,
            "known": suspected[_KNOWN],
        } | "SameDigest" >> JoinByKey(self.in_packs)
        match = beam.ParDo(_Match()).with_output_types(ImageRef, **{_REUSED: Reuse, _RESUMED: Reuse, _COPIES: Copy})
        matched = same_digest | "Match" >> match.with_outputs(_REUSED, _RESUMED, _COPIES, main=_FIRSTS)
        return CopiesOutput(
            to_embed=(suspected[_UNIQUE], matched[_FIRSTS]) | "ToEmbed" >> FlattenRefs(self.in_packs),
            reused=matched[_REUSED],
            resumed=matched[_RESUMED],
            copies=matched[_COPIES],
            failures=digests.failures,
            seconds=digests.seconds,
        )


@dataclasses.dataclass(eq=False)
class CopyVectors(Stage):
    """{"embeddings": Embedding, "failures": Failure, "copies": Copy} → StageOutput of Embedding, one for each copy.

    A copy gets the vector of the image that was embedded in its place, or the failure of that image.

    >>> import numpy as np
    >>> from transforms.elements.records import ImageInfo
    >>> first = ImageRef(b"a.jpg", "1", size=3, has_copies=True)
    >>> embedding = Embedding(ImageInfo(first, "", "jpeg", 8, 8), np.zeros(4, np.float32))
    >>> with beam.Pipeline(runner="FnApiRunner") as pipeline:
    ...     inputs = {
    ...         "embeddings": pipeline | "Embeddings" >> beam.Create([embedding]),
    ...         "failures": pipeline | "Failures" >> beam.Create([]).with_output_types(Failure),
    ...         "copies": pipeline | "Copies" >> beam.Create([Copy(ImageRef(b"b.jpg", "1", size=3), of=b"a.jpg")]),
    ...     }
    ...     _ = (inputs | CopyVectors()).main | beam.Map(lambda copied: print(copied.info.ref.key))
    b'b.jpg'
    """

    def expand(self, inputs: dict[str, beam.PCollection]) -> StageOutput[Embedding]:
        with_copies = inputs["embeddings"] | "WithCopies" >> beam.Filter(lambda each: each.info.ref.has_copies)
        by_first = beam.Map(lambda copy: (copy.of, to_bytes(copy.ref))).with_output_types(Keyed)
        grouped = {
            "embeddings": with_copies | "EmbeddingsByKey" >> by_key(operator.attrgetter("info.ref.key")),
            "failures": inputs["failures"] | "FailuresByKey" >> by_key(operator.attrgetter("key")),
            "copies": inputs["copies"] | "CopiesByKey" >> by_first,
        } | "SameFirst" >> beam.CoGroupByKey()
        return StageOutput.of(grouped | "Copy" >> with_stage_outputs(_Copy(), Embedding))


def of_copy(embedding: Embedding, ref: ImageRef) -> Embedding:
    """Returns the embedding of `ref`, an image with the same bytes as the one that was embedded."""
    stored = embedding.info.ref
    copy_ref = dataclasses.replace(ref, size=stored.size, crc32c=stored.crc32c, has_copies=False)
    return Embedding(dataclasses.replace(embedding.info, ref=copy_ref), embedding.vector)


class _Suspect(beam.DoFn):
    def process(self, group: tuple[bytes, dict[str, Iterable[bytes]]]) -> Iterable[ImageRef]:
        _, same_listed = group
        refs = _decoded(same_listed["refs"])
        first, second = next(refs, None), next(refs, None)
        if first is None:
            return
        has_known = False
        for known in same_listed["known"]:
            has_known = True
            yield beam.pvalue.TaggedOutput(_KNOWN, (of_bytes(Known, known).sha256.encode(), known))
        if second is None and not has_known:
            yield first
            return
        # Records of earlier runs do not hold the ends of the files.
        if has_known or not all(map(_is_large_local_file, _decoded(same_listed["refs"]))):
            for ref in _decoded(same_listed["refs"]):
                yield beam.pvalue.TaggedOutput(_SUSPECTS, ref)
            return
        for alike in _by_ends(_decoded(same_listed["refs"])):
            for ref in alike:
                yield beam.pvalue.TaggedOutput(_SUSPECTS, ref) if len(alike) > 1 else ref


class _Match(beam.DoFn):
    def process(self, group: tuple[bytes, dict[str, Iterable[bytes]]]) -> Iterable[Any]:
        _, same_digest = group
        # Records of earlier runs come first, as they would if this run had not been interrupted.
        entries = (of_bytes(Known, entry) for entry in same_digest["known"])
        known = max(entries, key=lambda entry: (not entry.attempt, entry.written_at, entry.key), default=None)
        refs = [of_bytes(ImageRef, ref) for ref in same_digest["refs"]]
        if known:
            tag = _RESUMED if known.attempt else _REUSED
            for ref in refs:
                yield beam.pvalue.TaggedOutput(tag, Reuse(ref, known))
            return
        # By key, so that a bundle that runs again chooses the same image.
        first = min(refs, key=lambda ref: ref.key, default=None)
        if first is None:
            return
        has_copies = False
        for ref in refs:
            if ref.key != first.key:
                has_copies = True
                yield beam.pvalue.TaggedOutput(_COPIES, Copy(ref, first.key))
        yield dataclasses.replace(first, has_copies=has_copies)


class _Copy(beam.DoFn):
    def process(self, group: tuple[bytes, dict[str, Iterable[Any]]]) -> Iterable[Embedding]:
        _, same_first = group
        embedding = next((of_bytes(Embedding, encoded) for encoded in same_first["embeddings"]), None)
        failure = next((of_bytes(Failure, encoded) for encoded in same_first["failures"]), None)
        for encoded in same_first["copies"]:
            ref = of_bytes(ImageRef, encoded)
            if embedding:
                counters.inc(counters.IMAGES_DUPLICATE)
                yield of_copy(embedding, ref)
            elif failure:
                yield beam.pvalue.TaggedOutput(FAILURES, dataclasses.replace(failure, key=ref.key))
            # One of the two exists. Otherwise the counts of the report would not add up, which fails the job.


def _decoded(refs: Iterable[bytes]) -> Iterator[ImageRef]:
    return (of_bytes(ImageRef, ref) for ref in refs)


def _is_large_local_file(ref: ImageRef) -> bool:
    return ref.size >= _LARGE_BYTES and locations.is_local(keys.uri(ref.key))


def _by_ends(refs: Iterable[ImageRef]) -> Iterator[list[ImageRef]]:
    """Yields groups of local files with equal first and last bytes. An unreadable file is a group of its own."""
    by_ends: defaultdict[bytes, list[ImageRef]] = defaultdict(list)
    for ref in refs:
        try:
            ends = local.ends(keys.uri(ref.key), _END_BYTES)
        except OSError:  # the stage that reads all of it says why
            yield [ref]
        else:
            by_ends[hashlib.sha256(ends).digest()].append(ref)
    yield from by_ends.values()


def _size(image: ImageRef | Known) -> bytes:
    """Returns what equal images share. An image at a URL has no size before it is read, so it equals no other."""
    return b"%d" % image.size if image.size >= 0 else image.key


def _size_and_crc32c(image: ImageRef | Known) -> bytes:
    return f"{image.size}-{image.crc32c}".encode()
