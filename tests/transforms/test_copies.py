"""transforms.copies: equal bytes are embedded once, and only what may be equal is read to find out."""

import dataclasses
import hashlib
import os
import random
import zlib
from collections.abc import Iterable

import apache_beam as beam
import numpy as np
import pytest

from tests.helpers.collecting import collect
from transforms import copies
from transforms.copies import CopyVectors, FindCopies, of_copy
from transforms.elements import counters, keys
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

UNREADABLE = b"unreadable"


def checksum(content):
    """Stands for CRC32C: like it, it can be the same for other bytes of the same size."""
    return f"{zlib.crc32(content[:1]):08x}"


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def ref(name, content, version="7", **fields):
    return ImageRef(name, version, len(content), checksum(content), **fields)


def known(name, content, written_at=1.0):
    return Known(name, "6", sha256(content), len(content), checksum(content), written_at)


@dataclasses.dataclass(eq=False)
class Read(beam.PTransform):
    """Reads from a dict, and tells what it has read by the names of its StageSeconds."""

    contents: dict[bytes, bytes]

    def expand(self, refs):
        return StageOutput.of(refs | with_stage_outputs(_Read(self.contents), tuple[str, ImageRef]))


class _Read(beam.DoFn):
    def __init__(self, contents):
        self._contents = contents

    def process(self, ref: ImageRef) -> Iterable[tuple[str, ImageRef]]:
        yield beam.pvalue.TaggedOutput(SECONDS, StageSeconds.of(keys.text(ref.key), 1.0))
        content = self._contents[ref.key]
        if content == UNREADABLE:
            yield beam.pvalue.TaggedOutput(FAILURES, Failure(ref.key, "read", "OSError", "no", True))
        else:
            yield sha256(content), ImageRef(ref.key, ref.version or "as read", len(content), checksum(content))


def find(contents, entries=(), by_crc32c=True, refs=None, in_packs=False):
    """Returns the outputs of FindCopies, each in order, with the keys that were read as "read"."""
    refs = [ref(name, content) for name, content in contents.items()] if refs is None else refs

    def build(root):
        inputs = {
            "refs": root | "Refs" >> beam.Create(refs).with_output_types(ImageRef),
            "known": root | "Known" >> beam.Create(entries).with_output_types(Known),
        }
        found = inputs | FindCopies(Read(contents), by_crc32c, in_packs)
        return found._asdict()

    found, _ = collect(build)
    found["read"] = sorted(keys.of_text(busy.stage) for busy in found.pop("seconds"))
    return {
        tag: sorted(elements, key=lambda element: getattr(getattr(element, "ref", element), "key", element))
        for tag, elements in found.items()
    }


def test_what_can_have_no_twin_is_not_read():
    contents = {b"/a": b"1", b"/b": b"22", b"/c": b"333", b"/d": b"444"}  # of the last two, sizes are equal
    found = find(contents, [known(b"/x", b"55"), known(b"/y", b"1111")])
    assert found["read"] == []
    assert found["to_embed"] == [ref(name, content) for name, content in contents.items()]
    assert not found["reused"] and not found["copies"] and not found["failures"]


def test_without_checksums_those_of_equal_size_are_read():
    contents = {b"/a": b"1", b"/b": b"22", b"/\xff": b"22", b"/c": b"333", b"/d": b"4444"}
    refs = [ImageRef(name, "", len(content)) for name, content in contents.items()]
    found = find(contents, [known(b"/x", b"555")], by_crc32c=False, refs=refs)
    assert found["read"] == [b"/b", b"/c", b"/\xff"]
    # What reading found out goes on with them.
    read = [ref(b"/b", b"22", "as read", has_copies=True), ref(b"/c", b"333", "as read")]
    assert found["to_embed"] == [refs[0], *read, refs[4]]
    assert found["copies"] == [Copy(ref(b"/\xff", b"22", "as read"), b"/b")]


