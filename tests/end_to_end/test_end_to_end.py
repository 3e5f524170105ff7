"""The command on real files: every way in, every runner at hand, and what a person sees."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.commands.verify.verify import verify
from pipeline.flags import options
from tests.helpers import data_generation as data
from tests.helpers.emulators import environment, storage_emulator
from tests.helpers.running import ROOT, Run, read_rows, run_pipeline, run_refused
from transforms.models.spec import ModelFields
from transforms.output import schema

pytestmark = pytest.mark.slow

SAMPLES = sorted(Path(options.SAMPLES).parent.iterdir())


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> Run:
    """The sample images, by the command's defaults."""
    return run_pipeline(tmp_path_factory.mktemp("samples") / "out", "--run_id", "first", fresh=True)


def test_every_sample_gets_a_vector(samples):
    assert samples.code == 0, samples.stderr
    assert samples.counts == {"listed": len(SAMPLES), "embedded": len(SAMPLES)}
    assert sorted(samples.vectors()) == [os.fsencode(path) for path in SAMPLES]
    assert {row["model/digest"] for row in samples.rows} == {samples.report["model"]["digest"].encode()}
    recorded = {Path(row["image/key"].decode()).name: row for row in samples.rows}
    rotated = recorded["rocket_exif_rotated.jpg"]
    assert (rotated["image/width"], rotated["image/height"]) == (338, 320)  # as stored
    assert recorded["retina.avif"]["image/format"] == b"avif"


@pytest.mark.parametrize(
    ("name", "sibling"),
    [
        ("cat_animated.webp", "cat.jpg"),
        ("coffee_cmyk.jpg", "coffee.jpg"),
        ("gravel_16bit.png", "gravel.png"),
        ("rocket_exif_rotated.jpg", "rocket.jpg"),
    ],
)
def test_what_a_naive_decoder_gets_wrong_is_nearest_to_its_plain_sibling(samples, name, sibling):
    vectors = {Path(key.decode()).name: vector for key, vector in samples.vectors().items()}
    own = vectors.pop(name)
    assert max(vectors, key=lambda other: cosine(own, vectors[other])) == sibling
    assert cosine(own, vectors[sibling]) > 0.7


def test_what_lies_in_the_output(samples):
    shards = samples.report["shards"]
    assert sorted(str(p.relative_to(samples.output)) for p in samples.output.rglob("*") if p.is_file()) == [
        *(f"embeddings/first/part-{i:05d}-of-{shards:05d}.tfrecord" for i in range(shards)),
        "runs/first.html",
        "runs/first.json",
        "runs/first.statistics",
        "schema.pbtxt",
    ]


def test_what_a_person_sees(samples):
    assert samples.stderr == ""  # no terminal, under 30 s: no progress, and no library's noise
    assert f"{len(SAMPLES)} images listed = {len(SAMPLES)} embedded + 0 failed" in samples.stdout
    assert "tf.data.TFRecordDataset" in samples.stdout


def test_the_snippet_of_the_summary_reads_the_vectors(samples):
    snippet = samples.stdout.split("Read them:")[1]
    code = "import tensorflow as tf\n" + "\n".join(line.strip() for line in snippet.splitlines())
    code += "\nprint(len(list(table)), next(iter(table))['embedding'].shape)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(len(SAMPLES)), "(1280,)"]


