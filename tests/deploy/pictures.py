"""A warehouse on the emulator for the tests of deploy/sql, pictures in it, and what numpy says of them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.cloud import bigquery

from pipeline.warehouse.tables import RUN_COLUMNS
from transforms.write_bigquery import EMBEDDING_COLUMNS

ROOT = Path(__file__).parents[2]
SQL = ROOT / "deploy" / "sql"
DOCUMENT = ROOT / "docs" / "warehouse.md"
FILES = sorted(SQL.glob("*.sql"))

OLD, NEW = "0fa62269e6ba", "5d1a24b1f0c3"
FIRST_RUN, SECOND_RUN, THIRD_RUN = "night-1", "night-2", "night-3"
Row = dict[str, Any]
# The types of parameters, as `bq` reads them.
PYTHON = {"STRING": str, "INT64": int, "FLOAT64": float}


def header(name: str) -> str:
    return "\n".join(line for line in (SQL / name).read_text().splitlines() if line.startswith("--"))


def body(name: str) -> str:
    """The statements of a file, without comments."""
    return re.sub(r"^\s*--.*\n", "", (SQL / name).read_text(), flags=re.MULTILINE)


def documented_parameters(name: str) -> dict[str, str]:
    return dict(re.findall(r"^--   (\w+) +(STRING|INT64|FLOAT64)  ", header(name), flags=re.MULTILINE))


class Warehouse:
    """A dataset of the emulator with the tables that the pipeline writes."""

    def __init__(self, client: bigquery.Client, dataset: str) -> None:
        self.client = client
        self.dataset = dataset
        client.create_dataset(dataset)
        self._create("image_embeddings", EMBEDDING_COLUMNS, "embedded_at", ["model_digest", "key"])
        self._create("image_embeddings_runs", RUN_COLUMNS, "started_at", ["run_id"])

    def _create(self, name: str, columns: Sequence[Row], day: str, clusters: list[str]) -> None:
        table = bigquery.Table(f"test.{self.dataset}.{name}", [bigquery.SchemaField.from_api_repr(c) for c in columns])
        table.time_partitioning = bigquery.TimePartitioning(field=day)
        table.clustering_fields = clusters
        self.client.create_table(table)

    def execute(self, sql: str, parameters: Sequence = (), default_dataset: bool = True) -> bigquery.QueryJob:
        config = bigquery.QueryJobConfig(query_parameters=parameters)
        if default_dataset:
            config.default_dataset = f"test.{self.dataset}"
        # Not query_and_wait: the emulator answers it with no rows where a query failed.
        job = self.client.query(sql, job_config=config)
        job.result()
        return job

    def run(self, name: str, **values: object) -> bigquery.QueryJob:
        """Runs a file as `bq query --dataset_id … --parameter …` does, with the types that the file documents."""
        types = documented_parameters(name)
        return self.execute(
            (SQL / name).read_text(),
            [bigquery.ScalarQueryParameter(key, types[key], value) for key, value in values.items()],
        )

    def rows(self, name: str, **values: object) -> list[Row]:
        return [dict(row) for row in self.run(name, **values).result()]

    def run_script(self, name: str) -> list[Row]:
        """Runs a file of several statements, its tables qualified by the `sed` line of docs/warehouse.md.

        The emulator forgets the default dataset in scripts with loops, and takes no parameters in scripts.
        """
        sql = (SQL / name).read_text().replace("image_embeddings", f"{self.dataset}.image_embeddings")
        return [dict(row) for row in self.execute(sql, default_dataset=False).result()]

    def select(self, sql: str) -> list[Row]:
        return [dict(row) for row in self.execute(sql).result()]

    def load(self, table: str, rows: list[Row]) -> None:
        assert self.client.insert_rows_json(f"test.{self.dataset}.{table}", rows) == []


# When each run began; it ended an hour later.
STARTS = {name: f"2026-11-0{day}T00:00:00Z" for day, name in enumerate([FIRST_RUN, SECOND_RUN, THIRD_RUN], 1)}


def image(key: str, vector: np.ndarray, *, digest: str = OLD, run: str = FIRST_RUN, sha256: str | None = None) -> Row:
    other = {"version": "1", "format": "jpeg", "height": 480, "width": 640, "size": 20_000, "crc32c": "AAAAAA=="}
    return other | {
        "key": f"gs://bucket/{key}.jpg",
        "sha256": sha256 or f"sha256-of-{key}",
        "embedding": vector.tolist(),
        "model": "a model",
        "model_digest": digest,
        "run_id": run,
        "embedded_at": STARTS.get(run, "2026-10-01T00:00:00Z"),
    }


def finished(run: str, digest: str, listed: int, failure_rate: float) -> Row:
    """A row of the runs; what no query reads is 0."""
    counts = dict.fromkeys(("dimension", "embedded", "reused", "duplicate", "failed", "skipped", "pruned"), 0)
    times = {"started_at": STARTS[run], "finished_at": STARTS[run].replace("T00", "T01")}
    texts = {"model": "a model", "model_digest": digest, "verdict": "", "report": "{}"}
    return counts | times | texts | {"run_id": run, "listed": listed, "failure_rate": failure_rate}


def pictures() -> list[Row]:
    """40 images in four scenes under two models; some are copies or nearly so, some came with the second run."""
    random = np.random.default_rng(4)
    rows = []
    for scene, centre in zip(["cats", "dogs", "hills", "ships"], random.normal(size=(4, 16)), strict=True):
        for number, noise in enumerate(random.normal(scale=0.6, size=(10, 16))):
            # The second run's pictures lie a little aside of the first's.
            late = number >= 7
            vector = centre + noise + (0.4 if late else 0.0)
            rows.append(image(f"{scene}/{number}", vector, run=SECOND_RUN if late else FIRST_RUN))
    near = random.normal(scale=0.02, size=(3, 16))
    first, second = np.array(rows[0]["embedding"]), np.array(rows[13]["embedding"])
    rows += [
        image("cats/0-small", first + near[0]),
        image("cats/0-grey", first + near[1]),
        image("backup/cats/0", first, sha256="sha256-of-cats/0"),
        image("dogs/3-small", second + near[2]),
        image("backup/hills/5", np.array(rows[25]["embedding"]), sha256="sha256-of-hills/5"),
    ]
    # The new model sees the same, more finely and with some noise of its own; it has not seen the last hill.
    projection = random.normal(size=(16, 24))
    new = []
    for row in rows:
        if row["key"] != "gs://bucket/hills/9.jpg":
            vector = np.array(row["embedding"]) @ projection + random.normal(scale=1.5, size=24)
            new.append(
                row
                | {
                    "embedding": vector.tolist(),
                    "model_digest": NEW,
                    "run_id": THIRD_RUN,
                    "embedded_at": STARTS[THIRD_RUN],
                }
            )
    new[5] |= {"sha256": "sha256-of-another-cat"}  # replaced between the two models' runs
    return rows + new


RUNS = [
    finished(FIRST_RUN, OLD, 34, 0.03),
    finished(SECOND_RUN, OLD, 46, 0.02),
    finished(THIRD_RUN, NEW, 46, 0.04),
]


def vectors(digest: str = OLD) -> dict[str, np.ndarray]:
    return {row["key"]: np.array(row["embedding"]) for row in pictures() if row["model_digest"] == digest}


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return 1 - a @ b / np.sqrt((a @ a) * (b @ b))


def nearest(key: str, table: dict[str, np.ndarray]) -> list[str]:
    return sorted(table.keys() - {key}, key=lambda other: (distance(table[key], table[other]), other))


def components(pairs: set[tuple[str, str]]) -> dict[str, str]:
    """Each key of the pairs → the least key that a chain of pairs connects it with."""
    names = {key: key for pair in pairs for key in pair}
    while any(names[a] != names[b] for a, b in pairs):
        for a, b in pairs:
            names[a] = names[b] = min(names[a], names[b])
    return names
