"""pipeline.commands.finetune.inputs: from patterns, CSVs and directories of embeddings to labels."""

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.commands.finetune import inputs
from tests.helpers import cloud_storage
from tests.helpers import data_generation as data
from transforms.elements.records import Embedding, ImageInfo, ImageRef
from transforms.encoding import examples
from transforms.encoding.parquet import ParquetFormat
from transforms.models.spec import ModelFields
from transforms.storage import read_image
from transforms.storage.stores import gcs


def write_files(root, *names):
    for name in names:
        path = os.path.join(os.fsencode(root), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(os.fsdecode(path)).write_bytes(b"x")


def write_embeddings(path, vectors, digest="d" * 64):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        Embedding(ImageInfo(ImageRef(key, "1-2.0"), "ab" * 32, "jpeg", 4, 5), np.array(vector, np.float32))
        for key, vector in vectors.items()
    ]
    if path.suffix == ".parquet":
        with path.open("wb") as file:
            part = ParquetFormat(ModelFields("net", digest, 2), vector_type="float16").open(file)
            part.append(rows)
            part.finish()
        return path
    return data.write_tfrecords(path, examples.encode_embeddings(rows, ModelFields("net", digest, 2)))


def test_folders_and_csvs_together(tmp_path):
    write_files(tmp_path, b"p/cat/1.jpg", b"p/dog/deep/\xff/2.jpg", b"p/dog/3.jpg", b"q/4.jpg")
    csv = tmp_path / "more.csv"
    csv.write_bytes(b"\xef\xbb\xbfuri,label\nq/4.jpg,\xe4\xb8\x96\np/cat/1.jpg,cat\ngs://b/5.jpg,dog\n")
    root = os.fsencode(tmp_path)
    assert inputs.image_labels([f"{tmp_path}/p/**", str(csv)]) == {
        root + b"/p/cat/1.jpg": "cat",
        root + b"/p/dog/deep/\xff/2.jpg": "\\xff",
        root + b"/p/dog/3.jpg": "dog",
        root + b"/q/4.jpg": "世",
        b"gs://b/5.jpg": "dog",
    }
    with pytest.raises(ValueError, match=r"/p/cat/1.jpg' is 'bird' here and 'cat' elsewhere: expected one label"):
        (tmp_path / "other.csv").write_text("uri,label\np/cat/1.jpg,bird\n")
        inputs.image_labels([f"{tmp_path}/p/**", f"{tmp_path}/other.csv"])


