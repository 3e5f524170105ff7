"""The command on a Flink cluster: the same records as a local run's, and a TaskManager lost in the middle."""

import base64
import collections
import contextlib
import json
import os
import subprocess
import time
import urllib.error
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.coders import VarIntCoder

from deploy.flink.cluster import Cluster, flink, missing
from pipeline import graph
from pipeline.attempts import attempt as attempts
from pipeline.flags import options
from pipeline.runners.traits import RunnerTraits
from tests.helpers import data_generation as data
from tests.helpers.killing import kill
from tests.helpers.running import ROOT, Run, command, run_pipeline
from transforms.elements.formats import INPUT_FORMATS

SAMPLES = Path(options.SAMPLES).parent
# Starting a JVM for everything, and a worker for each TaskManager, takes a busy machine its time.
TIMEOUT = 400


@pytest.mark.slow
@pytest.mark.parametrize("input_format", INPUT_FORMATS)
def test_no_flatten_is_of_nothing(tmp_path, model, input_format):
    # With one, Beam's fuser for Flink says `PCollectionNodes […] were consumed but never produced`.
    flags = ["--input", tmp_path / "x", "--output", tmp_path / "out", "--input_format", input_format]
    config, _ = options.parse(list(map(str, flags)))
    pipeline = beam.Pipeline()
    graph.build(pipeline, graph.Job(config, model, attempts.of(config)), RunnerTraits(shares_model=True))
    transforms = pipeline.to_runner_api().components.transforms.values()
    flattens = [each for each in transforms if each.spec.urn == beam.common_urns.primitives.FLATTEN.urn]
    assert flattens and [each.unique_name for each in flattens if not each.inputs] == []


class _Clusters:
    """One cluster for all tests, until one of its TaskManagers is gone: then the next test gets another."""

    def __init__(self, tmp_path_factory: pytest.TempPathFactory):
        self._tmp_path_factory = tmp_path_factory
        self._running = contextlib.ExitStack()
        self._cluster: Cluster | None = None

    def whole(self) -> Cluster:
        if self._cluster is None or any(each.poll() is not None for each in self._cluster.task_managers):
            self.stop()
            self._cluster = self._running.enter_context(flink(self._tmp_path_factory.mktemp("flink")))
        return self._cluster

    def stop(self) -> None:
        self._running.close()


@pytest.fixture(scope="module")
def clusters(tmp_path_factory):
    if reason := missing():
        pytest.skip(reason)
    clusters = _Clusters(tmp_path_factory)
    yield clusters
    clusters.stop()


@pytest.fixture
def cluster(clusters):
    return clusters.whole()


def job(cluster: Cluster) -> str:
    """Returns the id of the job that started last."""
    return max(cluster.get("/jobs/overview")["jobs"], key=lambda found: found["start-time"])["jid"]


def counters(cluster: Cluster) -> dict[str, int]:
    """Returns what Flink's REST interface says that the last job's workers have counted."""
    counted = collections.Counter()
    for found in cluster.get(f"/jobs/{job(cluster)}/accumulators")["user-task-accumulators"]:
        for metric in json.loads(found["value"])["metrics"]["attempted"]:
            if metric["urn"] == "beam:metric:user:sum_int64:v1" and metric["labels"]["NAMESPACE"] == "images":
                counted[metric["labels"]["NAME"]] += VarIntCoder().decode(base64.b64decode(metric["payload"]))
    return dict(counted)


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def files(output: Path) -> set[str]:
    """Returns what a run wrote, with numbers for digits."""
    return {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}


def assert_same(run: Run, local: Run) -> None:
    """What makes a record a record is the same; how many files there are is not."""
    assert run.counts == local.counts
    assert run.report["failures"] == local.report["failures"]
    assert sorted(map(by_key, run.failures)) == sorted(map(by_key, local.failures))
    rows, expected = ({row["image/key"]: row for row in each.rows} for each in (run, local))
    assert len(run.rows) == len(rows) and rows.keys() == expected.keys()
    for key, row in rows.items():
        vector, other = row.pop("embedding"), expected[key].pop("embedding")
        assert row == expected[key]
        assert cosine(vector, other) > 0.9999  # batches of other sizes add up in another order
    stem = {"schema.pbtxt", *(f"runs/{run.report['run_id']}.{suffix}" for suffix in ("html", "json", "statistics"))}
    assert {name for name in files(run.output) if "part-" not in name} == stem


def by_key(failure: dict) -> tuple:
    return failure["key"], failure["stage"], failure["error"], failure["message"]


