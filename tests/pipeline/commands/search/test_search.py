"""The command over runs: by image and by key, in each format, over several runs, and what it refuses."""

import json
import re
import shlex
import socket
from pathlib import Path

import pytest
from PIL import Image

from pipeline.commands.search import search
from tests.helpers import data_generation as data
from tests.helpers import outputs
from tests.helpers.running import run_pipeline


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("in") / "photos"
    data.write_images(directory, 6, height=60, width=80)
    picture = Image.open(directory / "00003.jpg")
    picture.resize((200, 150)).save(directory / "a <b>&larger.png")
    return directory


@pytest.fixture(scope="module", params=["tfrecord", "parquet"])
def run(request, photos, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("out")
    assert run_pipeline(output, "--input", photos, "--output_format", request.param).code == 0
    return output


def _search(capfd, *flags):
    code = search.main(list(map(str, flags)))
    captured = capfd.readouterr()
    return code, captured.out, captured.err


@pytest.mark.slow
def test_an_image_finds_itself_and_then_its_larger_copy(run, photos, capfd):
    code, out, _ = _search(capfd, "--embeddings", run, "--image", photos / "00003.jpg", "--top", "2")
    assert code == 0
    head, first, second = out.splitlines()
    assert head == "cosine  image"
    assert first == f"1.0000  {photos / '00003.jpg'}"
    assert second.endswith(f"  {photos / 'a <b>&larger.png'}") and float(second.split()[0]) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("is_relative", [False, True])
def test_a_key_finds_the_others(run, photos, capfd, monkeypatch, is_relative):
    monkeypatch.chdir(photos.parent)
    key = "photos/00003.jpg" if is_relative else photos / "00003.jpg"
    code, out, _ = _search(capfd, "--embeddings", run, "--key", key, "--format", "json")
    assert code == 0
    neighbours = json.loads(out)["neighbours"]
    assert len(neighbours) == 6 and str(photos / "00003.jpg") not in {each["key"] for each in neighbours}
    assert neighbours[0]["key"] == str(photos / "a <b>&larger.png") and neighbours[0]["cosine"] > 0.9
    assert [each["cosine"] for each in neighbours] == sorted((each["cosine"] for each in neighbours), reverse=True)


@pytest.mark.slow
def test_html_has_the_pictures_and_escapes_names(run, photos, capfd):
    code, out, _ = _search(capfd, "--embeddings", run, "--key", photos / "00003.jpg", "--format", "html")
    assert code == 0
    assert out.count("data:image/jpeg;base64,") == 6
    assert "a &lt;b&gt;&amp;larger.png" in out and "<b>" not in out and "<script" not in out


@pytest.mark.slow
def test_a_shard_chooses_no_file_to_show(photos, capfd, tmp_path):
    """The key of its record is the name of a file of this machine, which no run has listed."""
    images = [(photos / f"0000{i}.jpg", (photos / "00003.jpg").read_bytes()) for i in range(2)]
    shard = data.write_tfrecords(tmp_path / "s", [data.image_example(content, bytes(path)) for path, content in images])
    assert run_pipeline(tmp_path / "out", "--input_format=tfrecord", "--input", shard).code == 0
    flags = ["--embeddings", tmp_path / "out", "--key", photos / "00000.jpg", "--format", "html"]
    code, out, _ = _search(capfd, *flags)
    assert code == 0 and "00001.jpg" in out
    assert "no picture" in out and "data:image/jpeg" not in out
    assert run_pipeline(tmp_path / "out", "--input", photos).code == 0  # now they are files that a run has listed
    assert "data:image/jpeg" in _search(capfd, *flags)[1]


@pytest.mark.slow
def test_an_image_that_cannot_be_shown_keeps_its_name(run, photos, capfd, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    data.write_images(gone, 2, height=60, width=80)
    assert run_pipeline(tmp_path / "out", "--input", gone).code == 0
    (gone / "00001.jpg").unlink()
    _, out, _ = _search(capfd, "--embeddings", tmp_path / "out", "--key", gone / "00000.jpg", "--format", "html")
    assert "no picture" in out and "00001.jpg" in out


def test_the_last_run_counts(tmp_path, capfd):
    earlier = [outputs.embedding(b"a", 1), outputs.embedding(b"b", 2), outputs.embedding(b"c", 3)]
    for run_id, began, embeddings in (("z", "2026-01-01", earlier), ("y", "2026-01-02", [outputs.embedding(b"c", 1)])):
        outputs.write_run(tmp_path, embeddings, run_id=run_id)
        report = tmp_path / "runs" / f"{run_id}.json"
        report.write_text(json.dumps(json.loads(report.read_text()) | {"started_at": f"{began}T00:00:00+00:00"}))
    _, out, _ = _search(capfd, "--embeddings", tmp_path, "--key", "a", "--format", "json")
    first, second = json.loads(out)["neighbours"]
    assert (first["key"], second["key"]) == ("c", "b") and first["cosine"] == pytest.approx(1.0)


HOSTILE = [
    b"/photos/a\n0.9999  /photos/forged.jpg",
    b"/photos/\x1b[31mred\x1b]0;title\x07.jpg",
    b"/photos/caf\xe9.jpg",
    "/photos/9.41\u202fAM.jpg".encode(),
]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    """The output of a run over names with ends of lines, escape sequences and other characters that are not shown."""
    stored = [outputs.embedding(key, seed) for seed, key in enumerate([b"/photos/plain.jpg", *HOSTILE])]
    return outputs.write_run(tmp_path_factory.mktemp("out"), stored)


def test_no_name_forges_a_row_or_reaches_the_terminal(hostile, capfd):
    _, out, _ = _search(capfd, "--embeddings", hostile, "--key", "/photos/plain.jpg")
    rows = out.splitlines()
    assert len(rows) == 1 + len(HOSTILE) and all(row.isprintable() for row in rows)


@pytest.mark.parametrize(
    ("result_format", "printed"), [("table", r"\d  (.*)"), ("json", r'"key": "(.*)"')], ids=["table", "json"]
)
def test_a_key_is_taken_as_the_result_prints_it(hostile, capfd, result_format, printed):
    def search(key):
        code, out, _ = _search(capfd, "--embeddings", hostile, "--key", key, "--format", result_format)
        assert code == 0
        return set(re.findall(printed, out))

    others = search("/photos/plain.jpg")
    assert len(others) == len(HOSTILE)
    for key in others:
        assert search(key) == others - {key} | {"/photos/plain.jpg"}


def test_the_page_names_an_image_as_the_table_does(hostile, capfd):
    for key in (r"/photos/caf\xe9.jpg", "/photos/caf\udce9.jpg"):
        _, out, _ = _search(capfd, "--embeddings", hostile, "--key", key, "--format", "html")
        assert r"<h1>Neighbours of /photos/caf\xe9.jpg</h1>" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ([], "--embeddings: expected the directory that runs wrote to"),
        (["--embeddings", "{run}"], "expected a query: give --image FILE, --key KEY, --serve or --projector DIR"),
        (["--embeddings", "{run}/nowhere", "--key", "a"], "no part-SSSSS-of-NNNNN.tfrecord or .parquet below it"),
        (["--embeddings", "{run}", "--key", "a"], "no image of this key: expected one as the run listed it"),
        (["--embeddings", "{run}", "--image", "{run}/no.jpg"], "cannot be read: "),
        (["--embeddings", "{run}", "--image", __file__], "test_search.py': expected one of jpeg, png, "),
        (["--embeddings", "{run}", "--serve", "--port", "70000"], "expected a number from 0 to 65535"),
    ],
)
def test_what_is_refused_in_one_line(run, capfd, flags, error):
    code, out, err = _search(capfd, *(flag.format(run=run) for flag in flags))
    assert (code, out, err.count("\n")) == (2, "", 1) and error in err


