"""Whole jobs from a bucket of S3 or Azure into it, as on Cloud Storage: everything but a table, which needs gs://."""

import collections
import importlib
import io
import json
import os
import tarfile
import types
from collections.abc import Iterator

import pytest

from pipeline.commands.verbs import VERBS
from tests.helpers import data_generation as data
from tests.helpers import fork_server, object_servers, onnx_models, tiny_module
from tests.helpers.killing import TIMEOUT, wait_for
from tests.helpers.running import read_rows, run_refused
from transforms.storage import files, stores
from transforms.storage.context import DEFAULT_STORAGE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["s3", "az"])
def job(request, tmp_path_factory) -> Iterator[types.SimpleNamespace]:
    """A bucket, at which this process and the command point, with 8 images, of which two are equal and one broken."""
    if request.param == "az" and not object_servers.azurite_program():
        pytest.skip("no Azurite: see tests/helpers/object_servers.py")
    start = object_servers.s3_server if request.param == "s3" else object_servers.azurite
    with start(tmp_path_factory.mktemp("server")) as environment, object_servers.clients_of(environment):
        top = f"{request.param}://photos"
        object_servers.make_bucket(top)
        for number in range(6):
            files.write(f"{top}/in/{number} é+%.jpg", data.jpeg(number, 24, 32))
        files.write(f"{top}/in/copy.jpg", data.jpeg(0, 24, 32))
        files.write(f"{top}/in/broken.jpg", b"no image")
        yield types.SimpleNamespace(top=top, environment=os.environ | environment, names=names_below(f"{top}/in"))


def names_below(directory):
    return [each.path for each in stores.of(directory).listed(DEFAULT_STORAGE, f"{directory}/")]


def run(job, *flags, code=0):
    done = fork_server.run(list(map(str, flags)), job.environment, TIMEOUT)
    assert done.returncode == code, done.stderr
    return done


def report(output, run_id):
    return json.loads(files.read(f"{output}/runs/{run_id}.json"))


def rows(output, run_id, directory):
    """Returns the records of a run, read from a copy."""
    for path in names_below(f"{output}/embeddings/{run_id}"):
        local = directory / "embeddings" / run_id / path.rpartition("/")[2]
        local.parent.mkdir(parents=True, exist_ok=True)
        local.write_bytes(files.read(path))
    return {row["image/key"].decode(): row for row in read_rows(directory, run_id)}


def verb(name, *flags):
    """Runs a verb in this process, to a good end."""
    assert importlib.import_module(VERBS[name].module).main([*VERBS[name].flags, *map(str, flags)]) == 0


@pytest.mark.parametrize("output_format", ["tfrecord", "parquet"])
def test_a_night_after_a_night(job, tmp_path, capsys, output_format):
    output, photos = f"{job.top}/out-{output_format}", f"{job.top}/night-{output_format}"
    for path in job.names:
        files.copy(path, path.replace("/in/", f"/{photos.rpartition('/')[2]}/"))
    flags = ["--input", f"{photos}/**", "--output", output, "--output_format", output_format]
    run(job, *flags, "--run_id=first")
    counts = report(output, "first")["counts"]
    assert (counts["listed"], counts["embedded"], counts["failed"]) == (8, 6, 1)
    first = rows(output, "first", tmp_path)
    assert len(first) == 7 and all(key.startswith(f"{photos}/") for key in first)
    versions = {path: stores.of(path).described(DEFAULT_STORAGE, path).version for path in first}
    assert {key: row["image/version"].decode() for key, row in first.items()} == versions

    files.write(f"{photos}/1 é+%.jpg", data.jpeg(100, 24, 32))
    files.copy(f"{photos}/2 é+%.jpg", f"{photos}/renamed.jpg")
    files.remove_file(f"{photos}/2 é+%.jpg")
    run(job, *flags, "--run_id=second")
    counts = report(output, "second")["counts"]
    assert counts["embedded"] == 1 and counts["skipped"] == 5, counts
    assert rows(output, "second", tmp_path).keys() == {f"{photos}/1 é+%.jpg", f"{photos}/renamed.jpg"}

    capsys.readouterr()
    verb("verify", "--output", output, "--input", f"{photos}/**")
    verb("runs", "--output", output)
    verb("search", "--embeddings", output, "--key", f"{photos}/0 é+%.jpg", "--top", 1)
    assert f"1.0000  {photos}/copy.jpg" in capsys.readouterr().out
    verb("export", "--embeddings", output, "--to", "vertex", "--destination", f"{output}-vertex")
    assert "8 new, 0 replaced" in capsys.readouterr().out
    verb("export", "--embeddings", output, "--to", "vertex", "--destination", f"{output}-vertex")
    assert "nothing to send" in capsys.readouterr().out

    run(job, *flags, "--run_id=second", "--overwrite")
    assert report(output, "second")["counts"]["listed"] == 8
    before = names_below(output)
    assert not [path for path in before if "/." in path or path.endswith(".unfinished")]
    run(job, *flags, "--run_id=second")  # it is complete
    assert names_below(output) == before


