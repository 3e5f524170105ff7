"""attempts.resume: whole records of unfinished attempts are taken over, and a part that is gone fails the job."""

import dataclasses
import datetime
import hashlib
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest

from pipeline.attempts import attempt
from pipeline.attempts.resume import ReadUnfinished, ResumeShards, TakeOver
from pipeline.flags import options
from tests.helpers import data_generation as data
from tests.helpers.collecting import collect
from tests.helpers.earlier_runs import DIGEST, FIRST, MODEL, OTHER_MODEL, OTHERS, SECOND, identities
from transforms import write_tfrecord
from transforms.copies import of_copy
from transforms.elements import counters
from transforms.elements.records import Embedding, ImageInfo, ImageRef, Reuse
from transforms.encoding.parquet import ParquetFormat
from transforms.output import write_vectors
from transforms.output.parts import Label
from transforms.read import ListMembers
from transforms.storage import versioned
from transforms.storage.context import DEFAULT_STORAGE

pytestmark = pytest.mark.slow

STARTED_AT = datetime.datetime(2026, 11, 21, 1, 2, 3, 456000, datetime.UTC)
LABELS = [f"2026112{day}T010203.456Z" for day in range(3)]


@pytest.fixture
def own(tmp_path):
    config, _ = options.parse(["--output", str(tmp_path), "--run_id", "r"])
    return attempt.of(dataclasses.replace(config, started_at=STARTED_AT))


def write(own, label, embeddings, model=MODEL, of=write_tfrecord.file_format, vector_type="float32"):
    """Writes the parts that an attempt leaves, and returns their paths."""
    parts = write_vectors.write_parts(own.place, own.run_id, of(model, vector_type), (label,))
    outputs, _ = collect(lambda root: (root | beam.Create(embeddings),) | parts)
    return [Path(shard.path) for shard in outputs["shards"]]


def read(own, digest=DIGEST, vector_type="float32"):
    outputs, _ = collect(lambda root: {"known": root | ReadUnfinished(own, digest, vector_type)})
    return outputs["known"]


def take_over(reuses):
    outputs, counted = collect(lambda root: root | beam.Create(reuses) | TakeOver(DIGEST))
    assert counted.get(counters.IMAGES_RESUMED, 0) == len(outputs["embeddings"])
    return outputs["embeddings"], outputs["origins"]


def test_records_of_earlier_attempts(own):
    write(own, Label(LABELS[0], "embedded"), FIRST[:20])
    write(own, Label(LABELS[0], "duplicate"), FIRST[20:])
    write(own, Label(LABELS[0], attempt.RESUMED), FIRST[:5])  # which repeats what is there
    write(own, Label(LABELS[0], "embedded"), OTHERS, OTHER_MODEL)
    write(own, Label(own.label, "embedded"), SECOND)  # a bundle of this attempt that ran already
    write(own, Label(LABELS[2], "embedded"), SECOND)  # a later attempt
    known = read(own)
    assert identities(known) == identities(FIRST)
    assert {(entry.attempt, entry.written_at) for entry in known} == {(LABELS[0], 0.0)}
    assert read(own, "f" * 64) == []


def test_where_no_attempt_has_left_anything(own):
    assert read(own) == []


@pytest.mark.parametrize("missing", [1, 10, 1000])
def test_a_part_is_good_up_to_its_last_whole_record(own, missing):
    (part,) = write(own, Label(LABELS[0], "embedded"), FIRST[:1] * 12)
    whole = part.read_bytes()
    part.write_bytes(whole[:-missing])
    each = len(whole) // 12
    known = read(own)
    assert len(known) == (len(whole) - missing) // each
    embeddings, _ = take_over([Reuse(FIRST[0].info.ref, entry) for entry in known])
    for embedding in embeddings:
        np.testing.assert_array_equal(embedding.vector, FIRST[0].vector)


def test_a_parquet_part_counts_once_it_was_closed(own):
    label = Label(LABELS[0], "embedded")
    (whole,) = write(own, label, FIRST[:20], of=ParquetFormat)
    cut = whole.with_name(f"{label}0123.parquet")
    cut.write_bytes(whole.read_bytes()[:-1])
    known = read(own)
    assert identities(known) == identities(FIRST[:20]) and {entry.shard for entry in known} == {str(whole)}
    embeddings, origins = take_over([Reuse(FIRST[i].info.ref, known[i]) for i in range(20)])
    assert len(embeddings) == 20 and set(origins) == {(LABELS[0], "embedded")}
    by_key = {each.info.ref.key: each.vector for each in embeddings}
    for each in FIRST[:20]:
        np.testing.assert_array_equal(by_key[each.info.ref.key], each.vector)


