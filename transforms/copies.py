"""Copies: equal bytes are embedded once, in this run or in an earlier one, whatever they are called.

What the listing tells (the size, in Cloud Storage CRC32C too) is enough to see of most images that they can have no
twin; only where there may be one are the bytes read for their SHA-256, and only names and digests are joined: no bytes
cross a shuffle.
"""

import dataclasses
import hashlib
from collections.abc import Iterable
from typing import Any

import apache_beam as beam

from transforms import counters
from transforms.records import (
    FAILURES,
    SECONDS,
    Copy,
    Embedding,
    EncodedImage,
    Failure,
    ImageRef,
    Known,
    Reuse,
)

REUSED = "reused"
COPIES = "copies"
_SUSPECTS = "suspects"


@dataclasses.dataclass(eq=False)
class FindCopies(beam.PTransform):
    """{"refs": ImageRef, "known": Known} → ImageRef to embed, `Reuse` and `Copy` under the tags REUSED and COPIES.

    `Failure`s and `StageSeconds` of reading come under their tags.

    Attributes:
      read: ImageRef → EncodedImage, for what may have a twin.
      by_crc32c: whether all refs have a CRC32C; a size they all have.
    """

    read: beam.PTransform
    by_crc32c: bool

    def expand(self, inputs: dict[str, beam.PCollection]) -> dict[str, beam.PCollection]:
        refs, known = inputs["refs"], inputs["known"]
        grouped = {
            "refs": refs
            | "RefsByListed" >> beam.Map(_by_listed, self.by_crc32c).with_output_types(tuple[str, ImageRef]),
            "known": known | "KnownByListed" >> beam.Map(_listed, self.by_crc32c).with_output_types(tuple[str, bool]),
        } | "SameListed" >> beam.CoGroupByKey()
        told = grouped | "Suspect" >> beam.ParDo(_Suspect()).with_outputs(_SUSPECTS, main="alone")
        read = told[_SUSPECTS] | "ReadForDigest" >> self.read
        same = {
            "refs": read["images"] | "Digest" >> beam.Map(by_sha256).with_output_types(tuple[str, ImageRef]),
            "known": known | "KnownByDigest" >> beam.Map(_known_by_sha256).with_output_types(tuple[str, Known]),
        } | "SameDigest" >> beam.CoGroupByKey()
        found = same | "Match" >> beam.ParDo(_Match()).with_outputs(REUSED, COPIES, main="first")
        return {
            "refs": (told["alone"], found["first"]) | "ToEmbed" >> beam.Flatten().with_output_types(ImageRef),
            REUSED: found[REUSED],
            COPIES: found[COPIES],
            FAILURES: read[FAILURES],
            SECONDS: read[SECONDS],
        }


@dataclasses.dataclass(eq=False)
class CopyVectors(beam.PTransform):
    """{"embeddings": Embedding, FAILURES: Failure, COPIES: Copy} → what became of each copy.

    That is an Embedding with the vector of the image that was embedded in its place, or its failure, under FAILURES.
    """

    def expand(self, inputs: dict[str, beam.PCollection]) -> beam.pvalue.DoOutputsTuple:
        grouped = {
            "embeddings": inputs["embeddings"]
            | "WithCopies" >> beam.Filter(_has_copies)
            | "EmbeddingsByKey" >> beam.Map(_embedding_by_key).with_output_types(tuple[bytes, Embedding]),
            FAILURES: inputs[FAILURES]
            | "FailuresByKey" >> beam.Map(_failure_by_key).with_output_types(tuple[bytes, Failure]),
            COPIES: inputs[COPIES] | "CopiesByKey" >> beam.Map(_copy_by_key).with_output_types(tuple[bytes, ImageRef]),
        } | "SameFirst" >> beam.CoGroupByKey()
        return grouped | "Copy" >> beam.ParDo(_Copy()).with_outputs(FAILURES, main="embeddings")


def by_sha256(image: EncodedImage) -> tuple[str, ImageRef]:
    """Returns the digest of an image's bytes, in hex, and the image without them."""
    ref = ImageRef(image.key, image.version, image.size, image.crc32c)
    return hashlib.sha256(image.encoded).hexdigest(), ref


def of_copy(embedding: Embedding, ref: ImageRef) -> Embedding:
    """Returns the embedding of an image whose bytes equal those of another."""
    info = dataclasses.replace(embedding.info, key=ref.key, version=ref.version, has_copies=False)
    return Embedding(info, embedding.vector)


class _Suspect(beam.DoFn):
    def process(self, group: tuple[str, dict[str, Iterable[Any]]]) -> Iterable[ImageRef]:
        _, found = group
        refs = iter(found["refs"])
        first, second = next(refs, None), next(refs, None)
        if first is None:
            return
        if second is None and not any(True for _ in found["known"]):
            yield first
            return
        for ref in found["refs"]:
            yield beam.pvalue.TaggedOutput(_SUSPECTS, ref)


class _Match(beam.DoFn):
    def process(self, group: tuple[str, dict[str, Iterable[Any]]]) -> Iterable[Any]:
        _, found = group
        known = max(found["known"], key=lambda entry: (entry.written_at, entry.key), default=None)
        if known:
            for ref in found["refs"]:
                yield beam.pvalue.TaggedOutput(REUSED, Reuse(ref, known))
            return
        # The same one of them in a bundle that runs again.
        first = min(found["refs"], key=lambda ref: ref.key, default=None)
        if first is None:
            return
        has_copies = False
        for ref in found["refs"]:
            if ref.key != first.key:
                has_copies = True
                yield beam.pvalue.TaggedOutput(COPIES, Copy(ref, first.key))
        yield dataclasses.replace(first, has_copies=has_copies)


class _Copy(beam.DoFn):
    def process(self, group: tuple[bytes, dict[str, Iterable[Any]]]) -> Iterable[Embedding]:
        _, found = group
        embedding, failure = next(iter(found["embeddings"]), None), next(iter(found[FAILURES]), None)
        for ref in found[COPIES]:
            if embedding:
                counters.inc(counters.IMAGES_DUPLICATE)
                yield of_copy(embedding, ref)
            elif failure:
                yield beam.pvalue.TaggedOutput(FAILURES, dataclasses.replace(failure, key=ref.key))
            # Neither cannot be; the report would not add up, and fail the job.


def _by_listed(ref: ImageRef, by_crc32c: bool) -> tuple[str, ImageRef]:
    return _what_is_listed(ref.size, ref.crc32c, by_crc32c), ref


def _listed(known: Known, by_crc32c: bool) -> tuple[str, bool]:
    return _what_is_listed(known.size, known.crc32c, by_crc32c), True


def _what_is_listed(size: int, crc32c: str, by_crc32c: bool) -> str:
    return f"{size}-{crc32c}" if by_crc32c else f"{size}"


def _known_by_sha256(known: Known) -> tuple[str, Known]:
    return known.sha256, known


def _has_copies(embedding: Embedding) -> bool:
    return embedding.info.has_copies


def _embedding_by_key(embedding: Embedding) -> tuple[bytes, Embedding]:
    return embedding.info.key, embedding


def _failure_by_key(failure: Failure) -> tuple[bytes, Failure]:
    return failure.key, failure


def _copy_by_key(copy: Copy) -> tuple[bytes, ImageRef]:
    return copy.of, copy.ref
