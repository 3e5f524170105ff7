"""Resuming: a run takes over the vectors that its unfinished attempts have stored, and does not embed them again.

An attempt that dies leaves its parts. A TFRecord holds whole records up to the place where it breaks off. A Parquet
file that was not closed holds none. A record is taken over if the image still has the version that was embedded. This
attempt writes it again in a part of its own, so the run ends with the files of one undisturbed attempt.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam

from pipeline.attempts.attempt import Attempt
from pipeline.known.fetch_vectors import GroupByShard, fetch
from pipeline.known.ledger import known
from transforms.copies import of_copy
from transforms.elements import counters
from transforms.elements.packs import JoinByKey
from transforms.elements.record_coders import of_bytes, to_bytes
from transforms.elements.records import Embedding, ImageRef, Known, Member, Reuse
from transforms.elements.stage import MAIN, Stage
from transforms.encoding import record_files
from transforms.output.parts import Label
from transforms.read import ListMembers
from transforms.skip import first_current
from transforms.storage import files

_ORIGINS = "origins"


class Resumed(NamedTuple):
    """Vectors of unfinished attempts.

    Attributes:
      embeddings: of this run's images.
      origins: for each of them, the attempt that wrote its record, and the outcome that it had there.
    """

    embeddings: beam.PCollection[Embedding]
    origins: beam.PCollection[tuple[str, str]]


@dataclasses.dataclass(eq=False)
class ReadUnfinished(beam.PTransform):
    """Pipeline → the Known of each whole record that earlier attempts at a run have left, for one model digest.

    A run in float32 ignores vectors in float16, as in the ledger.
    """

    attempt: Attempt
    digest: str
    vector_type: str = "float32"

    def expand(self, root: Any) -> beam.PCollection[Known]:
        return (
            root
            | "Attempt" >> beam.Create([self.attempt.label])
            | "Parts" >> beam.FlatMap(_parts, self.attempt)
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.FlatMap(_known, self.digest, self.vector_type).with_output_types(Known)
        )


@dataclasses.dataclass(eq=False)
class TakeOver(Stage):
    """Reuse of records in parts → Resumed.

    The job fails if a part is gone, because then another process has taken over the run, or has completed it.
    """

    digest: str

    def expand(self, reuses: beam.PCollection[Reuse]) -> Resumed:
        outputs = (
            reuses
            | "ByPart" >> GroupByShard()
            | "TakeOver"
            >> beam.ParDo(_TakeOver(self.digest))
            .with_output_types(Embedding, **{_ORIGINS: tuple[str, str]})
            .with_outputs(_ORIGINS, main=MAIN)
        )
        return Resumed(outputs[MAIN], outputs[_ORIGINS])


class ResumedShards(NamedTuple):
    """Images in shards that unfinished attempts have embedded.

    Attributes:
      done: the key of the shard, and the number of the image in it.
      resumed: their vectors.
    """

    done: beam.PCollection[tuple[bytes, int]]
    resumed: Resumed


@dataclasses.dataclass(eq=False)
class ResumeShards(Stage):
    """ImageRef of shards → ResumedShards.

    The keys of the images in a shard are known only once it is read. So a resumed run reads each shard twice.

    Attributes:
      unfinished: the records of earlier attempts.
      members: lists the images of shards.
      in_packs: see JoinByKey.
    """

    unfinished: ReadUnfinished
    members: ListMembers
    in_packs: bool = False

    def expand(self, shards: beam.PCollection[ImageRef]) -> ResumedShards:
        by_key = {
            "members": shards
            | "ListMembers" >> self.members
            | "MembersByKey" >> beam.Map(_member_by_key).with_output_types(tuple[bytes, bytes]),
            "unfinished": shards.pipeline
            | "ReadUnfinished" >> self.unfinished
            | "ByKey" >> beam.Map(_known_by_key).with_output_types(tuple[bytes, bytes]),
        } | "SameKey" >> JoinByKey(self.in_packs)
        stored = by_key | "Stored" >> beam.FlatMap(_stored)
        reuses = stored | "Reuses" >> beam.Map(_first).with_output_types(Reuse)
        done = stored | "Done" >> beam.Map(_second).with_output_types(tuple[bytes, int])
        return ResumedShards(done, reuses | "TakeOver" >> TakeOver(self.unfinished.digest))


def _stored(group: tuple[bytes, dict[str, Iterable[bytes]]]) -> Iterator[tuple[Reuse, tuple[bytes, int]]]:
    _, same_key = group
    unfinished = [of_bytes(Known, encoded) for encoded in same_key["unfinished"]]
    for encoded in same_key["members"]:
        member = of_bytes(Member, encoded)
        if entry := first_current(member.ref, unfinished):
            yield Reuse(member.ref, entry), (member.ref.in_shard, member.number)


def _member_by_key(member: Member) -> tuple[bytes, bytes]:
    return member.ref.key, to_bytes(member)


def _known_by_key(known: Known) -> tuple[bytes, bytes]:
    return known.key, to_bytes(known)


def _first(stored: tuple[Reuse, tuple[bytes, int]]) -> Reuse:
    return stored[0]


def _second(stored: tuple[Reuse, tuple[bytes, int]]) -> tuple[bytes, int]:
    return stored[1]


class _TakeOver(beam.DoFn):
    def __init__(self, digest: str):
        self._digest = digest

    def process(self, group: tuple[str, Iterable[Reuse]]) -> Iterable[Embedding]:
        part, reuses = group
        label = Label.of(part)
        for reuse, embedding in fetch(part, reuses, self._digest):
            if not isinstance(embedding, Embedding):
                raise OSError(
                    f"the record of an earlier attempt is gone (at {reuse.known.offset} of {part}): is another "
                    "process at this run?"
                ) from embedding
            counters.inc(counters.IMAGES_RESUMED)
            yield of_copy(embedding, reuse.ref)
            if label:
                yield beam.pvalue.TaggedOutput(_ORIGINS, tuple(label))


def _parts(_: str, attempt: Attempt) -> Iterator[str]:
    return attempt.earlier_parts()


def _known(part: str, digest: str, vector_type: str) -> Iterator[Known]:
    label = Label.of(part)
    with files.open_stored(part) as file:
        for place, identity in record_files.identities(part, file, vector_type=vector_type, may_break_off=True):
            if identity.model_digest == digest:
                yield known(identity, part, place, 0.0, label.attempt if label else "")