def test_several_csvs_by_one_pattern(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text(f"uri,label\n{name}.jpg,{name}\n")
    labels = inputs.image_labels([f"{tmp_path}/*.csv"])
    assert labels == {os.fsencode(tmp_path / f"{name}.jpg"): name for name in "ab"}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{}/none/*", "--train '{}/none/*' matches nothing: expected at least one file"),
        ("{}/none.csv", "--train '{}/none.csv' matches nothing"),
        ("nowhere://b/*", "--train 'nowhere://b/*' cannot be listed: "),
        ("{}/bad.csv", "'{}/bad.csv': expected a header with the columns uri and label, found ['a', 'b']"),
    ],
)
def test_wrong_patterns(tmp_path, pattern, message):
    (tmp_path / "bad.csv").write_text("a,b\n")
    with pytest.raises(ValueError, match="expected|cannot") as raised:
        inputs.image_labels([pattern.format(tmp_path)])
    assert message.format(tmp_path) in str(raised.value)


def test_an_image_far_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(read_image, "MAX_ENCODED_BYTES", 10)
    (tmp_path / "1.jpg").write_bytes(bytes(10))
    assert inputs.read_image(os.fsencode(tmp_path / "1.jpg")) == bytes(10)
    (tmp_path / "1.jpg").write_bytes(bytes(11))
    with pytest.raises(read_image.TooManyBytes, match="at most 10"):
        inputs.read_image(os.fsencode(tmp_path / "1.jpg"))


@pytest.mark.slow
def test_an_image_in_a_bucket_is_read_in_the_version_that_was_described(monkeypatch):
    with cloud_storage.paging_server() as url, cloud_storage.proxy(url) as server:
        with cloud_storage.clients_of(monkeypatch, server.url):
            gcs.client().create_bucket("photos").blob("cat/a.jpg").upload_from_string(b"one")
            server.requests.clear()
            assert inputs.read_image(b"gs://photos/cat/a.jpg") == b"one"
        assert ["generation" in query for query in server.queries("/download/")] == [True]


@pytest.mark.parametrize("uri", ["a.tar#cat.jpg", "gs://b/a.tar.gz#cat/1.jpg", "a.TFRecord-00000-of-00002#7"])
def test_an_image_in_a_shard_is_refused(tmp_path, uri):
    (tmp_path / "labels.csv").write_text(f"uri,label\n{uri},cat\n")
    with pytest.raises(ValueError, match=r"is in a tar or TFRecord file: expected files of one image; .*--embeddings"):
        inputs.image_labels([f"{tmp_path}/labels.csv"])


def test_embeddings_by_folder(tmp_path):
    write_embeddings(tmp_path / "v/embeddings/1/part-00000-of-00002.tfrecord", {b"/cat/1": [1, 2], b"/dog/2": [3, 4]})
    write_embeddings(tmp_path / "v/embeddings/2/part-00000-of-00001.tfrecord", {b"/cat/1": [5, 6], b"/dog/3": [7, 8]})
    write_embeddings(tmp_path / "v/embeddings/3/.parts/part-00000-of-00001.tfrecord", {b"/half/4": [9, 9]})
    (tmp_path / "v" / "schema.pbtxt").write_text("")
    labelled = inputs.labelled_vectors(f"{tmp_path}/v", None)
    assert labelled.labels == {b"/cat/1": "cat", b"/dog/2": "dog", b"/dog/3": "dog"}
    assert dict(zip(labelled.vectors.keys, labelled.vectors.matrix.tolist(), strict=True)) == {
        b"/cat/1": [5, 6],
        b"/dog/2": [3, 4],
        b"/dog/3": [7, 8],
    }
    one = inputs.labelled_vectors(f"{tmp_path}/v/embeddings/1", None)
    assert one.labels == {b"/cat/1": "cat", b"/dog/2": "dog"}


def test_embeddings_in_parquet(tmp_path):
    write_embeddings(tmp_path / "v/1/part-00000-of-00001.tfrecord", {b"/cat/1": [1, 2], b"/cat/2": [3, 4]})
    write_embeddings(tmp_path / "v/2/part-00000-of-00001.parquet", {b"/cat/1": [5, 6], b"/dog/3": [7, 8]})
    write_embeddings(tmp_path / "v/2/part-00000-of-00001.tfrecord", {b"/cat/1": [0, 0]})  # of the same run
    labelled = inputs.labelled_vectors(f"{tmp_path}/v", None)
    assert labelled.labels == {b"/cat/1": "cat", b"/cat/2": "cat", b"/dog/3": "dog"}
    assert dict(zip(labelled.vectors.keys, labelled.vectors.matrix.tolist(), strict=True)) == {
        b"/cat/1": [5, 6],
        b"/cat/2": [3, 4],
        b"/dog/3": [7, 8],
    }


def test_of_two_runs_the_later_one_counts(tmp_path):
    for hours, run in ((2, "a"), (1, "b")):
        path = write_embeddings(tmp_path / f"v/{run}/part-00000-of-00001.tfrecord", {b"/cat/1": [hours, hours]})
        os.utime(path, (3600 * hours, 3600 * hours))
    labelled = inputs.labelled_vectors(f"{tmp_path}/v", None)
    assert labelled.vectors.matrix.tolist() == [[2, 2]]


def test_embeddings_with_labels_and_without(tmp_path):
    vectors = {b"/p/1": [1, 2], b"/p/2": [np.nan, 4], b"/p/3": [5, np.inf], b"/p/4": [1, 1], b"/p/5": [1, np.nan]}
    write_embeddings(tmp_path / "v/part-00000-of-00001.tfrecord", vectors)
    (tmp_path / "l.csv").write_text("uri,label\n/p/1,cat\n/p/2,cat\n/p/3,dog\n/p/6,dog\n")
    labelled = inputs.labelled_vectors(f"{tmp_path}/v", f"{tmp_path}/l.csv")
    assert labelled.labels == {b"/p/1": "cat"}
    assert labelled.bad == {b"/p/2": "NotFinite", b"/p/3": "NotFinite"}
    assert (labelled.unlabelled, labelled.without_vector) == (2, 1)


def test_wrong_embeddings(tmp_path):
    with pytest.raises(ValueError, match="--embeddings '.*/none': no part-SSSSS-of-NNNNN.tfrecord or .parquet below"):
        inputs.labelled_vectors(f"{tmp_path}/none", None)
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "part-0.tfrecord").write_bytes(b"")
    with pytest.raises(ValueError, match="no part-SSSSS-of-NNNNN.tfrecord or .parquet below it: expected at least one"):
        inputs.labelled_vectors(f"{tmp_path}/v", None)
    write_embeddings(tmp_path / "v/1/part-00000-of-00001.tfrecord", {b"/cat/1": [1, 2]})
    (tmp_path / "l.csv").write_text("uri,label\n/p/1,cat\n")
    with pytest.raises(ValueError, match="names none of the embeddings' images: expected URIs such as '/cat/1'"):
        inputs.labelled_vectors(f"{tmp_path}/v", f"{tmp_path}/l.csv")
    with pytest.raises(ValueError, match="--labels '.*/none.csv' cannot be read: "):
        inputs.labelled_vectors(f"{tmp_path}/v", f"{tmp_path}/none.csv")
    write_embeddings(tmp_path / "v/2/part-00000-of-00001.tfrecord", {b"/cat/2": [1, 2]}, digest="e" * 64)
    with pytest.raises(ValueError, match="give the directory of one run, below embeddings/"):
        inputs.labelled_vectors(f"{tmp_path}/v", None)


def test_labels_whose_vectors_are_all_bad_are_no_wrong_file(tmp_path):
    write_embeddings(tmp_path / "v/part-00000-of-00001.tfrecord", {b"/p/1": [np.nan, 1], b"/p/2": [1, -np.inf]})
    (tmp_path / "l.csv").write_text("uri,label\n/p/1,cat\n/p/2,dog\n")
    labelled = inputs.labelled_vectors(f"{tmp_path}/v", f"{tmp_path}/l.csv")
    assert (labelled.labels, labelled.bad) == ({}, {b"/p/1": "NotFinite", b"/p/2": "NotFinite"})


def test_the_bytes_of_a_csv_that_are_not_utf_8_are_those_of_its_names(tmp_path):
    (tmp_path / "l.csv").write_bytes(b"uri,label\ncaf\xe9.jpg,cat\n")
    assert inputs.image_labels([f"{tmp_path}/L.CSV".replace("L.CSV", "l.csv")]) == {
        os.fsencode(tmp_path) + b"/caf\xe9.jpg": "cat"
    }