def test_the_same_records_as_a_local_run(cluster, tmp_path):
    photos = tmp_path / "photos"
    data.write_images(photos, 5)
    (photos / "copy.jpg").write_bytes((photos / "00003.jpg").read_bytes())
    for name in ("empty.jpg", "text.jpg"):
        (photos / name).write_bytes(data.broken_images()[name][0])
    flags = ["--input", SAMPLES / "*", "--input", photos, "--run_id", "same"]
    local = run_pipeline(tmp_path / "local", *flags)
    assert local.code == 0, local.stderr
    assert local.counts["failed"] == 2 and local.counts["duplicate"] == 1
    in_parquet = "--output_format=parquet", "--vector_type=float16"  # the other tests write TFRecords
    run = run_pipeline(tmp_path / "flink", *cluster.flags, *flags, *in_parquet, timeout=TIMEOUT)
    assert run.code == 0, run.stderr
    assert_same(run, local)
    assert run.report["recall"]["vectors"] == run.counts["embedded"] and run.report["recall"]["at_10"] > 0.9
    counted, counts = counters(cluster), run.counts
    assert {name: counted[f"images_{name}"] for name in counts} == counts
    assert counted["images_failed_decode"] == 2


def tasks(cluster: Cluster, step: str) -> list[dict]:
    """Returns the subtasks that a step is part of, as Flink's REST interface shows them; none before there is a job."""
    try:
        running = cluster.get(f"/jobs/{job(cluster)}")
    except (ValueError, urllib.error.HTTPError):
        return []
    for vertex in running["vertices"]:
        if step in vertex["name"]:
            return cluster.get(f"/jobs/{running['jid']}/vertices/{vertex['id']}")["subtasks"]
    return []


def embedding(cluster: Cluster, shards: Path) -> subprocess.Popen | None:
    """Returns a TaskManager that embeds while some vectors are written already, None where there is none now."""
    running = [task for task in tasks(cluster, "EmbedImages") if task["status"] == "RUNNING"]
    written = list(shards.glob(".parts/*"))
    return cluster.task_managers[int(running[0]["taskmanager-id"])] if running and written else None


def naming(cluster: Cluster, shards: Path) -> subprocess.Popen | None:
    """Returns the TaskManager that names files once one of them has its name, None before."""
    if not list(shards.glob("part-*")):
        return None
    at_work = [task for task in tasks(cluster, "NameFiles") if task["status"] == "RUNNING"]
    return cluster.task_managers[int(at_work[0]["taskmanager-id"]) if at_work else 0]


@pytest.mark.parametrize(("images", "at_work"), [(2400, embedding), (60, naming)])
def test_a_lost_task_manager_costs_no_image(cluster, tmp_path, images, at_work):
    photos, output = tmp_path / "photos", tmp_path / "out"
    paths = data.write_images(photos, images, height=60, width=80)
    (photos / "copy.jpg").write_bytes(paths[7].read_bytes())
    (photos / "empty.jpg").write_bytes(b"")
    flags = ["--input", photos, "--output", output, "--run_id", "lost", "--batch_size=4"]
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen(command(*cluster.flags, *flags), cwd=ROOT, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + TIMEOUT
            while not (lost := at_work(cluster, output / "embeddings" / "lost")):
                assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.05)
            lost.kill()
            assert process.wait(TIMEOUT) == 0, (tmp_path / "log").read_text()
        finally:
            process.kill()
            process.wait()
    if at_work is embedding:
        assert max(task["attempt"] for task in tasks(cluster, "EmbedImages")) > 0
    run = Run(0, (tmp_path / "log").read_text(), "", output)
    assert run.counts == {"listed": images + 2, "embedded": images, "duplicate": 1, "failed": 1}
    keys = sorted(row["image/key"] for row in run.rows)
    assert keys == sorted(os.fsencode(path) for path in [*paths, photos / "copy.jpg"])
    assert [failure["key"] for failure in run.failures] == [str(photos / "empty.jpg")]
    shards = sorted(output.glob("embeddings/lost/*"))
    assert [path.name for path in shards] == [f"part-{i:05d}-of-{len(shards):05d}.tfrecord" for i in range(len(shards))]
    assert len(shards) == run.report["shards"] and not list(output.rglob(".*"))
    counted = counters(cluster)
    assert {name: counted[f"images_{name}"] for name in run.counts} == run.counts


def test_a_run_that_was_killed_elsewhere_is_finished_on_the_cluster(cluster, tmp_path):
    photos, output = tmp_path / "photos", tmp_path / "out"
    paths = data.write_images(photos, 300, height=60, width=80)
    (photos / "copy.jpg").write_bytes(paths[299].read_bytes())
    flags = ["--input", photos, "--run_id", "r"]
    stored = kill(output, *flags, at=150)
    run = run_pipeline(output, *cluster.flags, *flags, timeout=TIMEOUT)
    assert run.code == 0, run.stderr
    assert list(run.report["attempts"].values()) == [len(stored), 301 - len(stored)]
    assert run.counts == {"listed": 301, "embedded": 300, "duplicate": 1}
    keys = sorted(row["image/key"] for row in run.rows)
    assert keys == sorted(os.fsencode(path) for path in [*paths, photos / "copy.jpg"])
    # The copy gets its vector from there too, if the image that it equals was stored.
    assert counters(cluster)["images_resumed"] == len(stored) + (os.fsencode(paths[299]) in stored)
    assert not list(output.rglob(".*")) and not list(output.glob("runs/*.unfinished"))
