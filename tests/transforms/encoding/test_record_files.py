"""transforms.encoding.record_files: embeddings are found again in files of any format, by the places that it tells."""

import io

import numpy as np
import pytest

from tests.helpers.outputs import MODEL, embedding, encoded
from transforms.encoding import record_files

EMBEDDINGS = [embedding(b"/%d\xff.jpg" % i, i) for i in range(600)]
FORMATS = pytest.mark.parametrize("output_format", ["tfrecord", "parquet"])


def file(output_format, embeddings=EMBEDDINGS, cut=None, vector_type="float32"):
    return io.BytesIO(encoded(embeddings, MODEL, output_format, vector_type)[:cut])


@FORMATS
@pytest.mark.parametrize("may_break_off", [False, True], ids=["complete", "perhaps unfinished"])
def test_a_record_is_found_by_its_place(output_format, may_break_off):
    path, content = f"gs://b/part.{output_format}", file(output_format)
    known = list(record_files.identities(path, content, may_break_off=may_break_off))
    assert [(own.key, own.sha256) for _, own in known] == [(e.info.ref.key, e.info.sha256) for e in EMBEDDINGS]
    places = [place for place, _ in known[::3]]
    stored = list(record_files.embeddings(path, content, places))
    assert [record.embedding.info for record in stored] == [each.info for each in EMBEDDINGS[::3]]
    assert {record.model_digest for record in stored} == {MODEL.digest}
    for record, each in zip(stored, EMBEDDINGS[::3], strict=True):
        np.testing.assert_array_equal(record.embedding.vector, each.vector)


@FORMATS
@pytest.mark.parametrize("may_break_off", [False, True], ids=["complete", "perhaps unfinished"])
def test_vectors_in_float16_are_none_for_a_reader_of_float32(output_format, may_break_off):
    path, content = f"a.{output_format}", file(output_format, vector_type="float16")
    assert list(record_files.identities(path, content, may_break_off=may_break_off)) == []
    content.seek(0)
    known = list(record_files.identities(path, content, vector_type="float16", may_break_off=may_break_off))
    assert [own.key for _, own in known] == [each.info.ref.key for each in EMBEDDINGS]
    for stored, each in zip(record_files.embeddings(path, content, [known[7][0]]), EMBEDDINGS[7:8], strict=True):
        np.testing.assert_array_equal(stored.embedding.vector, each.vector.astype(np.float16))


@FORMATS
@pytest.mark.parametrize("vector_type", ["float32", "float16"])
def test_all_vectors(output_format, vector_type):
    content = file(output_format, vector_type=vector_type)
    keys, matrices, _, _ = zip(*record_files.vectors(f"a.{output_format}", content), strict=True)
    assert [key for batch in keys for key in batch] == [each.info.ref.key for each in EMBEDDINGS]
    expected = np.stack([each.vector for each in EMBEDDINGS]).astype(vector_type)
    np.testing.assert_array_equal(np.concatenate(matrices), expected)


@pytest.mark.parametrize(("output_format", "good"), [("tfrecord", 599), ("parquet", 0)])
def test_a_file_that_breaks_off(output_format, good):
    path, content = f"a.{output_format}", file(output_format, cut=-1)
    assert len(list(record_files.identities(path, content, may_break_off=True))) == good
    content.seek(0)
    with pytest.raises(ValueError, match="broken|truncated"):
        list(record_files.identities(path, content))


@FORMATS
def test_a_place_without_a_record_is_an_error_of_its_own(output_format):
    path, content = f"a.{output_format}", file(output_format)
    (place, _), *_ = record_files.identities(path, content)
    good, bad = record_files.embeddings(path, content, [place, 10**9])
    assert good.embedding.info == EMBEDDINGS[0].info and isinstance(bad, ValueError)


def test_one_broken_record_costs_itself_alone_and_no_other():
    content = bytearray(file("tfrecord").getvalue())
    places = [place for place, _ in record_files.identities("a.tfrecord", io.BytesIO(content))]
    content[places[7] + 30] ^= 1
    stored = list(record_files.embeddings("a.tfrecord", io.BytesIO(content), places))
    assert [number for number, each in enumerate(stored) if isinstance(each, Exception)] == [7]
    assert "checksum" in str(stored[7])
    assert [each.embedding.info for each in stored[:7] + stored[8:]] == [
        each.info for number, each in enumerate(EMBEDDINGS) if number != 7
    ]


def test_a_record_that_is_too_large_is_none(monkeypatch):
    monkeypatch.setattr(record_files, "MAX_RECORD_BYTES", 10)
    with pytest.raises(ValueError, match="expected at most 10"):
        list(record_files.identities("a.tfrecord", file("tfrecord")))
    with pytest.raises(ValueError, match="expected at most 10"):
        list(record_files.vectors("a.tfrecord", file("tfrecord")))
    (only,) = record_files.embeddings("a.tfrecord", file("tfrecord"), [0])
    assert isinstance(only, ValueError) and "expected at most 10" in str(only)
