"""Equal bytes have equal vectors under one model, in all runs."""

from collections.abc import Sequence

from pipeline.commands.verify.findings import Findings
from pipeline.commands.verify.identities import ContentVectors, identity
from pipeline.commands.verify.record_file import Record
from pipeline.commands.verify.run_files import RunFiles
from pipeline.commands.verify.sample import COSINE, similarity

# Contents whose vectors are compared at a time, which bounds the memory for vectors.
_CONTENTS_PER_ROUND = 16_384


def add(contents: ContentVectors, record: Record) -> None:
    """Adds the content and the vector of a record."""
    contents.add(_content(record), identity(record.vector.tobytes()))


def check(runs: Sequence[RunFiles], contents: ContentVectors, findings: Findings) -> None:
    """Checks that equal bytes have nearly equal vectors: images in shards are embedded anew, in other batches.

    `contents` are those of all records of the runs.
    """
    with findings.check("equal bytes have equal vectors, in all runs that were checked"):
        conflicts = contents.conflicts()
        for start in range(0, len(conflicts), _CONTENTS_PER_ROUND):
            _compare(runs, set(conflicts[start : start + _CONTENTS_PER_ROUND]), findings)


def _compare(runs: Sequence[RunFiles], contents: set[bytes], findings: Findings) -> None:
    firsts: dict[bytes, Record] = {}
    for record in (record for run in runs for record in run.records()):
        if (content := _content(record)) in contents:
            first = firsts.setdefault(content, record)
            if (cosine := similarity(record.vector, first.vector)) < COSINE:
                pair = " and ".join(key.decode("utf-8", "backslashreplace") for key in (first.key, record.key))
                findings.problem("equal bytes have different vectors", f"{pair}: cosine {cosine:.6f}")


def _content(record: Record) -> bytes:
    """Returns the identity of the bytes that a record's vector was made of, and of the model."""
    return identity(record.sha256, record.model_digest)