def test_a_tar_a_tfrecord_and_a_list(job, tmp_path):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for number in range(3):
            content = data.jpeg(20 + number, 24, 32)
            member = tarfile.TarInfo(f"{number}.jpg")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    files.write(f"{job.top}/shards/a.tar.gz", packed.getvalue())
    records = data.write_tfrecords(tmp_path / "a", [data.image_example(data.jpeg(30, 24, 32), b"one")])
    files.write(f"{job.top}/shards/a.tfrecord", records.read_bytes())
    files.write(f"{job.top}/shards/1 é+%.jpg", data.jpeg(40, 24, 32))
    lines = ["uri", "1 é+%.jpg", f"{job.top}/in/2 é+%.jpg", f"{job.top}/in/none.jpg", "/etc/passwd"]
    files.write(f"{job.top}/shards/list.csv", "\n".join(lines).encode())
    expected = {"tar": ("a.tar.gz", 3, 0), "tfrecord": ("a.tfrecord", 1, 0), "list": ("list.csv", 2, 2)}
    for input_format, (name, embedded, failed) in expected.items():
        output = f"{job.top}/of-{input_format}"
        run(
            job,
            f"--input={job.top}/shards/{name}",
            f"--input_format={input_format}",
            f"--output={output}",
            "--run_id=r",
        )
        counts = collections.Counter(report(output, "r")["counts"])
        assert (counts["embedded"], counts["failed"]) == (embedded, failed), (input_format, counts)


def test_a_model_in_a_bucket(job, tmp_path, capsys):
    local = tiny_module.write_plain(tmp_path / "model")
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as tar:
        tar.add(local, "model")
    onnx = onnx_models.write(tmp_path / "mine.onnx")
    verb("stage-model", local, f"{job.top}/models/staged")
    verb("stage-model", local, f"{job.top}/models/staged")
    assert "it is there already" in capsys.readouterr().out
    for file in (tmp_path / "model.tar.gz", onnx):
        files.write(f"{job.top}/models/{file.name}", file.read_bytes())
    digests = set()
    for name in ("staged", "model.tar.gz", "mine.onnx"):
        output = f"{job.top}/by-{name}"
        flags = ["--input", f"{job.top}/in/*.jpg", "--output", output, "--run_id=r", "--image_size=24x40"]
        run(job, *flags, "--model", f"{job.top}/models/{name}")
        assert report(output, "r")["counts"]["embedded"] == 6
        digests.add(report(output, "r")["model"]["digest"])
    assert len(digests) == 2  # the archive has the files of the directory


def test_a_run_that_is_killed_goes_on(job, tmp_path):
    data.write_images(tmp_path / "many", 600, height=60, width=80)
    output = f"{job.top}/killed"
    flags = [*("--input", tmp_path / "many", "--output", output, "--run_id=r"), "--batch_size=4"]
    flags += ["--checkpoint_seconds=1"]
    parts = f"{output}/embeddings/r/.parts"
    process = fork_server.start(list(map(str, flags)), job.environment)
    wait_for(lambda: len(names_below(parts)) >= 3, process)
    process.kill()
    process.wait(TIMEOUT)
    assert not [path for path in names_below(f"{output}/runs") if path.endswith(".json")]
    run(job, *flags)
    found = report(output, "r")
    first, last = found["attempts"].values()
    assert found["counts"]["embedded"] == 600 == first + last and first and last, found["attempts"]
    assert len(rows(output, "r", tmp_path)) == 600 and names_below(parts) == []


def test_of_two_runs_of_one_name_one_wins(job):
    output = f"{job.top}/contested"
    flags = ["--input", f"{job.top}/in/*.jpg", "--output", output, "--run_id=r"]
    both = [fork_server.start(flags, job.environment) for _ in range(2)]
    done = [process.communicate(TIMEOUT) for process in both]
    codes = sorted(process.poll() for process in both)
    assert codes[0] == 0, done
    if codes[1]:  # else the second came after the first had ended
        assert codes[1] == 2 and any(" is at this run; wait for it" in stderr for _, stderr in done), done
    assert report(output, "r")["counts"]["listed"] == 8


def test_a_bucket_that_is_not_there_is_said_before_any_work(job):
    for flags in (
        ["--input", f"{job.top}-none/**", "--output", f"{job.top}/none"],
        ["--input", f"{job.top}/in/**", "--output", f"{job.top}-none/out"],
    ):
        done = run(job, *flags, code=2)
        assert len(done.stderr.splitlines()) == 1 and f"{job.top}-none" in done.stderr and done.stdout == ""


@pytest.mark.parametrize(("scheme", "extra"), [("s3", "s3"), ("az", "azure")])
@pytest.mark.parametrize("flag", ["--input", "--output", "--model"])
def test_an_extra_that_is_missing_is_said_in_one_line(tmp_path, monkeypatch, scheme, extra, flag):
    monkeypatch.setattr(stores, "_is_installed", lambda package: False)
    data.write_images(tmp_path / "in", 1)
    flags = {"--input": tmp_path / "in", "--output": tmp_path / "out", flag: f"{scheme}://photos/a"}
    output = flags.pop("--output")
    done = run_refused(output, *[part for pair in flags.items() for part in pair])
    assert done.code == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert f"needs pip install 'beam-image-embeddings[{extra}]'" in done.stderr, done.stderr
