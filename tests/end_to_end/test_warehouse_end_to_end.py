"""The nightly job, by the command: a bucket that changes, and a table that follows it, whatever happens on the way."""

import contextlib
import datetime
import json
import re
import subprocess
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from tests.helpers import data_generation as data
from tests.helpers.faults import Hold
from tests.helpers.running import command, read_rows
from tests.helpers.warehouses import Warehouse, name_of, wait_until_held


def check_equal(rows: dict[str, dict], expected: dict[str, dict]) -> None:
    """Makes sure that two tables tell the same, whichever runs wrote them."""
    assert rows.keys() == expected.keys()
    for key, row in rows.items():
        facts, others = ({n: v for n, v in r.items() if n not in _OF_THE_RUN} for r in (row, expected[key]))
        assert facts == others
        a, b = np.array(row["embedding"]), np.array(expected[key]["embedding"])
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.999999  # float32, in batches of other sizes


_OF_THE_RUN = ("embedding", "run_id", "embedded_at")


def counts(report: dict) -> dict[str, int]:
    return {name: count for name, count in report["counts"].items() if count}


# Makes a table, changes its bucket, and makes the table that is expected then, from scratch.
History = Callable[[Warehouse], None]


@pytest.fixture(scope="module")
def originals() -> dict[History, Warehouse]:
    return {}


@pytest.fixture
def copy_after(cloud, request, originals) -> Callable[[History], Warehouse]:
    """Returns a warehouse after a history, which happens once for all tests: each has a copy of the tables."""

    def copy(history: History) -> Warehouse:
        if history not in originals:
            original = Warehouse(cloud, history.__name__)
            history(original)
            originals[history] = original
        return originals[history].copied(name_of(request))

    return copy


def changes_copies_and_failures(warehouse: Warehouse) -> None:
    warehouse.put_images([f"{i}.jpg" for i in range(60)], 0)
    for i in range(5):
        warehouse.copy(f"{i}.jpg", f"copy-{i}.jpg")
    warehouse.put("broken.jpg", b"no image")
    warehouse.put_images([f"{i}.jpg" for i in range(10)], 100)
    warehouse.delete("50.jpg")
    warehouse.run("images")  # with rows there that are to change, and one to go
    warehouse.put_images([f"{i}.jpg" for i in range(20, 40)], 200)
    warehouse.delete("51.jpg")
    warehouse.run("scratch")


@pytest.mark.usefixtures("plain_beam")
def test_a_table_follows_its_bucket(warehouse):
    old = [f"{i:03d}.jpg" for i in range(100)]
    warehouse.put_images(old, 0)
    first = warehouse.run("nightly", "--prune")
    assert counts(first) == {"listed": 100, "embedded": 100}
    before = warehouse.rows("nightly")
    assert before.keys() == set(old)

    again = warehouse.run("nightly", "--prune")
    assert counts(again) == {"listed": 100, "skipped": 100} and again["pruned"] == 0
    assert again["seconds"].keys() <= {"list"}  # nothing was read, decoded or embedded
    assert warehouse.rows("nightly") == before  # run_id and embedded_at too

    warehouse.put_images([f"new/{i}.jpg" for i in range(20)], 1000)
    warehouse.put_images(old[:10], 2000)  # changed
    for name in old[10:25]:  # renamed
        warehouse.copy(name, f"renamed/{name}")
        warehouse.delete(name)
    for name in old[25:50]:  # copied
        warehouse.copy(name, f"copies/{name}")
    for i in range(5):  # of what is new itself
        warehouse.copy(f"new/{i}.jpg", f"copies/new-{i}.jpg")
    for name in old[50:55]:
        warehouse.delete(name)

    second = warehouse.run("nightly", "--prune", "--make_latest")
    assert counts(second) == {"listed": 145, "embedded": 30, "reused": 40, "duplicate": 5, "skipped": 70}
    assert second["pruned"] == 20
    after = warehouse.rows("nightly")
    assert {name for name, row in after.items() if row["run_id"] == second["run_id"]} == {
        name for name in after if name not in old or name in old[:10]
    }
    for name in old[10:25]:
        assert after[f"renamed/{name}"]["embedding"] == before[name]["embedding"]

    warehouse.run("scratch")
    check_equal(after, warehouse.rows("scratch"))
    assert len(warehouse.query("SELECT key FROM nightly_latest")) == 145
    assert warehouse.tables() == {
        f"{table}{suffix}" for table in ("nightly", "scratch") for suffix in ("", "_failures", "_runs", "_latest")
    }
    assert not list(warehouse.temp.list_blobs())


