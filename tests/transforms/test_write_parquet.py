"""transforms.write_parquet: the files of a run, and that BigQuery loads them."""

import dataclasses

import apache_beam as beam
import numpy as np
import pyarrow.parquet as pq
import pytest
from google.cloud import bigquery, storage

from tests.helpers.collecting import collect
from tests.helpers.earlier_runs import BEGAN_AT, FIRST, MODEL, ODD_KEY, SECOND
from transforms.elements import keys
from transforms.encoding import parquet
from transforms.write_bigquery import EMBEDDING_COLUMNS, RunColumns, embedding_row
from transforms.write_parquet import WriteParquet


def write(output, **options):
    def build(root):
        halves = root | "First" >> beam.Create(FIRST), root | "Second" >> beam.Create(SECOND)
        return {"shards": (halves | WriteParquet(str(output), "r", MODEL, **options)).shards}

    outputs, _ = collect(build)
    return outputs["shards"]


@pytest.mark.parametrize("vector_type", ["float32", "float16"])
def test_the_files_of_a_run(tmp_path, vector_type):
    shards = write(tmp_path, vector_type=vector_type)
    paths = sorted(tmp_path.rglob("*.*"))
    names = [f"part-{i:05d}-of-{len(shards):05d}.parquet" for i in range(len(shards))]
    assert [path.name for path in paths] == [*names, "schema.pbtxt"]
    assert sorted(shard.path for shard in shards) == [str(path) for path in paths[:-1]]
    rows = pq.read_table(tmp_path / "embeddings" / "r").to_pylist()
    assert sum(shard.records for shard in shards) == len(rows) == len(FIRST) + len(SECOND)
    vectors = {(row["key"], row["version"]): row["embedding"] for row in rows}
    for each in (*FIRST, *SECOND):
        stored = vectors[keys.text(each.info.ref.key), each.info.ref.version]
        np.testing.assert_array_equal(np.array(stored, np.float32), each.vector.astype(vector_type))


@pytest.mark.slow
@pytest.mark.parametrize("vector_type", ["float32", "float16"])
def test_bigquery_loads_them(cloud, tmp_path, vector_type):
    client, bq = storage.Client(), bigquery.Client(project="test")
    bucket = f"parquet-{vector_type}"
    client.create_bucket(bucket)
    bq.create_dataset(f"test.parquet_{vector_type}")
    write(f"gs://{bucket}/out", vector_type=vector_type)
    names = parquet.schema(MODEL, vector_type).names
    columns = {column["name"]: column for column in EMBEDDING_COLUMNS}
    table = f"test.parquet_{vector_type}.images"
    bq.create_table(bigquery.Table(table, [bigquery.SchemaField.from_api_repr(columns[name]) for name in names]))
    config = bigquery.LoadJobConfig(source_format="PARQUET")
    config.parquet_options = bigquery.ParquetOptions.from_api_repr({"enableListInference": True})
    bq.load_table_from_uri(f"gs://{bucket}/out/embeddings/r/part-*.parquet", table, job_config=config).result()
    rows = {(row["key"], row["version"]): dict(row) for row in bq.query(f"SELECT * FROM `{table}`").result()}
    assert (keys.text(ODD_KEY), "1-1.0") in rows
    for each in (*FIRST, *SECOND):
        narrowed = dataclasses.replace(each, vector=each.vector.astype(vector_type))
        expected = embedding_row(narrowed, RunColumns("", BEGAN_AT, MODEL))
        assert rows[expected["key"], expected["version"]] == {name: expected[name] for name in names}
