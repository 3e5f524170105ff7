"""transforms.output.write_vectors: what the writers of all formats share."""

import apache_beam as beam
import pytest

from tests.helpers.collecting import collect
from tests.helpers.earlier_runs import FIRST, MODEL
from transforms.output import layout, schema, write_vectors
from transforms.output.parts import Label
from transforms.write_parquet import WriteParquet
from transforms.write_tfrecord import WriteTFRecords, file_format

WRITERS = [WriteTFRecords, WriteParquet]


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": ""}, "output='': expected a directory"),
        ({"run_id": "a/b"}, "run_id='a/b': expected letters"),
        ({"vector_type": "int8"}, "vector_type='int8': expected one of float32, float16"),
    ],
    ids=["output", "run_id", "vector_type"],
)
def test_attributes_are_checked_at_construction(writer, options, message):
    with pytest.raises(ValueError, match=message):
        writer(**{"output": "o", "run_id": "r", "model": MODEL} | options)


@pytest.mark.slow
@pytest.mark.parametrize("writer", WRITERS)
def test_the_schema_follows_what_comes_before_naming(tmp_path, writer):
    marker = tmp_path / "marker"

    def before_naming():
        assert not list(tmp_path.rglob("part-*-of-*")) and not (tmp_path / layout.SCHEMA).exists()
        marker.write_text("done")

    write = writer(str(tmp_path), "r", MODEL, before_naming=before_naming)
    collect(lambda root: {"shards": ((root | beam.Create(FIRST),) | write).shards})
    assert marker.exists() and list(tmp_path.rglob("part-*-of-*"))
    assert (tmp_path / layout.SCHEMA).read_bytes() == schema.content(MODEL)


@pytest.mark.slow
def test_parts_have_no_final_names(tmp_path):
    parts = write_vectors.write_parts(
        str(tmp_path), "r", file_format(MODEL), (Label("20261121T010203.456Z", "embedded"),)
    )
    outputs, _ = collect(lambda root: (root | beam.Create(FIRST),) | parts)
    assert sum(shard.records for shard in outputs["shards"]) == len(FIRST)
    (directory,) = {path.parent for path in tmp_path.rglob("*.tfrecord")}
    assert directory == tmp_path / "embeddings" / "r" / ".parts"
