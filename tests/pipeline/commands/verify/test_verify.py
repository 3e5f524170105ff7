"""pipeline.commands.verify: a clean run passes, and nothing that is done to a run's files goes unnoticed."""

import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import launch
from pipeline.commands.listed_images import ListedImages
from pipeline.commands.verify import verify as command
from pipeline.commands.verify.verify import verify
from tests.helpers import data_generation as data
from tests.helpers import killing, outputs, tiny_module
from tests.helpers.outputs import embedding, failure
from tests.helpers.running import ROOT

MODEL_FLAGS = "--image_size=8x8", "--max_pixels=4096"


def embed(*flags: object) -> int:
    """Runs the job in this process, and returns its exit code."""
    return launch.main([str(flag) for flag in flags])


def write_photos(directory: Path, *seeds: int) -> Path:
    directory.mkdir(exist_ok=True)
    for seed in seeds:
        (directory / f"{seed}.png").write_bytes(data.encoded(data.photograph(seed, 8, 8), "PNG"))
    return directory


def files(output: Path) -> list[Path]:
    return sorted(path for path in output.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory) -> Path:
    return tiny_module.write(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module", params=["tfrecord", "parquet"])
def small(tmp_path_factory, tiny_model, request) -> Path:
    """The output `out` of a run over three images, a copy and a broken one in `photos`: files of some hundred bytes."""
    directory = tmp_path_factory.mktemp("small")
    photos = write_photos(directory / "photos", 0, 1, 2)
    shutil.copy(photos / "0.png", photos / "copy.png")
    (photos / "broken.png").write_bytes(b"text")
    flags = "--input", photos, "--output", directory / "out", "--output_format", request.param, "--run_id=r"
    # One thread writes one file of vectors, and another one the copy.
    assert embed(*flags, "--model", tiny_model, "--direct_num_workers=1", *MODEL_FLAGS) == 0
    return directory


# The promise: any byte, any file.


@pytest.mark.slow
def test_each_flipped_byte_is_noticed(small, tmp_path):
    output = shutil.copytree(small / "out", tmp_path / "out")
    assert verify(str(output)).total == 0
    draw = random.Random(0)
    unnoticed, flipped = [], 0
    for path in files(output):
        content = path.read_bytes()
        # Verifying a Parquet file takes 5 ms, so of its thousands of bytes each seventh is changed, and all of its end.
        # One digest is of all bytes of a page, and one of its statistics, which have many.
        step = {".parquet": 7, ".html": 499, ".statistics": 499}.get(path.suffix, 1)
        for position in sorted({*range(0, len(content), step), *range(max(0, len(content) - 600), len(content))}):
            change = draw.choice([1 << draw.randrange(8), draw.randrange(1, 256)])  # a bit, or several
            path.write_bytes(content[:position] + bytes([content[position] ^ change]) + content[position + 1 :])
            flipped += 1
            if not verify(str(output)).total:
                unnoticed.append((path.name, position, change))
        path.write_bytes(content)
    assert unnoticed == [] and flipped > 5_000
    assert verify(str(output)).total == 0


@pytest.mark.slow
def test_each_deleted_file_is_noticed(small, tmp_path):
    output = shutil.copytree(small / "out", tmp_path / "out")
    for path in files(output):
        content = path.read_bytes()
        path.unlink()
        assert verify(str(output)).total and verify(str(output), run_id="r").total, path
        path.write_bytes(content)
    assert verify(str(output)).total == 0


@pytest.mark.slow
def test_each_cut_doubled_or_copied_file_is_noticed(small, tmp_path):
    output = shutil.copytree(small / "out", tmp_path / "out")
    for path in files(output):
        content = path.read_bytes()
        for size in range(0, len(content), 7):
            path.write_bytes(content[:size])
            assert verify(str(output)).total, (path, size)
        path.write_bytes(content + content)
        assert verify(str(output)).total, path
        path.write_bytes(content)
        if path.name != "schema.pbtxt":
            copy = shutil.copy(path, path.with_name(f"copy-of-{path.name}"))
            assert verify(str(output)).total, copy
            Path(copy).unlink()


# Clean runs.


@pytest.mark.slow
def test_runs_with_every_outcome_are_clean(small, tiny_model, tmp_path, capsys):
    photos = shutil.copytree(small / "photos", tmp_path / "photos")
    flags = "--input", photos, "--output", tmp_path / "out", "--model", tiny_model, *MODEL_FLAGS
    assert embed(*flags, "--run_id=1") == 0
    write_photos(photos, 3)
    for name, copy in (("1", "reused"), ("3", "twin")):
        shutil.copy(photos / f"{name}.png", photos / f"{copy}.png")
    assert embed(*flags, "--run_id=2") == 0
    counts = json.loads((tmp_path / "out" / "runs" / "2.json").read_text())["counts"]
    assert counts == {"listed": 8, "embedded": 1, "reused": 1, "duplicate": 1, "failed": 1, "skipped": 4}
    capsys.readouterr()
    argv = [f"--output={tmp_path / 'out'}", f"--input={photos}", "--sample=3"]
    assert command.main(argv) == 0
    text = capsys.readouterr().out
    assert "2: report: its checksum, and 8 images listed = 1 embedded + 1 reused + 1 duplicate + 1 failed + 4" in text
    assert "input: 8 images listed now, each with a record or a failure" in text
    assert "sample: 3 images (seed 0), read, decoded and embedded now, give the recorded" in text
    assert text.endswith("\nnothing is wrong\n") and "note:" not in text
    assert command.main([*argv, "--run_id=2"]) == 0
    (photos / "lost.png").write_bytes(b"never listed")
    assert command.main([*argv, "--run_id=2"]) == 1
    assert f"no record and no failure (1)\n  {photos / 'lost.png'}\n" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_over_shards_is_clean(tiny_model, tmp_path):
    image = data.encoded(data.photograph(5, 8, 8), "PNG")
    members = {"a.png": image, "b.png": image, "broken.png": b"text"}
    data.write_tar(tmp_path / "images.tar", members | {"c.png": data.encoded(data.photograph(6, 8, 8), "PNG")})
    flags = f"--input={tmp_path / 'images.tar'}", "--input_format=tar"
    assert embed(*flags, "--output", tmp_path / "out", "--model", tiny_model, "--resize_mode=pad", *MODEL_FLAGS) == 0
    assert command.main([f"--output={tmp_path / 'out'}", *flags, "--sample=9"]) == 0


@pytest.mark.slow
def test_a_sample_is_embedded_with_the_preprocessing_of_its_run(tiny_model, tmp_path):
    data.write_tar(tmp_path / "images.tar", {"a.png": data.encoded(data.photograph(5, 8, 9), "PNG")})
    flags = f"--input={tmp_path / 'images.tar'}", "--input_format=tar", f"--output={tmp_path / 'out'}"
    own = "--pixel_range=-1..1", "--channels=bgr", "--interpolation=lanczos", "--crop_fraction=0.8", "--normalize"
    assert embed(*flags, "--model", tiny_model, *own, *MODEL_FLAGS) == 0
    assert command.main([*flags, "--sample=1"]) == 0


@pytest.mark.slow
def test_a_run_in_a_bucket_and_a_table(cloud, tiny_model, tmp_path, capsys):
    from google.cloud import bigquery, storage

    storage.Client().create_bucket("proof")
    bucket = storage.Client().bucket("proof")
    bigquery.Client(project="test").create_dataset("test.proof")
    for seed in range(3):
        content = data.encoded(data.photograph(seed, 8, 8), "PNG")
        bucket.blob(f"photos/{seed}.png").upload_from_string(content)
        bucket.blob(f"photos/{seed}-copy.png").upload_from_string(content)
    bucket.blob("photos/broken.png").upload_from_string(b"text")
    places = "--output=gs://proof/out", "--output_table=test:proof.images", "--input=gs://proof/photos/"
    model = f"--model={tiny_model}", *MODEL_FLAGS, "--temp_location=gs://proof/tmp"
    assert embed(*places, *model, "--run_id=1") == 0
    bucket.blob("photos/3.png").upload_from_string(data.encoded(data.photograph(3, 8, 8), "PNG"))
    bucket.blob("photos/2.png").upload_from_string(data.encoded(data.photograph(4, 8, 8), "PNG"))
    assert embed(*places, *model, "--run_id=2") == 0
    capsys.readouterr()
    assert command.main([*places, "--sample=4", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (note,) = (note for note in document["notes"] if note["kind"].startswith("fewer rows"))
    assert note["first"] == ["run 1: 5, expected 6"]
    assert any(check["checked"].startswith("run 2: 2 rows in the table") for check in document["checks"])
    assert command.main(["--output_table=test:proof.images"]) == 0
    assert capsys.readouterr().out.count("the run's own row") == 2
    table = bigquery.Client(project="test")
    table.query("UPDATE proof.images SET embedding = [1.0] WHERE run_id = '2'").result()
    table.query("DELETE FROM proof.images_failures WHERE run_id = '1'").result()
    assert command.main(["--output_table=test:proof.images", "--json"]) == 1
    problems = {problem["kind"]: problem["count"] for problem in json.loads(capsys.readouterr().out)["problems"]}
    assert problems == {
        "a row of another dimension": 2,
        "the number of failures in the table differs from the report's": 1,
    }
    (part,) = (blob for blob in bucket.list_blobs(prefix="out/failures/1/"))
    part.delete()
    assert command.main(["--output=gs://proof/out", "--run_id=1"]) == 1
    assert command.main(["--output=gs://no-such-bucket/out"]) == 2


# What is wrong, by hand.


def kinds(output: Path, **arguments: object) -> dict[str, int]:
    """Returns kind of problem → number."""
    return {kind: items.count for kind, items in verify(str(output), **arguments).problems.items()}


def test_one_run_of_several(tmp_path):
    output = outputs.write_run(tmp_path, [embedding(b"/a", 1)], run_id="1")
    outputs.write_run(output, [embedding(b"/b", 2)], run_id="2", skipped=1)
    (output / "runs" / "1.json").unlink()
    assert kinds(output, run_id="2") == {}
    assert kinds(output) == {"a run without a report: it is unfinished, or the report was deleted": 1}
    assert kinds(output, run_id="3") == {"a run without a report: it is unfinished, or the report was deleted": 1}


def notes(output: Path, **arguments: object) -> dict[str, list[str]]:
    """Returns kind of note → the first items."""
    return {kind: items.first for kind, items in verify(str(output), **arguments).notes.items()}


UNFINISHED = "an unfinished run"
REPLACED = "a complete run that an unfinished one is to replace, or that is not cleaned up yet"
NO_REPORT = "a run without a report: it is unfinished, or the report was deleted"


@pytest.mark.slow
def test_a_run_that_was_killed_is_a_note(tmp_path):
    photos, output = tmp_path / "photos", tmp_path / "out"
    data.write_images(photos, 200, height=60, width=80)

    before = killing.kill(output, "--input", photos, "--run_id=2", at=60)
    assert not (output / "schema.pbtxt").exists()
    assert (kinds(output), notes(output)) == ({}, {UNFINISHED: ["2"]})
    assert command.main([f"--output={output}", f"--input={photos}", "--sample=3"]) == 0
    assert NO_REPORT in kinds(output, run_id="2")

    assert embed("--input", photos / "0000?.jpg", "--output", output, "--run_id=1") == 0
    assert (kinds(output), notes(output)) == ({}, {UNFINISHED: ["2"]})
    assert kinds(output, run_id="1") == {} and NO_REPORT in kinds(output, run_id="2")

    killing.kill(output, "--input", photos, "--run_id=1", "--overwrite", at=len(before) + 60)
    assert (kinds(output), notes(output)) == ({}, {UNFINISHED: ["2"], REPLACED: ["1"]})
    assert kinds(output, run_id="1") == {}


def test_a_run_without_a_claim_has_no_parts(tmp_path):
    output = outputs.write_run(tmp_path, [embedding(b"/a", 1)], run_id="1")
    parts = output / "embeddings" / "2" / ".parts"
    parts.mkdir(parents=True)
    (parts / "x.tfrecord").write_bytes(b"half a reco")  # nobody goes on with it any more
    assert (kinds(output), notes(output)) == ({}, {UNFINISHED: ["2"]})
    (output / "embeddings" / "1" / ".parts").mkdir()
    (parts / "x.tfrecord").rename(output / "embeddings" / "1" / ".parts" / "x.tfrecord")
    assert kinds(output) == {"an unfinished file of a finished run": 1}
    (output / "runs" / "1.unfinished").write_bytes(b"{}")
    assert (kinds(output), notes(output)) == ({}, {REPLACED: ["1"]})


def test_a_run_that_was_killed_while_its_files_got_their_names(tmp_path):
    output = outputs.write_run(tmp_path, [embedding(b"/%d" % i, i) for i in range(4)], run_id="1", shards=2)
    (output / "runs" / "1.unfinished").write_bytes(b"{}")
    (output / "runs" / "1.json").rename(output / "runs" / f".1.json.{'0' * 32}")
    (output / "embeddings" / "1" / "part-00000-of-00002.tfrecord").unlink()
    being_written = "a file that a process is writing, or was when it was killed"
    assert kinds(output) == {}
    assert notes(output) == {UNFINISHED: ["1"], being_written: [f"runs/.1.json.{'0' * 32}"]}
    assert NO_REPORT in kinds(output, run_id="1")


def test_a_report_of_a_run_without_records_cannot_go_with_the_schema_left(tmp_path):
    output = outputs.write_run(tmp_path, [], [failure(b"/a")], shards=0)
    assert kinds(output) == {}
    shutil.rmtree(output / "failures")
    assert kinds(output) == {
        "a file of the report is missing": 1,
        "the number of failures differs from the report's": 1,
    }
    (output / "runs" / "r.json").unlink()
    assert kinds(output) == {"a file without a run": 1}


def test_a_hostile_output_is_reported(tmp_path):
    output = outputs.write_run(tmp_path / "out", [embedding(b"/a", 1)], [failure(b"/b")])
    shard = output / "embeddings" / "r" / "part-00000-of-00001.tfrecord"
    os.mkfifo(output / "embeddings" / "r" / "pipe.tfrecord")
    shard.unlink()
    os.mkfifo(shard)
    (output / "failures" / "r" / "part-00000-of-00001.jsonl").unlink()
    (output / "failures" / "r" / "part-00000-of-00001.jsonl").symlink_to("/dev/zero")
    (output / "runs" / "r.json").write_bytes(b"[" * 100_000)
    (output / "schema.pbtxt").unlink()
    (output / "schema.pbtxt").mkdir()
    (output / "runs" / "loop.json").symlink_to(output / "runs" / "loop.json")
    (output / "runs" / "big.json").write_bytes(b'{"run_id": ' + b"9" * 10_000 + b"}")
    (output / "embeddings" / "loop").symlink_to(output)
    (output / "embeddings" / "\n\udcff").mkdir()
    (output / "embeddings" / "\n\udcff" / "part-99999-of-99999999.tfrecord").write_bytes(b"\xff" * 40)
    (output / "embeddings" / "other").mkdir()
    (output / "embeddings" / "other" / "part-00001-of-999999999.tfrecord").write_bytes(b"\xff" * 40)
    findings = verify(str(output))
    assert findings.total and all(line.isprintable() for line in findings.text().splitlines())
    json.dumps(findings.document()).encode()
    assert {
        "a record is broken",
        "a report is broken",
        "the schema is broken",
        "a stray file",
    } <= findings.problems.keys()


# The command.


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "nothing to verify: give --output DIR or --output_table PROJECT:DATASET.TABLE"),
        (["--output_table=p1:d.t", "--sample=3"], "--sample is compared with records: give --output DIR too"),
        (["--output=x", "--input_format=tar"], "--input_format tar applies to --input: give it too"),
        (["--output=x*"], "--output 'x*': expected a directory, without the wildcards * ? ["),
        (["--output=/x", "--run_id=a/b"], "--run_id 'a/b': expected letters, digits, dots, dashes and underscores"),
        (["--output=/no/such"], "--output '/no/such' has no run: expected a directory that runs wrote to"),
        (["--output=/x", "--sample=0"], "argument --sample: '0': expected a whole number from 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_flag_is_one_line(argv, message, capfd):
    assert command.main(argv) == 2
    error = capfd.readouterr().err
    assert error.startswith(f"verify: {message}") and error.count("\n") == 1


def test_an_input_that_matches_nothing_is_one_line(tmp_path, capfd):
    output = outputs.write_run(tmp_path, [embedding(b"/a", 1)])
    assert command.main([f"--output={output}", f"--input={tmp_path}/none*"]) == 2
    assert "none*' cannot be listed: " not in (error := capfd.readouterr().err) and "matches nothing" in error


def test_the_command_for_people_and_for_programs(tmp_path, capfd):
    output = outputs.write_run(tmp_path, [embedding(b"/%d" % i, i) for i in range(30)], [failure(b"/x")], shards=3)
    assert command.main([f"--output={output}"]) == 0
    out, err = capfd.readouterr()
    assert "run r: 30 records in 3 files: checksums, features, vectors of 4 finite components, one per key" in out
    assert (out.splitlines()[-1], err) == ("nothing is wrong", "")
    (output / "embeddings" / "r" / "part-00001-of-00003.tfrecord").unlink()
    assert command.main([f"--output={output}", "--json"]) == 1
    document = json.loads(capfd.readouterr().out)
    assert not document["ok"]
    assert document["problems"] == [
        {
            "kind": "files of a run are missing",
            "count": 1,
            "first": ["embeddings/r/part-…-of-00003: 2 of 3"],
        },
        {
            "kind": "the number of files differs from the report's",
            "count": 1,
            "first": ["embeddings/r/: 2, expected 3"],
        },
        {
            "kind": "the number of records differs from the report's",
            "count": 1,
            "first": ["embeddings/r/: 20, expected 30"],
        },
    ]


@pytest.mark.slow
def test_help_needs_no_beam():
    code = (
        "import sys; from pipeline.commands.verify import verify; verify._parser().format_help(); "
        "assert not {'tensorflow', 'apache_beam', 'google.cloud.bigquery'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.fixture
def photo(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"image")
    return tmp_path / "photos" / "a.jpg"


def test_the_latest_run_is_the_one_that_began_last(tmp_path, photo):
    """Only an image of the latest run may have changed since; an older one should have been embedded anew."""
    changed = embedding(bytes(photo), 1, "another version")
    for older, latest, expected in (("2", "1", {}), ("1", "2", {})):
        output = outputs.write_run(tmp_path / f"{older}{latest}", [embedding(b"/b", 2)], run_id=older)
        outputs.write_run(output, [changed], run_id=latest)
        assert kinds(output, listed=ListedImages([str(photo)])) == expected
        assert "an image of the input has changed since the run" in notes(output, listed=ListedImages([str(photo)]))
        outputs.write_run(tmp_path / f"{latest}{older}-old", [changed], run_id=older)
        output = outputs.write_run(tmp_path / f"{latest}{older}-old", [embedding(b"/b", 2)], run_id=latest)
        assert kinds(output, listed=ListedImages([str(photo)])) == {
            "an image of the input has a record of another version only": 1
        }


@pytest.mark.parametrize("digest", ["d", "e"])
def test_a_record_of_a_run_that_is_not_checked_counts_if_it_is_of_the_model(tmp_path, photo, digest):
    record = embedding(bytes(photo), 1, f"{photo.stat().st_size}-{photo.stat().st_mtime:.6f}")
    outputs.write_run(tmp_path, [record], run_id="1", model=dataclasses.replace(outputs.MODEL, digest=digest * 64))
    outputs.write_run(tmp_path, [embedding(b"/b", 2)], run_id="2")
    lost = {"an image of the input has no record and no failure": 1}
    assert kinds(tmp_path, run_id="2", listed=ListedImages([str(photo)])) == ({} if digest == "d" else lost)
