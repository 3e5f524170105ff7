"""pipeline.known.only_new: what is left to embed when the ledger, and what the bytes equal, are taken out."""

import dataclasses
import hashlib

import apache_beam as beam
import numpy as np
import pytest

from pipeline.attempts.resume import Resumed
from pipeline.known.only_new import STAGE, OnlyNew
from tests.helpers.collecting import collect
from transforms.copies import of_copy
from transforms.elements.records import (
    Copy,
    Embedding,
    Failure,
    ImageInfo,
    ImageRef,
    Known,
    Reuse,
    StageSeconds,
)
from transforms.elements.stage import FAILURES, SECONDS, StageOutput, with_stage_outputs

pytestmark = pytest.mark.slow

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
OF_LEDGER = {"known": [b"/as-it-was", b"/changed", b"/deleted"], "unlisted": [b"/deleted"]}
REFS = {key: ImageRef(key, "1", 6) for key in BYTES}


class _Ledger(beam.PTransform):
    def expand(self, root):
        return root | beam.Create(LEDGER).with_output_types(Known)


class _Read(beam.PTransform):
    def expand(self, refs):
        return StageOutput.of(refs | with_stage_outputs(_ReadBytes(), tuple[str, ImageRef]))


class _ReadBytes(beam.DoFn):
    def process(self, ref: ImageRef):
        if content := BYTES[ref.key]:
            yield hashlib.sha256(content).hexdigest(), ImageRef(ref.key, ref.version, len(content))
        else:
            yield beam.pvalue.TaggedOutput(FAILURES, Failure.of(ref.key, "read", OSError("gone")))
        yield beam.pvalue.TaggedOutput(SECONDS, StageSeconds.of("read", 0.5, ended=7.0))


class _Vectors(beam.PTransform):
    def expand(self, reuses):
        return StageOutput.of(reuses | with_stage_outputs(_Fetch(), Embedding))


class _Fetch(beam.DoFn):
    def process(self, reuse: Reuse):
        if reuse.known.key == b"/deleted":
            yield beam.pvalue.TaggedOutput(FAILURES, Failure.of(reuse.ref.key, "reuse", LookupError("gone")))
            return
        info = ImageInfo(ImageRef(reuse.known.key, reuse.known.version, 6), reuse.known.sha256, "png", 1, 1)
        yield of_copy(Embedding(info, np.ones(3, np.float32)), reuse.ref)


def outputs_of(new):
    """Returns the collections of a NewOutput by name."""
    outputs = {name: collections for name, collections in new._asdict().items() if collections is not None}
    resumed, copies = outputs.pop("resumed", None), outputs.pop("resumed_copies", None)
    if resumed:
        outputs |= {"resumed embeddings": resumed.embeddings, "resumed origins": resumed.origins}
        outputs["resumed copies"] = copies.embeddings
    return outputs


def only_new(ledger, reprocess, unfinished=None, in_packs=False):
    """Returns the keys under each tag, and the busy times."""

    def build(root):
        refs = root | "Refs" >> beam.Create(list(REFS.values())).with_output_types(ImageRef)
        return outputs_of(refs | OnlyNew(ledger, unfinished, _Vectors(), _Read(), False, reprocess, in_packs))

    outputs, _ = collect(build)
    seconds = outputs.pop("seconds")
    return {tag: sorted(map(_key, elements)) for tag, elements in outputs.items()}, seconds


def _key(element):
    if isinstance(element, tuple):  # of an origin
        return element
    if isinstance(element, Copy):
        return element.ref.key, element.of
    return element.info.ref.key if isinstance(element, Embedding) else element.key


@pytest.mark.parametrize("in_packs", [False, True])
def test_what_the_ledger_knows_is_taken_out(in_packs):
    keys, seconds = only_new(_Ledger(), reprocess=False, in_packs=in_packs)
    assert keys == {
        "to_embed": [b"/changed", b"/new"],
        "skipped": [b"/as-it-was"],
        **OF_LEDGER,
        "reused": [b"/copy-of-known"],
        "copies": [(b"/new-copy", b"/new")],
        "failures": [b"/lost-copy", b"/unreadable"],
    }
    # Six were read for their digests, and that is told from reading for pixels.
    assert seconds == [StageSeconds.of(STAGE, 0.5, ended=7.0)] * 6


@pytest.mark.parametrize("ledger", [None, _Ledger()], ids=["no ledger", "a ledger, to see what is gone"])
def test_reprocessing_takes_out_only_copies_within_the_run(ledger):
    keys, seconds = only_new(ledger, reprocess=True)
    assert keys == {
        "to_embed": [b"/as-it-was", b"/changed", b"/lost-copy", b"/new"],
        **({"skipped": []} | OF_LEDGER if ledger else {}),
        "reused": [],
        "copies": [(b"/copy-of-known", b"/as-it-was"), (b"/new-copy", b"/new")],
        "failures": [b"/unreadable"],
    }
    assert len(seconds) == len(REFS)
    assert set(seconds) == {StageSeconds.of(STAGE, 0.5, ended=7.0)}


LABEL = "20261121T010203.456Z"


class _Unfinished(beam.PTransform):
    """An attempt that has stored three images, of which one has changed since, and one of bytes that have two names."""

    digest = "d" * 64

    def expand(self, root):
        entries = [known(b"/new", "1", b"four.."), known(b"/as-it-was", "1", b"one..."), known(b"/changed", "0", b"2")]
        return root | beam.Create(
            [dataclasses.replace(entry, attempt=LABEL, shard="part", written_at=0.0) for entry in entries]
        ).with_output_types(Known)


class _TakeOver(beam.PTransform):
    def __init__(self, digest):
        super().__init__()
        assert digest == _Unfinished.digest

    def expand(self, reuses):
        embeddings = reuses | "Embeddings" >> beam.Map(_taken_over)
        return Resumed(embeddings, reuses | "Origins" >> beam.Map(_origin))


def _taken_over(reuse: Reuse) -> Embedding:
    info = ImageInfo(ImageRef(reuse.known.key, reuse.known.version, 6), reuse.known.sha256, "png", 1, 1)
    return of_copy(Embedding(info, np.ones(3, np.float32)), reuse.ref)


def _origin(reuse: Reuse) -> tuple[str, str]:
    return reuse.known.attempt, "embedded"


@pytest.mark.parametrize(("ledger", "reprocess"), [(_Ledger(), False), (_Ledger(), True), (None, True)])
def test_what_an_unfinished_attempt_has_stored_is_taken_over_first(monkeypatch, ledger, reprocess):
    monkeypatch.setattr("pipeline.known.only_new.TakeOver", _TakeOver)
    keys, _ = only_new(ledger, reprocess, _Unfinished())
    assert keys.pop("resumed origins") == [(LABEL, "embedded")] * 2
    assert keys == {
        "to_embed": [b"/changed", b"/lost-copy"] if reprocess else [b"/changed"],
        # The attempt counted it as embedded, which the ledger does not know.
        "resumed embeddings": [b"/as-it-was", b"/new"],
        # Of bytes that an earlier run has, the vector is reused, as it would have been without the interruption.
        "resumed copies": [b"/copy-of-known", b"/new-copy"] if reprocess else [b"/new-copy"],
        "reused": [] if reprocess else [b"/copy-of-known"],
        "skipped": [],
        **(OF_LEDGER if ledger else {}),
        "copies": [],
        "failures": [b"/unreadable"] if reprocess else [b"/lost-copy", b"/unreadable"],
    }
