"""The suite over a few photographs: which runs count, and the results that it writes. No test asserts a time."""

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks import contenders, machine, memory, photographs, rounds, suite, table
from benchmarks.peers import contract

pytestmark = pytest.mark.slow

IMAGES = 40  # two batches, so that there is a steady state


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def results(cache):
    path = cache / "results.json"
    flags = ["--images", str(IMAGES), "--runs", "1", "--models", "efficientnet_lite0", "--only", "ours", "plain"]
    assert suite.main([*flags, "--cache", str(cache), "--json", str(path)]) == 0
    return json.loads(path.read_text())


def test_both_embed_every_photograph_and_agree(results):
    (model,) = results["models"]
    assert (model["name"], model["images"], model["runs"]) == ("efficientnet_lite0", IMAGES, 1)
    ours, plain = model["contenders"]
    assert (ours["kind"], plain["kind"]) == ("ours", "peer")
    for (run,) in (ours["runs"], plain["runs"]):
        assert run["error"] is None
        assert run["whole_job"] == pytest.approx(IMAGES / run["seconds"])
        assert run["steady_state"] > 0 and run["first_batch"] < run["seconds"]
        assert run["cosine"][0] > 0.99


def test_the_table_names_machine_and_versions(results):
    text = table.text(results)
    for expected in (results["machine"]["cpu"], results["commit"], "tensorflow 2.", f"{IMAGES} photographs"):
        assert expected in text
    rows = {line.split()[0]: line for line in text.splitlines() if line.startswith(("ours ", "plain "))}
    assert rows.keys() == {"ours", "plain"}
    assert "1.00" in rows["plain"]  # the fastest peer, being the only one


def _script(tmp_path, body):
    """Returns the command of a contender of two images, `0.jpg` and `1.jpg`, that does as `body` says."""
    path = tmp_path / "contender.py"
    path.write_text(
        "import sys; from pathlib import Path; import numpy as np; from benchmarks.peers import contract\n"
        f"output = Path({str(tmp_path / 'output')!r})\n{body}\n"
    )
    return [sys.executable, "-c", f"import runpy, sys; sys.path.insert(0, '.'); runpy.run_path({str(path)!r})"]


BATCHES = "contract.record(output, 1.0, 2.0, 1); contract.record(output, 2.0, 3.0, 1)\n"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("sys.exit('no such model')", "exit code 1: no such model"),
        ("contract.save(output, ['0.jpg', '1.jpg'], [np.eye(2)])", "batches.jsonl"),
        (BATCHES + "contract.save(output, ['0.jpg'], [np.eye(2)[:1]])", "1 vectors, expected 2"),
        (BATCHES + "contract.save(output, ['0.jpg', '0.jpg'], [np.eye(2)])", "expected one vector a file"),
        (BATCHES + "contract.save(output, ['0.jpg', '2.jpg'], [np.eye(2)])", "no vector of '1.jpg'"),
        (BATCHES + "contract.save(output, ['0.jpg', '1.jpg'], [np.eye(2) * np.nan])", "NaN"),
        (BATCHES + "contract.save(output, ['1.jpg', '0.jpg'], [np.eye(2)])", "a median cosine of 0.0000"),
        ("contract.record(output, 1.0, 2.0, 1); contract.save(output, ['0.jpg', '1.jpg'], [np.eye(2)])", "of 1 images"),
    ],
)
def test_a_contender_that_does_other_work_does_not_count(tmp_path, body, error):
    reference = dict(zip(("0.jpg", "1.jpg"), np.eye(2), strict=True))
    run = rounds.run(_script(tmp_path, body), {}, tmp_path / "output", 2, True, reference)
    assert error in run.error
    assert run.whole_job is run.steady_state is None


def test_a_contender_that_does_the_work_counts(tmp_path):
    reference = dict(zip(("0.jpg", "1.jpg"), np.eye(2), strict=True))
    body = BATCHES + "contract.save(output, ['0.jpg', '1.jpg'], [np.eye(2) * 2])"
    run = rounds.run(_script(tmp_path, body), {}, tmp_path / "output", 2, True, reference)
    assert run.error is None and run.cosine == (1.0, 1.0) and run.steady_state == 1.0


def test_a_contender_that_does_not_end_is_killed(tmp_path):
    run = rounds.run(_script(tmp_path, "import time; time.sleep(600)"), {}, tmp_path / "output", 2, True, {}, timeout=1)
    assert run.error == "not done after 1 s" and run.seconds < 600


@pytest.mark.parametrize("bfloat16", [True, False])
def test_bfloat16_is_measured_where_the_processor_has_it(monkeypatch, bfloat16):
    monkeypatch.setattr(machine, "has_bfloat16", lambda: bfloat16)
    available = contenders.available()
    ours = {one.name: one.flags for one in available if one.kind == contenders.OURS}
    in_bfloat16 = {"ours-bfloat16": ("--precision", "bfloat16")} if bfloat16 else {}
    assert ours == {"ours": (), "ours-first": ()} | in_bfloat16
    names = {one.name for one in available}
    assert len(names) == len(available) and {one.roof for one in available if one.kind != contenders.ROOF} <= names


def test_photographs_are_the_same_again_and_different_from_each_other():
    assert photographs.encoded(7) == photographs.encoded(7) != photographs.encoded(8)
    sizes = [Image.open(io.BytesIO(photographs.encoded(number))).size for number in range(3)]
    assert sizes == [(640, 480), (640, 480), (1600, 1200)]


def test_a_comment_changes_the_bytes_and_no_pixel():
    original = photographs.encoded(0)
    commented = photographs.with_comment(original, b"1")
    assert commented != original
    assert np.array_equal(*(np.asarray(Image.open(io.BytesIO(jpeg))) for jpeg in (original, commented)))


def test_memory_is_measured_over_different_images(monkeypatch):
    monkeypatch.setattr(memory, "_PICTURES", 2)
    (run,) = memory.by_images([5])  # fails if one of them counts as a duplicate
    assert run["images"] == 5 and run["peak_mib"] > 100


def test_the_ratio_of_memory_is_of_the_runs_that_differ_in_images_alone():
    runs = [{"images": 1000, "peak_mib": 10.0}, {"images": 20_000, "peak_mib": 12.0}]
    assert memory.ratio([*runs, {"images": 1000, "batch_size": 1, "peak_mib": 5.0}]) == 1.2
    assert memory.ratio(runs[:1]) is None


def test_several_writers_record_batches_at_once(tmp_path):
    with contract.batch(tmp_path, 2), contract.batch(tmp_path, 1):
        pass
    assert len((tmp_path / contract.BATCHES).read_text().splitlines()) == 2
