"""Writing: `Embedding`s and `Failure`s → rows of BigQuery tables, by load jobs of Avro files.

The tables are there already, and nobody else writes to them: rows become public by what follows the loads.
"""

import dataclasses
import datetime
import functools
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io.gcp.internal.clients.bigquery import BigqueryV2

from transforms.encoding.examples import Written
from transforms.records import Embedding, Failure, Known

# Beam's client takes its address from nowhere else.
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
    column("embedding", "FLOAT", "the vector", "REPEATED"),
    column("model", "STRING", "name of the model"),
    column("model_digest", "STRING", "over the model's files and the preprocessing: vectors of one are comparable"),
    column("run_id", "STRING", "the run that wrote this row"),
    column("embedded_at", "TIMESTAMP", "when that run began"),
)
FAILURE_COLUMNS = (
    column("key", "STRING", "URI of the image, as listed"),
    column("stage", "STRING", "list, read, decode, embed or reuse"),
    column("error", "STRING", "kind of error"),
    column("message", "STRING", "what the error says"),
    column("retryable", "BOOLEAN", "whether a new try may help"),
    column("run_id", "STRING", "the run in which it failed"),
    column("failed_at", "TIMESTAMP", "when that run began"),
)
GONE_COLUMNS = (
    column("key", "STRING", "URI of an image that is not there any more"),
    column("version", "STRING", "of the row that was there for it"),
    column("model_digest", "STRING", "of that row"),
)

_ESCAPED = re.compile(rb"\\x([89a-f][0-9a-f])")


def text(key: bytes) -> str:
    """Returns a key as a column holds it, which is UTF-8; bytes that are not are escaped as \\xNN."""
    return key.decode("utf-8", "backslashreplace")


def key_of(column: str) -> bytes:
    """Returns the key that a column holds as `text` gave it."""
    unescaped = _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), column.encode())
    # Or else the backslashes are the key's own.
    return unescaped if text(unescaped) == column else column.encode()


@dataclasses.dataclass(frozen=True)
class RunColumns:
    """What all rows of a run have in common."""

    run_id: str
    began_at: datetime.datetime
    written: Written


def embedding_row(embedding: Embedding, run: RunColumns) -> dict[str, Any]:
    """Returns the row of an embedding."""
    info = embedding.info
    return {
        "key": text(info.key),
        "sha256": info.sha256,
        "version": info.version,
        "format": info.format,
        "height": info.height,
        "width": info.width,
        "size": info.size,
        "crc32c": info.crc32c,
        "embedding": embedding.vector.tolist(),
        "model": run.written.model_name,
        "model_digest": run.written.model_digest,
        "run_id": run.run_id,
        "embedded_at": run.began_at,
    }


def failure_row(failure: Failure, run: RunColumns) -> dict[str, Any]:
    """Returns the row of a failure."""
    return {
        "key": text(failure.key),
        "stage": failure.stage,
        "error": failure.error,
        "message": failure.message.encode("utf-8", "backslashreplace").decode(),
        "retryable": failure.retryable,
        "run_id": run.run_id,
        "failed_at": run.began_at,
    }


def gone_row(known: Known, run: RunColumns) -> dict[str, Any]:
    """Returns the row that tells which row is to go."""
    return {"key": text(known.key), "version": known.version, "model_digest": run.written.model_digest}


_ROWS: dict[str, tuple[Callable[..., dict[str, Any]], Sequence[dict[str, str]]]] = {
    "embeddings": (embedding_row, EMBEDDING_COLUMNS),
    "failures": (failure_row, FAILURE_COLUMNS),
    "gone": (gone_row, GONE_COLUMNS),
}


@dataclasses.dataclass(eq=False)
class WriteBigQuery(beam.PTransform):
    """Embedding, Failure or Known, in one collection or several → an element for each load job that has ended.

    Several are never merged: each is written where it is made, since the local runner would hold what it merges.

    Attributes:
      kind: `embeddings`, `failures` or `gone`.
      table: PROJECT.DATASET.TABLE, which is there, empty, with the columns of that kind.
      temp_location: a gs:// directory for the files that are loaded.
      run: what the rows have in common.
    """

    kind: str
    table: str
    temp_location: str
    run: RunColumns

    def expand(self, collections: tuple[beam.PCollection, ...]) -> beam.PCollection:
        to_row, columns = _ROWS[self.kind]
        project, dataset, table = self.table.rsplit(".", 2)
        loads = []
        for i, collection in enumerate(collections):
            written = (
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
            loads += [written.destination_load_jobid_pairs, written.destination_copy_jobid_pairs]
        return loads | "Loads" >> beam.Flatten() | "Ended" >> beam.Map(_ended)


def _ended(load: tuple[str, Any]) -> str:
    return str(load[0])