def test_another_preprocessing_is_another_model_beside_the_first(warehouse):
    warehouse.put_images(["a.jpg", "b.jpg"], 0)
    first = warehouse.run("images")
    cropped = warehouse.run("images", "--resize_mode=crop")
    assert counts(cropped) == {"listed": 2, "embedded": 2}
    assert counts(warehouse.run("images")) == {"listed": 2, "skipped": 2}
    rows = warehouse.query("SELECT key, model_digest FROM images")
    assert len(rows) == 4 and len({row["model_digest"] for row in rows}) == 2
    shown = warehouse.query("SELECT DISTINCT model_digest FROM images_latest")
    assert [row["model_digest"] for row in shown] == [first["model"]["digest"]]
    everything = warehouse.run("images", "--reprocess")
    assert counts(everything) == {"listed": 2, "embedded": 2}
    assert len(warehouse.query("SELECT key FROM images")) == 4


def test_pruning_leaves_what_lies_outside_the_input(warehouse):
    warehouse.put_images(["a/kept.jpg", "a/gone.jpg", "b/kept.jpg", "b/gone.jpg", "ab.jpg"], 0)
    warehouse.run("images")
    warehouse.delete("a/gone.jpg")
    warehouse.delete("b/gone.jpg")
    report = warehouse.run("images", "--prune", f"--input=gs://{warehouse.bucket.name}/photos/a/")
    assert (counts(report), report["pruned"]) == ({"listed": 1, "skipped": 1}, 1)
    assert warehouse.rows("images").keys() == {"a/kept.jpg", "b/kept.jpg", "b/gone.jpg", "ab.jpg"}


def test_reprocessing_and_pruning_in_one_run(warehouse):
    warehouse.put_images(["a.jpg", "old name.jpg", "gone.jpg"], 0)
    warehouse.run("images")
    warehouse.copy("old name.jpg", "new name.jpg")
    warehouse.delete("old name.jpg")
    warehouse.delete("gone.jpg")
    report = warehouse.run("images", "--reprocess", "--prune", "--max_pruned=1", "--run_id=everything")
    # Neither skipped nor reused, though the table knows the bytes of both.
    assert (counts(report), report["pruned"]) == ({"listed": 2, "embedded": 2}, 2)
    rows = warehouse.rows("images")
    assert rows.keys() == {"a.jpg", "new name.jpg"}
    assert {row["run_id"] for row in rows.values()} == {"everything"}


def test_files_and_rows_from_one_pass(warehouse):
    warehouse.put_images(["a.jpg", "b.jpg", "c.jpg"], 0)
    warehouse.copy("a.jpg", "twin.jpg")
    warehouse.put("broken.jpg", b"no image")
    output = f"gs://{warehouse.temp.name}/out"
    report = warehouse.run("images", f"--output={output}", "--run_id=night")
    assert counts(report) == {"listed": 5, "embedded": 3, "duplicate": 1, "failed": 1}
    files = warehouse.buckets / warehouse.temp.name / "out"
    in_file = json.loads((files / "runs" / "night.json").read_text())
    assert all(in_file["files"].pop(f"runs/night.{suffix}") for suffix in ("html", "statistics"))  # after the rows
    assert in_file.pop("checksum") and in_file == report
    rows = warehouse.rows("images")
    records = {row["image/key"].decode().rpartition("/photos/")[2]: row for row in read_rows(files)}
    assert records.keys() == rows.keys() == {"a.jpg", "b.jpg", "c.jpg", "twin.jpg"}
    for name, record in records.items():
        for column, feature in (
            ("sha256", "sha256"),
            ("version", "version"),
            ("crc32c", "crc32c"),
            ("format", "format"),
        ):
            assert rows[name][column] == record[f"image/{feature}"].decode()
        for column in ("height", "width", "size"):
            assert rows[name][column] == record[f"image/{column}"]
        np.testing.assert_array_equal(np.array(rows[name]["embedding"], np.float32), record["embedding"])
    assert rows["a.jpg"]["embedding"] == rows["twin.jpg"]["embedding"]
    # By BigQuery's clock, which every run asks after it has begun.
    assert rows["a.jpg"]["embedded_at"] > datetime.datetime.fromisoformat(report["started_at"])
    blob = warehouse.bucket.get_blob("photos/a.jpg")
    assert (rows["a.jpg"]["version"], rows["a.jpg"]["crc32c"]) == (str(blob.generation), blob.crc32c)
    ((key, run_id),) = [tuple(row.values()) for row in warehouse.query("SELECT key, run_id FROM images_failures")]
    assert (key, run_id) == (f"gs://{warehouse.bucket.name}/photos/broken.jpg", "night")

    done = warehouse.finish("images", f"--output={output}", "--run_id=night")
    assert (done.returncode, "is complete, nothing was done" in done.stdout) == (0, True), done.stderr
    done = warehouse.finish("images", f"--output={output}", "--run_id=night", "--resize_mode=pad")
    assert done.returncode == 2 and "is of a complete run with other inputs or another model" in done.stderr