def test_a_run_that_is_complete_needs_overwrite_to_be_another(samples, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(samples.output, output)
    stale = output / "embeddings" / "first" / "part-00007-of-00009.tfrecord"
    stale.write_bytes(b"of an older run")
    one = ["--input", SAMPLES[0], "--run_id", "first"]
    refused = run_refused(output, *one)
    assert refused.code == 2
    assert refused.stderr == (
        "run_pipeline.py: --run_id 'first' is of a complete run with other inputs or another model: "
        "give another, or --overwrite to replace it\n"
    )
    assert stale.exists()
    replaced = run_pipeline(output, *one, "--overwrite")
    assert replaced.counts == {"listed": 1, "embedded": 1}
    assert len(replaced.rows) == 1 and not stale.exists()


def test_a_run_that_is_complete_in_another_format(samples):
    refused = run_refused(samples.output, "--run_id", "first", "--output_format=parquet", "--vector_type=float16")
    assert refused.code == 2
    assert refused.stderr == (
        "run_pipeline.py: --run_id 'first' is of a complete run with --output_format tfrecord --vector_type float32: "
        "give another, or --overwrite to replace it\n"
    )


def test_runs_of_each_format_know_what_the_others_embedded(tmp_path):
    """Images that an earlier run has embedded are skipped, and equal bytes get its vector, whatever its format."""
    photos, output = tmp_path / "photos", tmp_path / "out"
    formats = ["tfrecord", "parquet", "tfrecord,parquet", "tfrecord"]
    for i, output_format in enumerate(formats):
        data.write_images(photos, 3, start=3 * i, height=24, width=32)
        if i:
            shutil.copy(photos / "00000.jpg", photos / f"copy-{i}.jpg")
        flags = "--input", photos, "--run_id", i, "--output_format", output_format
        assert run_pipeline(output, *flags).code == 0
        report = json.loads((output / "runs" / f"{i}.json").read_text())
        counts = {name: count for name, count in report["counts"].items() if count}
        expected = {"listed": 3 * i + 3 + i, "embedded": 3, "skipped": 3 * i + max(0, i - 1), "reused": int(i > 0)}
        assert counts == {name: count for name, count in expected.items() if count}
    copies = {row["image/key"]: row for row in read_rows(output) if b"/copy-" in row["image/key"]}
    (original,) = (row for row in read_rows(output, "0") if row["image/key"].endswith(b"/00000.jpg"))
    assert len(copies) == 3
    for row in copies.values():
        np.testing.assert_array_equal(row["embedding"], original["embedding"])
    assert verify(str(output)).total == 0
    # For a run in float32, vectors in float16 are none. A run in float16 takes those in float32.
    narrow = "--output_format=parquet", "--vector_type=float16"
    run = run_pipeline(tmp_path / "narrow", "--input", photos, "--run_id=16", *narrow)
    assert run.counts == {"listed": 15, "embedded": 12, "duplicate": 3}
    run_pipeline(tmp_path / "narrow", "--input", photos, "--run_id=32")
    wide = json.loads((tmp_path / "narrow" / "runs" / "32.json").read_text())["counts"]
    assert (wide["embedded"], wide["duplicate"], wide["skipped"]) == (12, 3, 0)
    run_pipeline(output, "--input", photos, "--run_id=16", *narrow)
    assert json.loads((output / "runs" / "16.json").read_text())["counts"]["skipped"] == 15


@pytest.mark.parametrize("output_format", ["tfrecord", "tfrecord,parquet"])
def test_records_in_float16(samples, tmp_path, output_format):
    flags = "--vector_type=float16", "--output_format", output_format
    run = run_pipeline(tmp_path, "--input", SAMPLES[0].parent, "--run_id=r", *flags)
    assert run.report["recall"] == {"at_10": pytest.approx(1, abs=0.1), "vectors": samples.counts["embedded"]}
    for suffix in output_format.split(","):
        rows = {row["image/key"]: row for row in read_rows(tmp_path, "r", suffix)}
        assert rows.keys() == samples.vectors().keys()
        name = "embedding/float16" if suffix == "tfrecord" else "embedding"
        assert all(cosine(row[name], samples.vectors()[key]) > 0.9999 for key, row in rows.items())
    assert verify(str(tmp_path)).total == 0
    snippet = textwrap.dedent(run.stdout.split("Read them:")[1])
    code = f"import tensorflow as tf\n{snippet}\nprint(next(iter(vectors)).numpy().shape)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(1280,)\n"
    assert run_pipeline(tmp_path, "--input", SAMPLES[0].parent, "--run_id=again", *flags).code == 0
    counts = json.loads((tmp_path / "runs/again.json").read_text())["counts"]
    assert counts["skipped"] == counts["listed"] == len(SAMPLES)


def test_parquet_files_replace_tfrecords_of_a_run(tmp_path):
    flags = "--input", SAMPLES[0], "--run_id=r"
    assert run_pipeline(tmp_path, *flags).code == 0
    run = run_pipeline(tmp_path, *flags, "--overwrite", "--output_format=parquet")
    assert [path.name for path in tmp_path.glob("embeddings/r/*")] == ["part-00000-of-00001.parquet"]
    snippet = run.stdout.split("Read them:")[1].strip()
    code = f"import pandas\n{snippet}\nprint(table.shape, table['embedding'][0].shape)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(1, 2) (1280,)\n"


def test_a_run_that_is_complete_is_left_as_it_is(samples):
    before = written(samples.output)
    again = run_pipeline(samples.output, "--run_id", "first")
    assert again.code == 0 and again.stdout.startswith("the run 'first' is complete, nothing was done:\n")
    speed = re.compile("  speed     .*\n")  # it is told until all was written, and not until the prompt came back
    assert speed.sub("", samples.stdout) in speed.sub("", again.stdout)
    assert written(samples.output) == before


def written(directory):
    """Returns what changes with a write below a directory: files and directories, and when they were written."""
    found = {path: path.stat() for path in directory.rglob("*")}
    return {path: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}


def test_a_run_that_was_killed_is_done_anew(samples, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(samples.output, output)
    (output / "runs" / "first.json").unlink()
    (output / "embeddings" / "first" / ".parts").mkdir()
    (output / "embeddings" / "first" / ".parts" / "x.tfrecord").write_bytes(b"half a reco")
    anew = run_pipeline(output, "--run_id", "first")
    check_equal_to(samples, anew)
    assert not list(output.rglob(".parts"))


def test_a_second_run_embeds_what_is_new(tmp_path):
    photos = tmp_path / "photos"
    data.write_images(photos, 6, height=60, width=80)
    first = run_pipeline(tmp_path / "out", "--input", photos, "--run_id", "1")
    assert first.counts == {"listed": 6, "embedded": 6}
    data.write_images(photos, 1, start=6, height=60, width=80)  # new
    data.write_images(photos, 1, height=80, width=60)  # changed
    (photos / "00001.jpg").rename(photos / "renamed.jpg")
    shutil.copy(photos / "00002.jpg", photos / "copied.jpg")
    shutil.copy(photos / "00006.jpg", photos / "twin.jpg")
    second = run_pipeline(tmp_path / "out", "--input", photos, "--run_id", "2")
    report = json.loads((tmp_path / "out" / "runs" / "2.json").read_text())
    assert {name: count for name, count in report["counts"].items() if count} == {
        "listed": 9,
        "embedded": 2,
        "reused": 2,
        "duplicate": 1,
        "skipped": 4,
    }
    assert "9 images listed = 2 embedded + 0 failed + 2 reused + 1 duplicate + 4 skipped" in second.stdout
    vectors = {Path(key.decode()).name: vector for key, vector in second.vectors().items()}
    scratch = run_pipeline(tmp_path / "scratch", "--input", photos)
    assert scratch.counts == {"listed": 9, "embedded": 7, "duplicate": 2}
    for key, vector in scratch.vectors().items():
        assert cosine(vectors[Path(key.decode()).name], vector) > 0.999999


def test_a_thousand_photographs_with_ten_broken_ones(tmp_path):
    photos = tmp_path / "photos"
    data.write_images(photos, 990, height=60, width=80)
    for name, (content, _) in data.broken_images().items():
        (photos / name).write_bytes(content)
    run = run_pipeline(tmp_path / "out", "--input", photos)
    assert run.code == 0, run.stderr
    assert run.counts == {"listed": 1000, "embedded": 990, "failed": 10}
    assert len(run.rows) == len(run.vectors()) == 990
    assert {(Path(f["key"]).name, f["stage"], f["error"], f["retryable"]) for f in run.failures} == {
        (name, "decode", error, False) for name, (_, error) in data.broken_images().items()
    }
    assert run.report["failures"]["decode"]["UnknownFormat"] == 4
    # Each vector belongs to its key: embedded again alone, in another batch, it is the same.
    chosen = sorted(run.vectors())[::99]
    (tmp_path / "list.txt").write_bytes(b"\n".join(chosen))
    again = run_pipeline(tmp_path / "again", "--input", tmp_path / "list.txt", "--input_format", "list")
    assert sorted(again.vectors()) == chosen
    for key, vector in again.vectors().items():
        assert cosine(vector, run.vectors()[key]) > 0.999999  # float32, in batches of other sizes


def test_the_key_of_a_record_has_no_file_read(tmp_path):
    """A failure of an image in a shard may be retryable, and its key may name a file that nobody listed."""
    output, secret, listed = tmp_path / "out", tmp_path / "secret.jpg", tmp_path / "photos" / "a.jpg"
    shard = data.write_tfrecords(tmp_path / "shard", [data.image_example(b"broken", bytes(secret))])
    listed.parent.mkdir()
    listed.write_bytes(b"broken")
    assert run_pipeline(output, "--input", shard, "--input_format", "tfrecord").code == 1  # all of them failed
    assert run_pipeline(output, "--input", listed).code == 1
    for path in output.glob("failures/*/*.jsonl"):
        path.write_text(path.read_text().replace('"retryable": false', '"retryable": true'))
    for image in (secret, listed):
        image.write_bytes(data.jpeg(1, 24, 32))
    assert run_pipeline(output, "--retry_failed").code == 0
    assert [row["image/key"] for row in read_rows(output)] == [bytes(listed)]


def test_every_way_in_gives_the_same_vectors(tmp_path):
    paths = data.write_images(tmp_path / "photos", 12)
    contents = [path.read_bytes() for path in paths]
    inputs = {
        "images": tmp_path / "photos",
        "list": tmp_path / "list.csv",
        "tar": tmp_path / "shard-*.tar",
        "tfrecord": tmp_path / "shard-*.tfrecord",
    }
    inputs["list"].write_text("label,uri\n" + "".join(f"x,photos/{path.name}\n" for path in paths))
    data.write_tar(
        tmp_path / "shard-0.tar", {p.name: c for p, c in zip(paths[:5], contents[:5], strict=True)} | {"0.json": b"{}"}
    )
    data.write_tar(tmp_path / "shard-1.tar", {p.name: c for p, c in zip(paths[5:], contents[5:], strict=True)}, "w:gz")
    data.write_tfrecords(tmp_path / "shard-0.tfrecord", [data.image_example(content) for content in contents])
    tables = {}
    for input_format, pattern in inputs.items():
        run = run_pipeline(tmp_path / input_format, "--input", pattern, "--input_format", input_format)
        assert (run.code, run.counts) == (0, {"listed": 12, "embedded": 12}), run.stderr
        tables[input_format] = {row["image/sha256"]: row["embedding"] for row in run.rows}
    for table in tables.values():
        assert table.keys() == tables["images"].keys() and len(table) == 12
        for sha256, vector in table.items():
            assert cosine(vector, tables["images"][sha256]) > 0.999999


@pytest.mark.parametrize(
    "flags",
    [
        ["--direct_num_workers=1", "--direct_running_mode=in_memory"],
        ["--direct_num_workers=3", "--direct_running_mode=multi_threading"],
        ["--direct_num_workers=2", "--direct_running_mode=multi_processing"],
    ],
    ids=["one thread", "multi_threading", "multi_processing"],
)
def test_runners_of_this_machine(samples, tmp_path, flags):
    check_equal_to(samples, run_pipeline(tmp_path / "out", *flags, fresh=True))


def test_prism_gives_what_the_local_runner_gives(samples, tmp_path):
    prism = os.environ.get("PRISM") or shutil.which("prism")
    if not prism:
        pytest.skip("no Prism: put its binary on the PATH or name it in the variable PRISM (CONTRIBUTING.md)")
    check_equal_to(
        samples, run_pipeline(tmp_path / "out", "--runner=PrismRunner", f"--prism_location={prism}", fresh=True)
    )


def check_equal_to(samples, run):
    assert run.code == 0, run.stderr
    assert run.counts == samples.counts
    expected = samples.vectors()
    assert run.vectors().keys() == expected.keys()
    for key, vector in run.vectors().items():
        assert cosine(vector, expected[key]) > 0.999999


def test_a_bucket_in_and_out(tmp_path, samples):
    (tmp_path / "server").mkdir()
    with storage_emulator(tmp_path / "server") as found:
        code = (
            "import sys; from pathlib import Path; from google.cloud import storage; client = storage.Client()\n"
            "bucket = client.create_bucket('photos'); client.create_bucket('vectors')\n"
            "for path in sys.argv[1:]: bucket.blob('in/' + Path(path).name).upload_from_filename(path)\n"
        )
        chosen = [path for path in SAMPLES if path.stem in ("cat", "coffee_cmyk", "gravel_16bit")]
        subprocess.run([sys.executable, "-c", code, *chosen], env=environment(found), check=True)
        flags = ["--input", "gs://photos/in/", "--run_id", "r"]
        run = run_pipeline("gs://vectors/out", *flags, env=environment(found))
        assert run.code == 0, run.stderr
        again = run_pipeline("gs://vectors/out", *flags, env=environment(found))
        assert again.code == 0 and "is complete, nothing was done" in again.stdout
        nothing = run_pipeline("gs://vectors/out", "--input", "gs://photos/none/*", env=environment(found))
        assert nothing.code == 2 and "matches nothing" in nothing.stderr
    run.output = tmp_path / "server" / ".cloudstorage" / "vectors" / "out"
    assert run.counts == {"listed": 3, "embedded": 3}
    assert not list(run.output.rglob(".parts/*"))
    expected = {Path(key.decode()).name: vector for key, vector in samples.vectors().items()}
    for key, vector in run.vectors().items():
        assert key.startswith(b"gs://photos/in/")
        assert cosine(vector, expected[Path(key.decode()).name]) > 0.999999


def test_failure_rate(tmp_path):
    photos = tmp_path / "photos"
    data.write_images(photos, 8)
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "text.jpg").write_bytes(b"text")
    flags = ["--input", photos, "--max_failure_rate"]
    allowed = run_pipeline(tmp_path / "allowed", *flags, "0.2")
    assert (allowed.code, allowed.counts) == (0, {"listed": 10, "embedded": 8, "failed": 2})
    exceeded = run_pipeline(tmp_path / "exceeded", *flags, "0.19")
    assert exceeded.code == 1
    assert exceeded.stderr == "run_pipeline.py: 2 of 10 images failed, 20.00%: more than --max_failure_rate 19.00%\n"
    assert len(exceeded.rows) == 8 and len(exceeded.failures) == 2  # kept
    assert "10 images listed = 8 embedded + 2 failed" in exceeded.stdout


def test_only_broken_images(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    run = run_pipeline(tmp_path / "out", "--input", tmp_path / "*.jpg")
    assert (run.code, run.counts, run.rows) == (1, {"listed": 1, "failed": 1}, [])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--model", "resnet"],
            "model='resnet': no such directory, archive or hub handle, and none of the names efficientnet_lite0",
        ),
        (["--input", "nowhere/*.jpg"], "matches nothing: expected at least one file"),
        (["--batch_size", "0"], "argument --batch_size: '0': expected a whole number from 1"),
        (
            ["--bacth_size", "8"],
            "'--bacth_size' is neither a flag of this command nor of Beam; did you mean --batch_size?",
        ),
        (["--input", "nowhere://x/*"], "cannot be listed"),
    ],
    ids=["model", "nothing matched", "value", "flag", "filesystem"],
)
def test_what_is_wrong_is_said_in_one_line_before_any_work(tmp_path, flags, said):
    run = run_refused(tmp_path / "out", *flags)
    assert run.code == 2
    assert run.stdout == "" and run.stderr.startswith("run_pipeline.py: ") and run.stderr.count("\n") == 1
    assert said in run.stderr
    assert not list((tmp_path / "out").glob("**/*")) if (tmp_path / "out").exists() else True


