"""transforms.models.file_downloads: single files from a real server, with the files that belong to them."""

import http.server
import threading
from pathlib import Path

import pytest

from tests.helpers import onnx_models
from transforms.models import file_downloads


@pytest.fixture
def site(tmp_path):
    """A server of the files in a directory: its address, that directory, and the paths that were asked for."""
    directory = tmp_path / "site"
    directory.mkdir()
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(directory))

        def do_GET(self):
            asked.append(self.path)
            if self.path.endswith("cut.onnx"):
                self.send_response(200)
                self.send_header("Content-Length", "100")
                self.end_headers()
                self.wfile.write(b"half")
            else:
                super().do_GET()

        def log_message(self, *unused):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", directory, asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_which_urls_are_files():
    for url in ("https://example.com/m.onnx", "https://example.com/a/m.xml?download=true", "http://x/m.tflite#a"):
        assert file_downloads.is_file(url)
    for url in ("https://example.com/m.tar.gz", "https://tfhub.dev/google/m/1", "https://example.com/?f=m.onnx"):
        assert not file_downloads.is_file(url)


def test_a_file_with_its_external_data_is_fetched_once(site, tmp_path):
    url, directory, asked = site
    onnx_models.write(directory / "my model.onnx", external="deep/the weights.bin")
    for _ in range(2):
        file = file_downloads.fetch(f"{url}/my%20model.onnx?download=true", tmp_path / "got", 10_000)
    assert file == tmp_path / "got" / "my model.onnx"
    for name in ("my model.onnx", "deep/the weights.bin"):
        assert (tmp_path / "got" / name).read_bytes() == (directory / name).read_bytes()
    assert asked == ["/my%20model.onnx?download=true", "/deep/the%20weights.bin?download=true"]


def test_the_weights_of_an_ir_come_along(site, tmp_path):
    url, directory, asked = site
    (directory / "net.xml").write_text("<net/>")
    (directory / "net.bin").write_bytes(b"weights")
    file = file_downloads.fetch(f"{url}/net.xml", tmp_path / "got", 100)
    assert file.with_suffix(".bin").read_bytes() == b"weights" and asked == ["/net.xml", "/net.bin"]


@pytest.mark.parametrize(
    ("name", "max_bytes", "error", "message"),
    [
        ("m.onnx", 9, ValueError, "it has more than 9 bytes"),
        ("m.onnx", 400, ValueError, "it has more than [0-9]+ bytes"),
        ("none.onnx", 9, OSError, "404"),
        ("cut.onnx", 999, OSError, "the server sent 4 of 100 bytes"),
        ("%2e%2e%2fm.onnx", 999, ValueError, "expected no slash in it"),
    ],
    ids=["large", "large with its data", "none", "cut", "a parent"],
)
def test_what_cannot_be_fetched_leaves_nothing(site, tmp_path, name, max_bytes, error, message):
    url, directory, _ = site
    main = onnx_models.write(directory / "m.onnx", external="w.bin")
    assert main.stat().st_size < 400 < main.stat().st_size + (directory / "w.bin").stat().st_size
    with pytest.raises(error, match=message):
        file_downloads.fetch(f"{url}/{name}", tmp_path / "got", max_bytes)
    assert not list(Path(tmp_path).glob("got*"))


def test_all_files_together_may_have_just_as_many_bytes(site, tmp_path):
    url, directory, _ = site
    main = onnx_models.write(directory / "m.onnx", external="w.bin")
    size = main.stat().st_size + (directory / "w.bin").stat().st_size
    with pytest.raises(ValueError, match="it has more than"):
        file_downloads.fetch(f"{url}/m.onnx", tmp_path / "small", size - 1)
    assert file_downloads.fetch(f"{url}/m.onnx", tmp_path / "got", size).exists()


def test_each_file_counts_against_the_bytes_that_are_left(site, tmp_path, monkeypatch):
    url, directory, _ = site
    monkeypatch.setattr(file_downloads.portable, "companions", lambda main: ["a.bin", "b.bin"])
    for name in ("m.onnx", "a.bin", "b.bin"):
        (directory / name).write_bytes(bytes(100))
    with pytest.raises(ValueError, match="it has more than 99 bytes"):
        file_downloads.fetch(f"{url}/m.onnx", tmp_path / "small", 299)
    assert file_downloads.fetch(f"{url}/m.onnx", tmp_path / "got", 300).exists()