def test_what_was_not_seen_is_not_gone(warehouse, tmp_path):
    """Places that cannot be listed, images of shards, and a disk that is empty, over a table of local files."""
    photos = tmp_path / "photos"
    names = ["a.jpg", "gone.jpg", "linked.jpg", "moved/a.jpg", "moved/deep/b.jpg", "moved-2/c.jpg"]
    for seed, name in enumerate(names):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(data.jpeg(seed, 24, 32))
    of_files = f"--input={photos}"
    warehouse.run("images", of_files)
    shard = data.write_tar(tmp_path / "x.tar", {"1.jpg": data.jpeg(90, 24, 32)})
    inside = data.write_tfrecords(
        tmp_path / "y", [data.image_example(data.jpeg(91, 24, 32), bytes(photos / "own.jpg"))]
    )
    warehouse.run("images", "--input_format=tar", f"--input={shard}")
    warehouse.run("images", "--input_format=tfrecord", f"--input={inside}")
    before = warehouse.rows("images")
    shards = {row["key"]: row["shard"] for row in before.values() if row["shard"]}
    assert shards == {f"{shard}#1.jpg": str(shard), f"{photos}/own.jpg": str(inside)}

    (photos / "gone.jpg").unlink()
    for name in ("linked.jpg", "moved"):
        (photos / name).rename(tmp_path / name)
        (photos / name).symlink_to(tmp_path / "unmounted" / name)
    report = warehouse.run("images", of_files, "--prune")
    assert (report["pruned"], report["counts"]["failed"]) == (1, 2)
    places = {f"{photos}/linked.jpg": 1, f"{photos}/moved": 2}
    assert report["pruning"] == {"prunable": 6, "hidden": 3, "untold": 1, "places": places}
    kept = {name: row for name, row in before.items() if name != "gone.jpg"}
    assert warehouse.rows("images") == kept

    photos.rename(tmp_path / "unmounted")
    photos.mkdir()
    (photos / "a.jpg").write_bytes(data.jpeg(0, 24, 32))
    refused = warehouse.finish("images", of_files, "--prune", "--run_id=empty")
    assert refused.returncode == 1, refused.stderr
    assert "nothing was published" in refused.stderr
    assert (
        "4 of the 5 rows of images that --input matches would be deleted, more than --max_pruned 0.5" in refused.stderr
    )
    assert warehouse.rows("images") == kept
    assert len(warehouse.query("SELECT run_id FROM images_runs")) == 4
    assert not [table for table in warehouse.tables() if "staging" in table]

    meant = warehouse.run("images", of_files, "--prune", "--run_id=empty", "--max_pruned=1")
    assert meant["pruned"] == 4
    assert {row["key"] for row in warehouse.rows("images").values()} == {f"{photos}/a.jpg", *shards}


def test_rows_of_an_earlier_version_are_not_pruned(warehouse):
    warehouse.put_images(["a.jpg", "b.jpg", "c.jpg"], 0)
    warehouse.run("images")
    warehouse.query("UPDATE images SET shard = NULL WHERE TRUE")
    warehouse.delete("c.jpg")
    report = warehouse.run("images", "--prune")
    assert (report["pruned"], report["pruning"]["untold"]) == (0, 1)
    assert warehouse.rows("images").keys() == {"a.jpg", "b.jpg", "c.jpg"}
    warehouse.query("UPDATE images SET shard = '' WHERE shard IS NULL")  # as docs/warehouse.md says
    assert warehouse.run("images", "--prune")["pruned"] == 1
    assert warehouse.rows("images").keys() == {"a.jpg", "b.jpg"}


def test_an_image_with_a_vector_of_zeros_does_not_keep_the_others_from_the_table(warehouse, tmp_path):
    """The model of this test gives the mean colour, so that a black image has no direction."""
    means = make_model_of_means(tmp_path / "means.keras")
    warehouse.put_images(["a.jpg"], 0)
    warehouse.put("black.png", data.encoded(Image.new("RGB", (8, 8)), "PNG"))
    report = warehouse.run("images", f"--model={means}", "--image_size=8x8", "--pixel_range=0..1")
    assert report["failures"] == {"embed": {"ZeroVector": 1}}
    assert warehouse.rows("images").keys() == {"a.jpg"}
    assert not [table for table in warehouse.tables() if "staging" in table]