@pytest.mark.parametrize("in_packs", [False, True])
@pytest.mark.parametrize("by_crc32c", [True, False])
def test_equal_bytes_are_embedded_once(by_crc32c, in_packs):
    contents = {b"/c": b"same", b"/b": b"same", b"/d": b"same", b"/a": b"other"}
    found = find(contents, by_crc32c=by_crc32c, in_packs=in_packs)
    assert found["read"] == [b"/b", b"/c", b"/d"]
    assert found["to_embed"] == [ref(b"/a", b"other"), ref(b"/b", b"same", has_copies=True)]
    assert found["copies"] == [Copy(ref(name, b"same"), b"/b") for name in (b"/c", b"/d")]


@pytest.mark.parametrize("order", ["bacd", "dcab", "abdc"])
def test_the_first_of_equal_ones_is_the_same_in_any_order(order):
    names = [b"/\xff" if letter == "d" else f"/{letter}".encode() for letter in order]
    found = find(dict.fromkeys(names, b"same"))
    assert found["to_embed"] == [ref(b"/a", b"same", has_copies=True)]
    assert [(copy.ref.key, copy.of) for copy in found["copies"]] == [(b"/b", b"/a"), (b"/c", b"/a"), (b"/\xff", b"/a")]


def test_equal_checksums_of_other_bytes():
    contents = {b"/a": b"1x", b"/b": b"1y"}
    assert len({(len(content), checksum(content)) for content in contents.values()}) == 1
    found = find(contents, [known(b"/old", b"1z")])
    assert found["read"] == [b"/a", b"/b"]
    assert found["to_embed"] == [ref(b"/a", b"1x"), ref(b"/b", b"1y")]  # without copies
    assert not found["reused"] and not found["copies"]


@pytest.mark.parametrize("by_crc32c", [True, False])
def test_equal_sizes_with_different_tails_are_no_copies(by_crc32c):
    head = bytes(range(256)) * 40  # as images of one camera begin alike
    contents = {b"/a": head + b"a", b"/b": head + b"b", b"/c": head + b"c", b"/d": head + b"b"}
    found = find(contents, [known(b"/old", head + b"c")], by_crc32c)
    assert [each.key for each in found["to_embed"]] == [b"/a", b"/b"]
    assert [(copy.ref.key, copy.of) for copy in found["copies"]] == [(b"/d", b"/b")]
    assert [reuse.ref.key for reuse in found["reused"]] == [b"/c"]


def test_large_local_files_that_differ_at_an_end_are_not_read(tmp_path):
    size = copies._LARGE_BYTES
    middle = bytes(size - 2)
    named = {
        "a.bmp": b"1" + middle + b"1",
        "other-begin": b"2" + middle + b"1",
        "other-end": b"1" + middle + b"2",
        "twin": b"1" + middle + b"1",
        "other-middle": b"1" + bytes(size // 2) + b"1" + bytes(size // 2 - 3) + b"1",
        "smaller": b"1" + middle[:-1] + b"1",
        "smaller-other": b"2" + middle[:-1] + b"1",
    }
    contents = {os.fsencode(tmp_path / name): content for name, content in named.items()}
    for name, content in named.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "other-end").unlink()  # the stage that reads its pixels says so
    a, begin, end, twin, middle, smaller, smaller_other = contents
    found = find(contents, by_crc32c=False)
    assert found["read"] == sorted([a, twin, middle, smaller, smaller_other])
    assert [each.key for each in found["to_embed"]] == sorted([a, begin, end, middle, smaller, smaller_other])
    assert [(copy.ref.key, copy.of) for copy in found["copies"]] == [(twin, a)]

    # The records of earlier runs have no ends to compare with.
    found = find(contents, [known(b"/old", contents[begin])], by_crc32c=False)
    assert found["read"] == sorted(contents)
    assert [reuse.ref.key for reuse in found["reused"]] == [begin]


def test_a_local_file_may_have_its_twin_in_a_bucket(tmp_path):
    content = bytes(copies._LARGE_BYTES)
    (tmp_path / "a.bmp").write_bytes(content)
    contents = {os.fsencode(tmp_path / "a.bmp"): content, b"gs://b/a.bmp": content}
    found = find(contents, by_crc32c=False)
    assert found["read"] == sorted(contents)
    assert len(found["to_embed"]) == len(found["copies"]) == 1