def test_an_output_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    run = run_refused(tmp_path / "file" / "out")
    assert run.code == 2
    assert re.fullmatch(
        r"run_pipeline\.py: --output '.*/file/out' cannot be written: .*Not a directory.*\n", run.stderr
    )


def test_an_output_inside_the_input(tmp_path):
    data.write_images(tmp_path / "photos", 1)
    run = run_refused(tmp_path / "photos" / "out", "--input", tmp_path / "photos")
    assert run.code == 2 and "lies within --input" in run.stderr


def test_an_output_with_vectors_of_another_dimension(tmp_path):
    schema.write(str(tmp_path / "out"), ModelFields("m", "d", 7))
    run = run_refused(tmp_path / "out")
    assert (
        run.code == 2
        and "holds vectors of 7 dimensions and model" in run.stderr
        and "give each its own --output" in run.stderr
    )


def test_a_job_that_fails_says_so_in_one_line_and_keeps_the_log(tmp_path):
    flags = ["--runner=PortableRunner", "--job_endpoint=localhost:1", "--environment_type=LOOPBACK"]
    run = run_pipeline(tmp_path / "out", *flags, "--job_server_timeout=2", fresh=True)
    assert run.code == 1
    said = re.fullmatch(r"run_pipeline\.py: the job failed: .+; all that was logged: (\S+)\n", run.stderr)
    assert said, run.stderr
    log = Path(said[1])
    assert "Traceback" in log.read_text()
    log.unlink()