def make_model_of_means(path):
    """Saves a model whose vector is the mean of the pixels."""
    code = (
        "import sys, keras; x = keras.Input((8, 8, 3)); y = keras.layers.GlobalAveragePooling2D()(x)\n"
        "keras.Model(x, y).save(sys.argv[1])"
    )
    subprocess.run([command()[0], "-c", code, path], check=True, capture_output=True)
    return path


def test_failures_that_may_pass_are_tried_again(warehouse):
    warehouse.put_images(["a.jpg", "b.jpg"], 0)
    warehouse.put("broken.jpg", b"no image")
    listing = warehouse.bucket.blob("lists/all.txt")
    uris = [f"gs://{warehouse.bucket.name}/photos/{name}" for name in ("a.jpg", "b.jpg", "broken.jpg", "later.jpg")]
    listing.upload_from_string("\n".join(uris))
    by_list = ("--input_format=list", f"--input=gs://{warehouse.bucket.name}/lists/all.txt")
    warehouse.run("images", *by_list)
    failed = warehouse.query("SELECT key, stage, retryable FROM images_failures ORDER BY key")
    assert [tuple(row.values()) for row in failed] == [(uris[2], "decode", False), (uris[3], "list", True)]
    warehouse.put_images(["later.jpg"], 7)
    report = warehouse.run("images", "--retry_failed")
    assert counts(report) == {"listed": 1, "embedded": 1}
    assert warehouse.rows("images").keys() == {"a.jpg", "b.jpg", "later.jpg"}
    assert counts(warehouse.run("images", "--retry_failed")) == {"listed": 1, "skipped": 1}
    warehouse.delete("later.jpg")
    assert counts(warehouse.run("images", "--retry_failed")) == {"listed": 1, "failed": 1}
    assert counts(warehouse.run("images", "--retry_failed")) == {}  # what is gone is given up


@pytest.mark.parametrize("moment", ["while it embeds", "when its rows are loaded", "when they are published"])
def test_a_run_that_is_killed_is_finished_by_the_next(copy_after, moment):
    warehouse = copy_after(changes_copies_and_failures)
    server, hold, loaded, published = {
        # Of 21 images to embed the last are not read yet. Four are read at once and four are a batch: one is done.
        "while it embeds": ("STORAGE", Hold("^GET .*photos.*alt=media", passing=16), 0, 1),
        # The gate looks at what was loaded.
        "when its rows are loaded": ("BIGQUERY", Hold("^POST .*COUNTIF"), 20, 1),
        "when they are published": ("BIGQUERY", Hold("^DELETE .*_staging_"), 20, 2),
    }[moment]
    with warehouse.held(server, hold) as through:
        killed = warehouse.start("images", "--prune", "--run_id=night", "--batch_size=4", env=through)
        wait_until_held(hold, killed)
        (staging,) = [table for table in warehouse.tables() if re.search("_staging_[0-9a-f]+$", table)]
        assert len(warehouse.query(f"SELECT key FROM {staging}")) == loaded
        assert len(warehouse.query("SELECT run_id FROM images_runs")) == published
        assert killed.poll() is None
        killed.kill()
        killed.communicate()

    warehouse.run("images", "--prune", "--run_id=night")
    rows = warehouse.rows("images")
    assert "50.jpg" not in rows and "51.jpg" not in rows
    check_equal(rows, warehouse.rows("scratch"))
    assert len(warehouse.query("SELECT run_id FROM images_runs")) == 2
    assert len(warehouse.query("SELECT key FROM images_failures WHERE run_id = 'night'")) == 1
    assert [blob.name for blob in warehouse.temp.list_blobs()] == []


def test_two_runs_at_once(copy_after):
    warehouse = copy_after(changes_copies_and_failures)
    holds = [Hold("BEGIN TRANSACTION") for _ in range(2)]
    with contextlib.ExitStack() as proxies:
        both = [
            warehouse.start(
                "images", "--prune", f"--run_id=run-{i}", env=proxies.enter_context(warehouse.held("BIGQUERY", hold))
            )
            for i, hold in enumerate(holds)
        ]
        for hold, run in zip(holds, both, strict=True):
            wait_until_held(hold, run)
        # Both have read the ledger and loaded the rows that both want to publish, and neither has published them.
        assert [run.poll() for run in both] == [None, None]
        assert len(warehouse.query("SELECT run_id FROM images_runs")) == 1
        for hold in holds:
            hold.released.set()
        for run in both:
            _, stderr = run.communicate(400)
            assert run.returncode == 0, stderr
    check_equal(warehouse.rows("images"), warehouse.rows("scratch"))
    assert len(warehouse.query("SELECT run_id FROM images_runs")) == 3