@pytest.mark.slow
def test_a_port_in_use_is_refused_in_one_line(run, capfd):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = _search(capfd, "--embeddings", run, "--serve", "--port", port)
    assert (code, out, err) == (2, "", f"search: --port {port}: Address already in use: expected one that is free\n")


@pytest.mark.slow
def test_a_wrong_model_is_refused_with_the_flag_that_fits(photos, tmp_path, capfd):
    flags = ("--resize_mode", "crop", "--image_size", "96x96", "--normalize")
    assert run_pipeline(tmp_path / "out", "--input", photos, *flags).code == 0
    command = ("--embeddings", tmp_path / "out", "--image", photos / "00003.jpg")
    code, _, err = _search(capfd, *command, "--model", "mobilenet")
    assert code == 2 and err.count("\n") == 1
    printed = err.strip().rpartition("; the run had it by ")[2]
    assert printed == "--model efficientnet_lite0"
    code, out, _ = _search(capfd, *command, *shlex.split(printed))
    assert code == 0 and out.splitlines()[1] == f"1.0000  {photos / '00003.jpg'}"


@pytest.mark.slow
def test_a_model_that_has_changed_is_refused_with_its_digest(photos, tmp_path, capfd):
    assert run_pipeline(tmp_path / "out", "--input", photos, "--image_size", "96x96").code == 0
    report = next((tmp_path / "out" / "runs").glob("*.json"))
    content = json.loads(report.read_text())
    content["model"]["image_size"] = [128, 128]
    report.write_text(json.dumps(content))
    code, _, err = _search(capfd, "--embeddings", tmp_path / "out", "--image", photos / "00003.jpg")
    assert code == 2 and err.count("\n") == 1
    assert "'efficientnet_lite0' is another model now; the model of the vectors has the digest " in err
    assert err.endswith(f"{content['model']['digest']}: give its place as --model HANDLE\n")


@pytest.mark.slow
def test_vectors_of_two_models_are_refused(photos, tmp_path, capfd):
    for size in ("96x96", "128x128"):
        assert run_pipeline(tmp_path / "out", "--input", photos, "--image_size", size).code == 0
    code, _, err = _search(capfd, "--embeddings", tmp_path / "out", "--key", photos / "00003.jpg")
    assert code == 2 and "the two cannot be compared: give --embeddings the directory of one run" in err
    newest = max((tmp_path / "out" / "embeddings").iterdir(), key=lambda path: path.stat().st_mtime)
    assert _search(capfd, "--embeddings", newest, "--key", photos / "00003.jpg")[0] == 0