@pytest.mark.parametrize("by_crc32c", [True, False])
def test_known_bytes_are_reused_under_any_name_and_not_copied(by_crc32c):
    old = known(b"/renamed", b"same")
    found = find({b"/a": b"same", b"/b": b"same", b"/c": b"other"}, [old], by_crc32c)
    assert found["read"] == [b"/a", b"/b"]
    assert found["reused"] == [Reuse(ref(name, b"same"), old) for name in (b"/a", b"/b")]
    assert found["to_embed"] == [ref(b"/c", b"other")] and not found["copies"]


def test_of_several_known_the_latest_is_taken_and_by_name_among_equals():
    entries = [known(b"/z", b"same", 1.0), known(b"/y", b"same", 2.0), known(b"/x", b"same", 2.0)]
    for order in (entries, entries[::-1]):
        assert find({b"/a": b"same"}, order)["reused"] == [Reuse(ref(b"/a", b"same"), entries[1])]


def test_what_cannot_be_read_is_a_failure_and_keeps_no_twin_waiting():
    found = find(
        {b"/a": UNREADABLE, b"/b": b"same"},
        refs=[ref(b"/a", b"same"), ref(b"/b", b"same")],
    )
    assert found["read"] == [b"/a", b"/b"]
    assert found["failures"] == [Failure(b"/a", "read", "OSError", "no", True)]
    assert found["to_embed"] == [ref(b"/b", b"same")] and not found["copies"]


@pytest.mark.parametrize("by_crc32c", [True, False])
@pytest.mark.parametrize("entries", [[], [known(b"/x", b"55")]], ids=["first run", "nothing new"])
def test_nothing_to_embed(entries, by_crc32c):
    assert find({}, entries, by_crc32c) == {
        name: [] for name in ("to_embed", "reused", "resumed", "copies", "failures", "read")
    }


INFO = ImageInfo(ImageRef(b"/first", "7", 9, "crc", True), "ab" * 32, "png", 30, 40)
VECTOR = np.array([1.5, -2.0, 3e-38], np.float32)


def test_of_copy():
    found = of_copy(Embedding(INFO, VECTOR), ImageRef(b"/\xff", "8", 9, "crc"))
    assert found.info == ImageInfo(ImageRef(b"/\xff", "8", 9, "crc", False), "ab" * 32, "png", 30, 40)
    assert found.vector is VECTOR


def copy_vectors(embeddings=(), failures=(), copies=()):
    def build(root):
        inputs = {
            "embeddings": root | "Embeddings" >> beam.Create(embeddings).with_output_types(Embedding),
            "failures": root | "Failures" >> beam.Create(failures).with_output_types(Failure),
            "copies": root | "Copies" >> beam.Create(copies).with_output_types(Copy),
        }
        copied = inputs | CopyVectors()
        return {"embeddings": copied.main, "failures": copied.failures}

    found, counted = collect(build)
    assert counted.get(counters.IMAGES_DUPLICATE, 0) == len(found["embeddings"])
    embeddings = sorted(found["embeddings"], key=lambda each: each.info.ref.key)
    return embeddings, sorted(found["failures"], key=lambda failure: failure.key)


def renamed(info, **changes):
    return dataclasses.replace(info, ref=dataclasses.replace(info.ref, **changes))


def test_copies_get_the_vector_of_the_first():
    alone = renamed(INFO, key=b"/alone", has_copies=False)
    copies = [Copy(ImageRef(name, version, 9, "crc"), b"/first") for name, version in ((b"/\xff", "8"), (b"/b", "9"))]
    embeddings, failures = copy_vectors([Embedding(INFO, VECTOR), Embedding(alone, -VECTOR)], copies=copies)
    assert not failures
    assert [each.info for each in embeddings] == [
        renamed(INFO, key=b"/b", version="9", has_copies=False),
        renamed(INFO, key=b"/\xff", version="8", has_copies=False),
    ]
    for each in embeddings:
        np.testing.assert_array_equal(each.vector, VECTOR)


@pytest.mark.parametrize("retryable", [True, False])
def test_copies_fail_as_the_first_did(retryable):
    copies = [Copy(ImageRef(name, "8", 9, "crc"), b"/first") for name in (b"/a", b"/b")]
    failed = [
        Failure(b"/first", "decode", "CorruptImage", "why", retryable),
        Failure(b"/another", "read", "OSError", "no matter", True),
    ]
    embeddings, failures = copy_vectors(failures=failed, copies=copies)
    assert not embeddings
    assert failures == [Failure(name, "decode", "CorruptImage", "why", retryable) for name in (b"/a", b"/b")]


