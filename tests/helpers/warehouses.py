"""A bucket of images, a dataset, and the command from the one to the other, against the emulators."""

import contextlib
import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator

import pytest
from google.cloud import bigquery, storage

from tests.helpers import data_generation as data
from tests.helpers import fork_server
from tests.helpers.faults import Hold, fault_proxy


class Warehouse:
    """A bucket of images, a dataset, and the command from the one to the other."""

    def __init__(self, cloud, name: str, bucket: storage.Bucket | None = None):
        self._cloud = cloud
        self.environment = os.environ | cloud.environment
        self.buckets = cloud.buckets
        self._bq = bigquery.Client(project="test")
        self._dataset = self._bq.create_dataset(f"test.{name}").dataset_id
        client = storage.Client()
        self.bucket = bucket or client.create_bucket(name)
        self.temp = client.create_bucket(f"{name}_temp")
        # The emulator writes a list of all that it has, with what was deleted softly, at each request.
        self.temp.soft_delete_policy.retention_duration_seconds = 0
        self.temp.patch()

    def copied(self, name: str) -> "Warehouse":
        """Returns a warehouse over the same bucket, with copies of the tables in a dataset of its own."""
        copied = Warehouse(self._cloud, name, self.bucket)
        for table in self._bq.list_tables(self._dataset):
            if table.table_type == "TABLE":  # the command makes the views
                self._bq.copy_table(table.reference, f"test.{copied._dataset}.{table.table_id}").result()
        return copied

    def put(self, name: str, content: bytes) -> None:
        self.bucket.blob(f"photos/{name}").upload_from_string(content)

    def put_images(self, names: Iterable[str], first_seed: int) -> None:
        for seed, name in enumerate(names, first_seed):
            self.put(name, data.jpeg(seed, 24, 32))

    def copy(self, name: str, to: str) -> None:
        self.bucket.copy_blob(self.bucket.blob(f"photos/{name}"), self.bucket, f"photos/{to}")

    def delete(self, name: str) -> None:
        self.bucket.blob(f"photos/{name}").delete()

    def flags(self, table: str, *flags: str) -> list[str]:
        needed = [f"--output_table=test:{self._dataset}.{table}", f"--temp_location=gs://{self.temp.name}/{table}"]
        needed.append("--read_concurrency=4")  # the emulator's queue of connections is short, and who is left out waits
        if not any(flag.startswith("--input=") for flag in flags):
            needed.append(f"--input=gs://{self.bucket.name}/photos/")
        return [*needed, *flags]

    def run(self, table: str, *flags: str, env: dict[str, str] | None = None) -> dict:
        """Runs the command to a good end, and returns its report."""
        done = self.finish(table, *flags, env=env)
        assert done.returncode == 0, done.stderr
        (row,) = self.query(f"SELECT report FROM {table}_runs ORDER BY started_at DESC LIMIT 1")
        report = json.loads(row["report"])
        assert f"{report['counts']['listed']} images listed" in done.stdout
        return report

    def finish(self, table: str, *flags: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Runs the command to whatever end."""
        return fork_server.run(self.flags(table, *flags), self.environment | (env or {}), timeout=400)

    def start(self, table: str, *flags: str, env: dict[str, str]) -> fork_server.Forked:
        return fork_server.start(self.flags(table, *flags), self.environment | env)

    @contextlib.contextmanager
    def held(self, server: str, hold: Hold) -> Iterator[dict[str, str]]:
        """Yields the environment in which a run goes to a server, STORAGE or BIGQUERY, through a hold."""
        name = f"{server}_EMULATOR_HOST"
        with fault_proxy(self.environment[name], hold=hold) as proxy:
            yield {name: proxy.url}

    def query(self, sql: str) -> list[bigquery.Row]:
        config = bigquery.QueryJobConfig(default_dataset=f"test.{self._dataset}")
        return list(self._bq.query(sql, job_config=config).result())

    def rows(self, table: str) -> dict[str, dict]:
        """Returns the rows by key, each key once."""
        found = [dict(row.items()) for row in self.query(f"SELECT * FROM {table}")]
        assert len({row["key"] for row in found}) == len(found)
        return {row["key"].rpartition("/photos/")[2]: row for row in found}

    def remove(self) -> None:
        """Removes the tables and what lies in the temporary bucket, and leaves the bucket of images."""
        self._bq.delete_dataset(self._dataset, delete_contents=True)
        self.temp.delete_blobs(list(self.temp.list_blobs()))

    def tables(self) -> set[str]:
        return {table.table_id for table in self._bq.list_tables(self._dataset)}


def wait_until_held(hold: Hold, run: fork_server.Forked) -> None:
    """Waits until a run stands at a hold."""
    while not hold.reached.wait(0.1):
        assert run.poll() is None, run.communicate()


def name_of(request: pytest.FixtureRequest) -> str:
    return re.sub(r"\W+", "_", request.node.name)[-50:].strip("_")
