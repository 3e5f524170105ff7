"""The cost of writing vectors, without inference: `python -m benchmarks.write_path [--records 20000]`."""

import argparse
import datetime
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from transforms.models.spec import ModelFields

_DIGEST = "ab" * 32
_STARTED = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
_BATCH = 500


def model_fields(dimension: int) -> ModelFields:
    """Returns the fields that all records share."""
    return ModelFields("m", _DIGEST, dimension)


def embeddings(count: int, dimension: int, start: int = 0) -> Iterator:
    """Yields embeddings of images that do not exist; they differ only in key, digest and vector."""
    from transforms.elements.records import Embedding, ImageInfo, ImageRef

    vectors = np.random.default_rng(start).standard_normal((_BATCH, dimension), np.float32)
    for i in range(start, start + count):
        key = b"gs://photos/some/directory/%012d.jpg" % i
        yield Embedding(
            ImageInfo(ImageRef(key, "1795316023557033140", 5, "lx6ySg=="), f"{i:064x}", "jpeg", 480, 640),
            vectors[i % _BATCH],
        )


def timed(sink, dimension: int, count: int) -> float:
    """Returns the seconds of a pipeline that makes embeddings and hands them to `sink`, on the local runner."""
    import apache_beam as beam

    from pipeline.runners import pipeline_options

    options = pipeline_options.beam_options([], [])
    start = time.perf_counter()
    with beam.Pipeline(options=options) as pipeline:
        rows = (
            pipeline
            | beam.Create(range(0, count, _BATCH))
            | "Spread" >> beam.Reshuffle()
            | "Make" >> beam.FlatMap(lambda start: embeddings(min(_BATCH, count - start), dimension, start))
        )
        _ = sink(rows)
    return time.perf_counter() - start


def main() -> int:
    """Measures, prints the rates, and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=20_000, metavar="N", help="number of records (%(default)s)")
    parser.add_argument("--dimension", type=int, default=1536, metavar="N", help="floats per vector (%(default)s)")
    args = parser.parse_args()
    from tests.helpers.emulators import bigquery_emulator, storage_emulator

    with tempfile.TemporaryDirectory() as scratch:
        for name in ("storage", "bigquery"):
            Path(scratch, name).mkdir()
        with (
            storage_emulator(Path(scratch, "storage")) as storage_variables,
            bigquery_emulator(Path(scratch, "bigquery"), Path(scratch, "storage")) as bigquery_variables,
        ):
            os.environ.update(storage_variables | bigquery_variables)
            _measure(Path(scratch), args.dimension, args.records)
    return 0


def _measure(scratch: Path, dimension: int, count: int) -> None:
    import apache_beam as beam
    from google.cloud import storage

    from pipeline.warehouse import tables
    from transforms.write_bigquery import RunColumns, WriteBigQuery
    from transforms.write_tfrecord import WriteTFRecords

    storage.Client().create_bucket("temp")
    tables.client("test").create_dataset("d")
    tables.stage("test.d.images", staged := tables.prepare("test.d.images", _DIGEST))
    staging = staged.embeddings
    load = WriteBigQuery("embeddings", staging, "gs://temp/load", RunColumns("r", _STARTED, model_fields(dimension)))
    sinks = {
        "nothing": lambda rows: rows | beam.combiners.Count.Globally(),
        "TFRecord": lambda rows: (rows,) | WriteTFRecords(str(scratch), "r", model_fields(dimension)),
        "BigQuery": lambda rows: (rows,) | load,
    }
    timed(sinks["nothing"], dimension, _BATCH)  # not counted: it imports
    seconds = {name: timed(sink, dimension, count) for name, sink in sinks.items()}
    (counted,) = tables.query("test.d.images", f"SELECT COUNT(*) AS loaded FROM `{staging}`")  # noqa: S608
    if counted["loaded"] != count:
        raise RuntimeError(f"{counted['loaded']} of {count} rows were loaded")
    (job,) = (job for job in tables.client("test").list_jobs() if job.job_type == "load")
    loading = (job.ended - job.started).total_seconds()
    print(f"{count} vectors of {dimension} floats; the {seconds['nothing']:.1f} s of making them are subtracted")
    for name, others in (("TFRecord", 0.0), ("BigQuery", 0.0), ("BigQuery", loading)):
        own = seconds[name] - seconds["nothing"] - others
        less = f", without the {loading:.1f} s of the emulator's load job" if others else ""
        print(f"{name:9s} {count / own:8.0f} records/s, {own / count * 1e6:6.0f} µs per record{less}")


if __name__ == "__main__":
    sys.exit(main())