def test_no_copies_no_vectors():
    assert copy_vectors([Embedding(INFO, VECTOR)], [Failure(b"/x", "read", "OSError", "", True)]) == ([], [])
    assert copy_vectors() == ([], [])


@pytest.mark.parametrize("in_packs", [False, True])
@pytest.mark.parametrize("by_crc32c", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_every_image_has_one_outcome(seed, by_crc32c, in_packs):
    """Any mixture: each image ends as one of first, reused, copied or failed, with the vector of its own bytes."""
    rng = random.Random(seed)
    pool = [bytes([rng.randrange(65, 70)]) + b"%04d" % i for i in range(25)]  # many checksums are equal
    contents = {b"/%03d" % i: rng.choice(pool) for i in range(80)}
    entries = [known(b"/old-%d" % i, rng.choice(pool), rng.randrange(3)) for i in range(8)]
    refs = [ref(name, content) for name, content in contents.items()]
    rng.shuffle(refs)
    unreadable = set(rng.sample(sorted(contents), 6))
    broken = set(rng.sample(pool, 5))
    as_read = {n: UNREADABLE if n in unreadable else c for n, c in contents.items()}
    found = find(as_read, entries, by_crc32c, refs, in_packs)

    of_bytes = {content: np.frombuffer(content, np.uint8).astype(np.float32) for content in pool}
    embeddings, failures = [], []
    for first in found["to_embed"]:
        content = contents[first.key]
        if first.key in unreadable:  # by itself, so that it was not read before
            failures.append(Failure(first.key, "read", "OSError", "no", True))
        elif content in broken:
            failures.append(Failure(first.key, "decode", "CorruptImage", "why", False))
        else:
            info = ImageInfo(
                ImageRef(first.key, first.version, 5, first.crc32c, first.has_copies), sha256(content), "png", 1, 1
            )
            embeddings.append(Embedding(info, of_bytes[content]))
    copied, copies_failed = copy_vectors(embeddings, failures, found["copies"])

    outcomes = [each.info.ref.key for each in embeddings + copied]
    outcomes += [failure.key for failure in failures + copies_failed + found["failures"]]
    outcomes += [reuse.ref.key for reuse in found["reused"]]
    assert sorted(outcomes) == sorted(contents)
    for each in embeddings + copied:
        np.testing.assert_array_equal(each.vector, of_bytes[contents[each.info.ref.key]])
        assert each.info.sha256 == sha256(contents[each.info.ref.key])
    for reuse in found["reused"]:
        assert reuse.known.sha256 == sha256(contents[reuse.ref.key])
    # No bytes are embedded twice, and none that are known.
    embedded = [each.info.sha256 for each in embeddings]
    assert len(set(embedded)) == len(embedded) and not set(embedded) & {entry.sha256 for entry in entries}
    assert found["copies"] and found["reused"] and copies_failed and copied


def test_bytes_that_an_unfinished_attempt_has_embedded_are_taken_over_under_any_name():
    left = dataclasses.replace(known(b"/old", b"same", 9.0), attempt="1")
    found = find({b"/a": b"same", b"/b": b"other"}, [left])
    assert found["resumed"] == [Reuse(ref(b"/a", b"same"), left)]
    assert not found["reused"] and found["to_embed"] == [ref(b"/b", b"other")]


def test_a_record_of_an_earlier_run_comes_before_one_of_an_unfinished_attempt():
    left = dataclasses.replace(known(b"/z", b"same", 9.0), attempt="1")
    earlier = known(b"/a", b"same", 1.0)
    for entries in ([left, earlier], [earlier, left]):
        found = find({b"/a": b"same"}, entries)
        assert found["reused"] == [Reuse(ref(b"/a", b"same"), earlier)] and not found["resumed"]


def test_digests_are_read_by_a_transform():
    with pytest.raises(ValueError, match="^digest=3: expected a PTransform, such as DigestImages"):
        FindCopies(3)
