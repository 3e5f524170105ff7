"""Vectors in TensorBoard's Embedding Projector."""

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.commands.search import projector, search, thumbnails
from pipeline.commands.search.index import Index
from pipeline.known import vector_shards
from tests.helpers import browser, outputs
from tests.helpers import data_generation as data
from tests.helpers.running import run_pipeline

pytestmark = pytest.mark.slow

IMAGES = 5


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    photos = tmp_path_factory.mktemp("in") / "photos"
    data.write_images(photos, IMAGES, height=60, width=80)
    (photos / "00001.jpg").rename(photos / "a\tb\n.jpg")
    output = tmp_path_factory.mktemp("out")
    assert run_pipeline(output, "--input", photos).code == 0
    (photos / "00002.jpg").unlink()
    return output


@pytest.fixture(scope="module")
def directory(output, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("projector") / "p"
    assert search.main(["--embeddings", str(output), "--projector", str(directory)]) == 0
    return directory


def test_vectors_keys_and_pictures_have_one_order(output, directory):
    index = Index(vector_shards.paths(str(output)))
    rows = index.sample(IMAGES)
    vectors = np.loadtxt(directory / "vectors.tsv", delimiter="\t", dtype=np.float32)
    np.testing.assert_allclose(vectors, [index.vector(row) for row in rows], rtol=1e-5)
    head, *lines = (directory / "metadata.tsv").read_text().splitlines()
    assert head == "name\tkey"
    names = [line.split("\t")[0] for line in lines]
    assert names == [index.key(row).decode().rpartition("/")[2].encode("unicode_escape").decode() for row in rows]
    assert "a\\tb\\n.jpg" in names
    sprite = np.asarray(Image.open(directory / "sprite.jpg"))
    assert sprite.shape == (192, 192, 3)
    is_grey = [
        abs(sprite[i // 3 * 64 : i // 3 * 64 + 64, i % 3 * 64 : i % 3 * 64 + 64].mean() - 128) < 1 for i in range(9)
    ]
    assert is_grey == [*(name == "00002.jpg" for name in names), *[True] * 4]


def test_pictures_fill_row_after_row(tmp_path, monkeypatch):
    """The picture of each image has a grey of its own, and the sprite is two of them wide."""
    outputs.write_run(tmp_path, [outputs.embedding(b"%d" % number, number) for number in range(3)])
    index = Index(vector_shards.paths(str(tmp_path)))

    def picture(key, side, storage):
        return Image.new("RGB", (side, side), (20 + 50 * int(key),) * 3)

    monkeypatch.setattr(thumbnails, "picture", picture)
    projector.write(index, str(tmp_path / "p"))
    sprite = np.asarray(Image.open(tmp_path / "p" / "sprite.jpg"))
    keys = [line.split("\t")[1] for line in (tmp_path / "p" / "metadata.tsv").read_text().splitlines()[1:]]
    greys = [int(sprite[y : y + 64, x : x + 64].mean().round()) for y in (0, 64) for x in (0, 64)]
    assert greys == [*(20 + 50 * int(key) for key in keys), 128]


def test_no_picture_of_a_file_whose_name_a_shard_brought(tmp_path):
    (photo,) = data.write_images(tmp_path / "photos", 1, height=60, width=80)
    outputs.write_run(tmp_path / "out", [outputs.embedding(bytes(photo), 0, in_shard=b"/s.tfrecord")])
    assert search.main(["--embeddings", str(tmp_path / "out"), "--projector", str(tmp_path / "p")]) == 0
    assert abs(np.asarray(Image.open(tmp_path / "p" / "sprite.jpg")).astype(int) - 128).max() <= 1


def test_a_second_time_writes_the_same(output, directory):
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert search.main(["--embeddings", str(output), "--projector", str(directory)]) == 0
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_a_directory_with_anything_else_is_left_alone(output, tmp_path, capfd):
    (tmp_path / "mine.txt").write_text("mine")
    assert search.main(["--embeddings", str(output), "--projector", str(tmp_path)]) == 2
    assert "is not replaced" in capfd.readouterr().err and [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_no_more_images_than_the_limit(output, tmp_path, monkeypatch):
    monkeypatch.setattr(projector, "MAX_IMAGES", 3)
    assert projector.write(Index(vector_shards.paths(str(output))), str(tmp_path / "p")) == 3
    assert len((tmp_path / "p" / "vectors.tsv").read_text().splitlines()) == 3


@pytest.mark.slow
def test_tensorboard_shows_it(directory, tmp_path):
    with _tensorboard(directory, tmp_path / "log") as url:
        (run,) = json.loads(_read(f"{url}/data/plugin/projector/runs"))
        info = json.loads(_read(f"{url}/data/plugin/projector/info?run={run}"))
        assert [each["tensorShape"] for each in info["embeddings"]] == [[IMAGES, 1280]]
        tensor = np.frombuffer(_read(f"{url}/data/plugin/projector/tensor?run={run}&name=vectors"), np.float32)
        assert len(tensor) == IMAGES * 1280
        assert _read(f"{url}/data/plugin/projector/sprite_image?run={run}&name=vectors")[:2] == b"\xff\xd8"
        with browser.page() as page:
            page.goto(f"{url}/#projector")
            projector_frame = page.frame_locator("iframe").frame_locator("iframe")
            projector_frame.locator(".numDataPoints", has_text=str(IMAGES)).first.wait_for()
            assert page.errors == []


@contextlib.contextmanager
def _tensorboard(directory: Path, log: Path) -> Iterator[str]:
    pytest.importorskip("tensorboard")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", directory, "--host", "127.0.0.1", "--port", port]
    with log.open("wb") as file:
        process = subprocess.Popen([*map(str, command), "--load_fast=false"], stdout=file, stderr=file)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                _read(f"{url}/data/environment")
                break
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield url
    finally:
        process.kill()
        process.wait()


def _read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310 - of the test's own server
        return response.read()
