"""pipeline.only_new: what is left to embed when the ledger, and what the bytes equal, are taken out."""

import dataclasses
import hashlib

import apache_beam as beam
import numpy as np
import pytest

from pipeline.only_new import STAGE, OnlyNew
from tests.collecting import collect
from transforms.copies import COPIES, REUSED, of_copy
from transforms.records import (
    FAILURES,
    SECONDS,
    Copy,
    Embedding,
    EncodedImage,
    Failure,
    ImageInfo,
    ImageRef,
    Known,
    Reuse,
    StageSeconds,
)
from transforms.skip import GONE, SKIPPED

# All of one size, as no listing tells them apart: each is read for its digest.
BYTES = {
    b"/as-it-was": b"one...",
    b"/changed": b"two...",
    b"/copy-of-known": b"one...",
    b"/lost-copy": b"three.",
    b"/new": b"four..",
    b"/new-copy": b"four..",
    b"/unreadable": b"",
}


def known(key, version, content):
    return Known(key, version, hashlib.sha256(content).hexdigest(), len(content), "", 1.0)


LEDGER = [
    known(b"/as-it-was", "1", b"one..."),
    known(b"/changed", "0", b"before"),
    known(b"/deleted", "1", b"three."),
]
REFS = {key: ImageRef(key, "1", 6) for key in BYTES}


class _Ledger(beam.PTransform):
    def expand(self, root):
        return root | beam.Create(LEDGER).with_output_types(Known)


class _Read(beam.PTransform):
    def expand(self, refs):
        return refs | beam.ParDo(_ReadBytes()).with_outputs(FAILURES, SECONDS, main="images")


class _ReadBytes(beam.DoFn):
    def process(self, ref: ImageRef):
        if content := BYTES[ref.key]:
            yield EncodedImage(ref.key, ref.version, content)
        else:
            yield beam.pvalue.TaggedOutput(FAILURES, Failure.of(ref.key, "read", OSError("gone")))
        yield beam.pvalue.TaggedOutput(SECONDS, StageSeconds("read", 0.5, ended=7.0))


class _Vectors(beam.PTransform):
    def expand(self, reuses):
        return reuses | beam.ParDo(_Fetch()).with_outputs(FAILURES, main="embeddings")


class _Fetch(beam.DoFn):
    def process(self, reuse: Reuse):
        if reuse.known.key == b"/deleted":
            yield beam.pvalue.TaggedOutput(FAILURES, Failure.of(reuse.ref.key, "reuse", LookupError("gone")))
            return
        info = ImageInfo(reuse.known.key, reuse.known.version, reuse.known.sha256, "png", 1, 1, 6)
        yield of_copy(Embedding(info, np.ones(3, np.float32)), reuse.ref)


def only_new(ledger, reprocess):
    """Returns the keys under each tag, and the busy times."""

    def build(root):
        refs = root | "Refs" >> beam.Create(list(REFS.values())).with_output_types(ImageRef)
        return refs | OnlyNew(ledger, _Vectors(), _Read(), by_crc32c=False, reprocess=reprocess)

    outputs, _ = collect(build)
    seconds = outputs.pop(SECONDS)
    return {tag: sorted(map(_key, elements)) for tag, elements in outputs.items()}, seconds


def _key(element):
    if isinstance(element, Copy):
        return element.ref.key, element.of
    return element.info.key if isinstance(element, Embedding) else element.key


def test_what_the_ledger_knows_is_taken_out():
    keys, seconds = only_new(_Ledger(), reprocess=False)
    assert keys == {
        "refs": [b"/changed", b"/new"],
        SKIPPED: [b"/as-it-was"],
        GONE: [b"/deleted"],
        REUSED: [b"/copy-of-known"],
        COPIES: [(b"/new-copy", b"/new")],
        FAILURES: [b"/lost-copy", b"/unreadable"],
    }
    # Six were read for their digests, and that is told from reading for pixels.
    assert seconds == [StageSeconds(STAGE, 0.5, ended=7.0)] * 6


@pytest.mark.parametrize("ledger", [None, _Ledger()], ids=["no ledger", "a ledger, to see what is gone"])
def test_reprocessing_takes_out_only_copies_within_the_run(ledger):
    keys, seconds = only_new(ledger, reprocess=True)
    assert keys == {
        "refs": [b"/as-it-was", b"/changed", b"/lost-copy", b"/new"],
        SKIPPED: [],
        GONE: [b"/deleted"] if ledger else [],
        REUSED: [],
        COPIES: [(b"/copy-of-known", b"/as-it-was"), (b"/new-copy", b"/new")],
        FAILURES: [b"/unreadable"],
    }
    assert len(seconds) == len(REFS)
    assert {dataclasses.replace(busy, seconds=0.0) for busy in seconds} == {StageSeconds(STAGE, 0.0, ended=7.0)}
