"""Writing: `Embedding`s and `Failure`s → rows of BigQuery tables, by load jobs of Avro files.

The tables exist already, and only this run writes to them. A later step publishes their rows.
"""

import dataclasses
import datetime
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io.gcp.internal.clients.bigquery import BigqueryV2

from transforms.elements import keys, table_name
from transforms.elements.image_columns import columns_of
from transforms.elements.records import Embedding, Failure, Known
from transforms.elements.stage import Stage
from transforms.models.spec import ModelFields
from transforms.storage import locations

# Beam's client has no other setting for its address.
if host := os.environ.get("BIGQUERY_EMULATOR_HOST"):
    BigqueryV2.BASE_URL = f"{host.rstrip('/')}/bigquery/v2/"


def column(name: str, column_type: str, description: str, mode: str = "REQUIRED") -> dict[str, str]:
    return {"name": name, "type": column_type, "mode": mode, "description": description}


# As BigQuery's REST interface describes columns: https://cloud.google.com/bigquery/docs/reference/rest/v2/tables
EMBEDDING_COLUMNS = (
    column("key", "STRING", "URI of the image, as listed"),
    column("sha256", "STRING", "SHA-256 of the encoded bytes, hex"),
    column("version", "STRING", "generation of the object, or size and mtime of the file"),
    column("format", "STRING", "jpeg, png, …"),
    column("height", "INTEGER", "of the image as stored, in pixels"),
    column("width", "INTEGER", "of the image as stored, in pixels"),
    column("size", "INTEGER", "of the encoded image, in bytes"),
    column("crc32c", "STRING", "CRC32C of the encoded bytes, base64 as Cloud Storage gives it"),
    column(
        "shard", "STRING", "URI of the shard that held the image; '' for a file; NULL before this column", "NULLABLE"
    ),
    column("embedding", "FLOAT", "the vector", "REPEATED"),
    column("model", "STRING", "name of the model"),
    column("model_digest", "STRING", "over the model's files and the preprocessing: vectors of one are comparable"),
    column("run_id", "STRING", "the run that wrote this row"),
    column("embedded_at", "TIMESTAMP", "when that run began, by BigQuery's clock"),
)
FAILURE_COLUMNS = (
    column("key", "STRING", "URI of the image, as listed"),
    column("stage", "STRING", "list, read, decode, embed or reuse"),
    column("error", "STRING", "kind of error"),
    column("message", "STRING", "what the error says"),
    column("retryable", "BOOLEAN", "whether a new try may help"),
    column("is_file", "BOOLEAN", "whether the key was listed as that of a file, and not in a shard", mode="NULLABLE"),
    column("run_id", "STRING", "the run in which it failed"),
    column("failed_at", "TIMESTAMP", "when that run began, by BigQuery's clock"),
)
GONE_COLUMNS = (
    column("key", "STRING", "URI of an image that is not there any more"),
    column("version", "STRING", "version in the row to be removed"),
    column("model_digest", "STRING", "model_digest in that row"),
)


@dataclasses.dataclass(frozen=True)
class RunColumns:
    """The columns that all rows of a run have in common."""

    run_id: str
    began_at: datetime.datetime
    model: ModelFields


def embedding_row(embedding: Embedding, run: RunColumns) -> dict[str, Any]:
    """Returns the row of an embedding."""
    return {
        **columns_of(embedding.info),
        "embedding": embedding.vector.tolist(),
        "model": run.model.model_name,
        "model_digest": run.model.model_digest,
        "run_id": run.run_id,
        "embedded_at": run.began_at,
    }


def failure_row(failure: Failure, run: RunColumns) -> dict[str, Any]:
    """Returns the row of a failure."""
    return {
        "key": keys.text(failure.key),
        "stage": failure.stage,
        "error": failure.error,
        "message": failure.message.encode("utf-8", "backslashreplace").decode(),
        "retryable": failure.retryable,
        "is_file": failure.is_file,
        "run_id": run.run_id,
        "failed_at": run.began_at,
    }


def gone_row(known: Known, run: RunColumns) -> dict[str, Any]:
    """Returns the row that names a row to be removed."""
    return {"key": keys.text(known.key), "version": known.version, "model_digest": run.model.model_digest}


_ROWS: dict[str, tuple[Callable[..., dict[str, Any]], Sequence[dict[str, str]]]] = {
    "embeddings": (embedding_row, EMBEDDING_COLUMNS),
    "failures": (failure_row, FAILURE_COLUMNS),
    "gone": (gone_row, GONE_COLUMNS),
}


@dataclasses.dataclass(eq=False)
class WriteBigQuery(Stage):
    """Embedding, Failure or Known, in a tuple of collections → an element for each load job that has ended.

    The collections are not merged, because the local runner holds merged collections in memory. Each is written where
    it is made.

    >>> run = RunColumns("first", datetime.datetime(2026, 1, 1), ModelFields("zeros", "d" * 64, dimension=4))
    >>> write = WriteBigQuery("failures", "project:dataset.images_failures", "gs://bucket/tmp", run)
    >>> write.table
    'project.dataset.images_failures'
    >>> failure_row(Failure.of(b"a.jpg", "read", OSError("gone")), run)["error"]
    'OSError'

    Attributes:
      kind: `embeddings`, `failures` or `gone`.
      table: PROJECT:DATASET.TABLE of an existing table with the columns of that kind.
      temp_location: a gs:// directory for the files that are loaded.
      run: the columns that all rows have in common.

    Raises:
      ValueError: if an attribute is invalid.
    """

    kind: str
    table: str
    temp_location: str
    run: RunColumns

    def __post_init__(self) -> None:
        if self.kind not in _ROWS:
            raise ValueError(f"kind={self.kind!r}: expected one of {', '.join(_ROWS)}")
        try:
            self.table = table_name.parse(self.table)
        except ValueError as error:
            raise ValueError(f"table={error}") from error
        bucket = self.temp_location.removeprefix(locations.GCS_SCHEME).partition("/")[0]
        if not locations.is_gcs(self.temp_location) or not bucket:
            raise ValueError(f"temp_location={self.temp_location!r}: expected gs://BUCKET/DIRECTORY")

    def expand(self, collections: tuple[beam.PCollection, ...]) -> beam.PCollection:
        to_row, columns = _ROWS[self.kind]
        project, dataset, table = table_name.split(self.table)
        loads = []
        for i, collection in enumerate(collections):
            load = (
                collection
                | f"ToRows{i}" >> beam.Map(functools.partial(to_row, run=self.run))
                | f"Load{i}"
                >> beam.io.WriteToBigQuery(
                    f"{project}:{dataset}.{table}",
                    schema={"fields": list(columns)},
                    method=beam.io.WriteToBigQuery.Method.FILE_LOADS,
                    temp_file_format="AVRO",
                    custom_gcs_temp_location=self.temp_location,
                    create_disposition=beam.io.BigQueryDisposition.CREATE_NEVER,
                    write_disposition=beam.io.BigQueryDisposition.WRITE_APPEND,
                    validate=False,
                )
            )
            loads += [load.destination_load_jobid_pairs, load.destination_copy_jobid_pairs]
        return loads | "Loads" >> beam.Flatten() | "Ended" >> beam.Map(_ended)


def _ended(load: tuple[str, Any]) -> str:
    return str(load[0])