@pytest.mark.parametrize("threads", [1, 2])  # one: Beam runs every bundle in the thread that is interrupted
def test_an_interruption_ends_at_once_and_leaves_nothing_under_a_final_name(tmp_path, threads):
    data.write_images(tmp_path / "photos", 1500, height=60, width=80)
    command = [sys.executable, "run_pipeline.py", "--input", tmp_path / "photos", "--output", tmp_path / "out"]
    command += ["--direct_num_workers", str(threads)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("out/embeddings/*/.parts/*")):  # until vectors are being written
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (130, "")
    assert re.fullmatch(r"\nrun_pipeline\.py: interrupted: .*; to go on: \S+ run_pipeline\.py .*\n", stderr), stderr
    assert not list(tmp_path.glob("out/embeddings/*/part-*")) and not list(tmp_path.glob("out/runs/*.json"))


def test_live_progress_on_a_terminal(tmp_path):
    data.write_images(tmp_path / "photos", 200, height=60, width=80)
    terminal, worker_side = pty.openpty()
    command = [sys.executable, "run_pipeline.py", "--input", tmp_path / "photos", "--output", tmp_path / "out"]
    process = subprocess.Popen([*command, "--batch_size=4"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=worker_side)
    os.close(worker_side)
    seen = b""
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # how a pseudo-terminal says that the other side is closed
            break
        if not chunk:
            break
        seen += chunk
    os.close(terminal)
    assert process.wait(60) == 0
    text = seen.decode()
    assert "starting" in text
    assert re.search(r"\d+ of 200 images", text), text
    assert text.endswith("\r\x1b[K")


def test_help_is_quick():
    """Nothing is imported for it that takes long."""
    command = [sys.executable, "-X", "importtime", "run_pipeline.py", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "--input PATTERN" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "pipeline.flags.options" in imported
    assert not {"apache_beam", "tensorflow", "openvino", "google.cloud.storage"} & imported