def test_parts_in_float16_count_for_a_run_in_float16(own):
    write(own, Label(LABELS[0], "embedded"), FIRST, of=ParquetFormat, vector_type="float16")
    assert read(own) == []
    assert identities(read(own, vector_type="float16")) == identities(FIRST)


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"text"], ids=["empty", "zeros", "text"])
def test_a_part_without_a_record_holds_nothing(own, content):
    """A machine that loses its power may leave zeros at the end of a file, and a whole file of them."""
    (part,) = write(own, Label(LABELS[0], "embedded"), FIRST[:3])
    part.with_name(f"{Label(LABELS[0], 'embedded')}0123.tfrecord").write_bytes(content)
    part.write_bytes(part.read_bytes() + content)
    assert identities(read(own)) == identities(FIRST[:3])


def test_vectors_are_taken_over_with_their_origin(own):
    write(own, Label(LABELS[0], "embedded"), FIRST[:9])
    write(own, Label(LABELS[0], "duplicate"), FIRST[9:12])
    known = {entry.key: entry for entry in read(own)}
    reuses = [Reuse(each.info.ref, known[each.info.ref.key]) for each in FIRST[:12]]
    renamed = ImageRef(b"/renamed.jpg", "77", FIRST[0].info.ref.size, "AAAAAA==")
    embeddings, origins = take_over([*reuses, Reuse(renamed, known[FIRST[0].info.ref.key])])
    assert sorted(origins) == [(LABELS[0], "duplicate")] * 3 + [(LABELS[0], "embedded")] * 10
    expected = {each.info.ref.key: each for each in (*FIRST[:12], of_copy(FIRST[0], renamed))}
    assert {each.info.ref.key for each in embeddings} == expected.keys() and len(embeddings) == 13
    for embedding in embeddings:
        original = expected[embedding.info.ref.key]
        assert embedding.info == original.info
        np.testing.assert_array_equal(embedding.vector, original.vector)


@pytest.mark.parametrize("loss", ["gone", "cut", "replaced"])
def test_a_part_that_was_there_and_is_not_fails_the_job(own, loss):
    (part,) = write(own, Label(LABELS[0], "embedded"), FIRST[:3])
    reuses = [Reuse(FIRST[0].info.ref, entry) for entry in read(own)]
    if loss == "gone":
        part.unlink()
    elif loss == "cut":
        part.write_bytes(part.read_bytes()[:-1])
    else:
        (other,) = write(own, Label(LABELS[0], "embedded"), SECOND[:3])
        other.replace(part)
    with pytest.raises(Exception, match="the record of an earlier attempt is gone .*is another process at this run"):
        take_over(reuses)


def test_images_in_shards_are_taken_over_by_their_place(own, tmp_path):
    """Those of another version are left, and so is a record whose image is in no shard any more."""
    tar = data.write_tar(tmp_path / "a.tar", {"x.png": b"x", "note.txt": b"", "y.png": b"y", "z.png": b"z"})
    records = data.write_tfrecords(tmp_path / "b.tfrecord", [b"no example", data.image_example(b"own", b"/own.jpg")])
    shards = {
        name: versioned.described(DEFAULT_STORAGE, ImageRef(bytes(path)))
        for name, path in (("tar", tar), ("rec", records))
    }

    def of_member(key, version, content):
        shard = bytes(records if key == b"/own.jpg" else tar)
        ref = ImageRef(key, version, len(content), versioned.crc32c(content), in_shard=shard)
        return Embedding(ImageInfo(ref, hashlib.sha256(content).hexdigest(), "png", 3, 4), FIRST[0].vector)

    x, y, z, gone = (
        of_member(bytes(tar) + b"#" + name, version, name[:1])
        for name, version in (
            (b"x.png", shards["tar"].version),
            (b"y.png", "1-1.0"),
            (b"z.png", shards["tar"].version),
            (b"gone.png", shards["tar"].version),
        )
    )
    in_record = of_member(b"/own.jpg", shards["rec"].version, b"own")
    write(own, Label(LABELS[0], "embedded"), [x, y, gone, in_record])
    write(own, Label(own.label, "embedded"), [z])  # this attempt's

    def resume(input_format, shard):
        def build(root):
            refs = root | beam.Create([shard])
            outputs = refs | ResumeShards(ReadUnfinished(own, DIGEST), ListMembers(input_format))
            return {"done": outputs.done, **outputs.resumed._asdict()}

        outputs, _ = collect(build)
        assert outputs["origins"] == [(LABELS[0], "embedded")] * len(outputs["done"])
        return outputs["done"], [embedding.info for embedding in outputs["embeddings"]]

    assert resume("tar", shards["tar"]) == ([(bytes(tar), 0)], [x.info])
    assert resume("tfrecord", shards["rec"]) == ([(bytes(records), 1)], [in_record.info])
