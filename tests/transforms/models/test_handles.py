"""transforms.models.handles: every place where users keep models, with real servers behind them."""

import http.server
import io
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import onnx_models
from tests.helpers.emulators import environment, storage_emulator
from transforms.models import handles
from transforms.storage import private

MODULE = Path(__file__).parents[2] / "golden" / "tf1_hub" / "feature_vector_1"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kaggle"))
    return tmp_path / "cache"


def packed(members=None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        if members is None:
            tar.add(MODULE, ".")
        for name, content in (members or {}).items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def is_the_module(path: Path) -> bool:
    return handles.files_digest(path) == handles.files_digest(MODULE)


@pytest.fixture
def hub_server():
    """Serves a compressed module as tfhub.dev does: by a redirect, where the query asks for the compressed format."""
    asked = []
    archives: dict[str, bytes] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if self.path == "/google/module/1?tf-hub-format=compressed":
                self.send_response(302)
                self.send_header("Location", "/bucket/module.tar.gz")
                self.end_headers()
            elif self.path.startswith("/bucket/"):
                name = self.path.removeprefix("/bucket/").partition("?")[0]
                body = packed() if name == "module.tar.gz" else archives[name]
                self.send_response(200)
                self.send_header("Content-Type", "application/x-tar")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            else:
                self.send_error(404)

        def log_message(self, *unused):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked, archives
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_url_is_fetched_once(hub_server):
    url, asked, _ = hub_server
    first = handles.local_path(f"{url}/google/module/1")
    again = handles.local_path(f"{url}/google/module/1")
    assert first == again and is_the_module(first)
    assert asked == ["/google/module/1?tf-hub-format=compressed", "/bucket/module.tar.gz"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"large": bytes(10_000)}, "the archive: unpacks to more than 9999 bytes"),
        ({"a": bytes(5_000), "b": bytes(5_000)}, "the archive: unpacks to more than 9999 bytes"),
        ({"noise": np.random.default_rng(0).bytes(20_000)}, "it has more than 9999 bytes"),
        ({"../evil": b"x"}, r"the archive: its member '\.\./evil' leads out of the archive"),
        ({"/evil": b"x"}, "the archive: its member '/evil' leads out of the archive"),
    ],
    ids=["a bomb", "many", "a large download", "a parent", "an absolute name"],
)
def test_a_hostile_archive_over_http_is_refused(hub_server, cache, monkeypatch, members, message):
    url, _, archives = hub_server
    archives["evil.tar.gz"] = packed(members)
    monkeypatch.setattr(handles, "MAX_MODEL_BYTES", 9_999)
    with pytest.raises(ValueError, match=rf"cannot be fetched \({message}\); "):
        handles.local_path(f"{url}/bucket/evil.tar.gz")
    assert list(cache.rglob("*")) == []  # nothing is left that a later run would take


@pytest.mark.parametrize("what", ["a module that is not there", "nobody listens"])
def test_a_url_that_gives_nothing_says_how_to_stage(hub_server, what):
    url = hub_server[0] if what.startswith("a module") else "http://127.0.0.1:9"
    with pytest.raises(ValueError, match=r"is not cached here and cannot be fetched \(.+\); where there is a network,"):
        handles.local_path(f"{url}/google/other/1")


def test_a_directory_is_its_own_local_path(tmp_path):
    assert handles.local_path(str(MODULE)) == MODULE


@pytest.fixture
def copied(tmp_path):
    return Path(shutil.copytree(MODULE, tmp_path / "copied"))


def test_links_to_files_are_followed(tmp_path, copied):
    file = copied / "tfhub_module.pb"
    file.rename(tmp_path / "blob")
    file.symlink_to(tmp_path / "blob")
    assert is_the_module(handles.local_path(str(copied)))


@pytest.mark.parametrize("odd", ["device", "pipe", "loop", "directory"])
def test_a_directory_with_other_than_files_is_refused(tmp_path, copied, odd):
    name = copied / "variables" / "odd"
    if odd == "pipe":
        os.mkfifo(name)
    else:
        name.symlink_to({"device": "/dev/zero", "loop": name, "directory": MODULE}[odd])
    with pytest.raises(ValueError, match="expected regular files, and '.*/variables/odd' is none$"):
        handles.local_path(str(copied))


def test_a_model_that_is_too_large_is_not_read(copied):
    with (copied / "variables" / "huge").open("wb") as file:
        file.truncate(handles.MAX_MODEL_BYTES)  # sparse
    with pytest.raises(ValueError, match=rf"bytes: expected at most {handles.MAX_MODEL_BYTES}$"):
        handles.local_path(str(copied))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["a pipe", "a directory"])
def test_a_keras_file_is_a_file(tmp_path, make):
    make(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="expected regular files"):
        handles.local_path(str(tmp_path / "m.keras"))


@pytest.mark.parametrize("variable", ["TFHUB_CACHE_DIR", "KAGGLEHUB_CACHE"])
def test_a_cache_that_others_may_write_to_is_not_trusted(tmp_path, monkeypatch, hub_server, variable):
    """Whoever may write to it could have put another model there under the name of this one."""
    shared = tmp_path / "shared"
    shared.mkdir()
    monkeypatch.setenv(variable, str(shared))
    (tmp_path / "m.tar.gz").write_bytes(packed())
    of = {
        "TFHUB_CACHE_DIR": [f"{hub_server[0]}/google/module/1", str(tmp_path / "m.tar.gz")],
        "KAGGLEHUB_CACHE": ["google/inception-v2/tensorFlow1/feature-vector/1"],
    }
    shared.chmod(0o777)
    for handle in of[variable]:
        with pytest.raises(private.NotPrivate, match=rf"^{variable}='.*shared' may be written by others"):
            handles.local_path(handle)
    assert hub_server[1] == [] and list(shared.iterdir()) == []


@pytest.mark.parametrize("inner", [".", "module"])
def test_an_archive_is_unpacked_once(tmp_path, inner):
    with tarfile.open(tmp_path / "m.tar.gz", "w:gz") as tar:
        tar.add(MODULE, inner)
    found = handles.local_path(str(tmp_path / "m.tar.gz"))
    assert is_the_module(found) and found == handles.local_path(str(tmp_path / "m.tar.gz"))


def test_an_archive_that_leads_out_is_refused(tmp_path, cache):
    (tmp_path / "evil.tar.gz").write_bytes(packed({"../../evil": b"x"}))
    with pytest.raises(ValueError, match=r"its member '\.\./\.\./evil' leads out of the archive"):
        handles.local_path(str(tmp_path / "evil.tar.gz"))
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("folder", ["", "resnet/"], ids=["at the top", "in a folder"])
def test_an_onnx_model_in_an_archive(tmp_path, folder):
    source = onnx_models.write(tmp_path / "mine.onnx", external="weights/w.bin")
    members = {name: (tmp_path / name).read_bytes() for name in ("mine.onnx", "weights/w.bin")}
    (tmp_path / "m.tar.gz").write_bytes(packed({f"{folder}{name}": content for name, content in members.items()}))
    found = handles.local_path(str(tmp_path / "m.tar.gz"))
    assert handles.files_digest(found) == handles.files_digest(source)


def test_the_digest_of_a_portable_model_is_that_of_its_files(tmp_path):
    digests = set()
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).mkdir()
        source = onnx_models.write(tmp_path / name / name, external="w.bin")
        (tmp_path / name / f"{name}.md").write_text("no part of it")
        digests |= {handles.files_digest(source), handles.files_digest(source.parent)}
        state = handles.files_state(str(source))
    assert len(digests) == 1 and len(state) == 2
    (source.parent / "w.bin").write_bytes(bytes(60))
    assert handles.files_state(str(source)) != state and handles.files_digest(source) not in digests


def test_a_portable_model_that_is_too_large(tmp_path, monkeypatch):
    source = onnx_models.write(tmp_path / "m.onnx", external="w.bin")
    monkeypatch.setattr(handles, "MAX_MODEL_BYTES", source.stat().st_size)
    with pytest.raises(ValueError, match=rf"has {source.stat().st_size + 60} bytes: expected at most"):
        handles.local_path(str(source))


def test_an_onnx_model_at_a_url(hub_server, tmp_path):
    url, asked, archives = hub_server
    source = onnx_models.write(tmp_path / "m.onnx", external="w.bin")
    archives.update({name: (tmp_path / name).read_bytes() for name in ("m.onnx", "w.bin")})
    for _ in range(2):
        assert handles.files_digest(handles.local_path(f"{url}/bucket/m.onnx")) == handles.files_digest(source)
    assert asked == ["/bucket/m.onnx", "/bucket/w.bin"]
    with pytest.raises(ValueError, match=r"none\.onnx' is not cached here and cannot be fetched"):
        handles.local_path(f"{url}/none.onnx")


def test_an_archive_that_is_too_large_or_none(tmp_path, monkeypatch):
    (tmp_path / "m.tar.gz").write_bytes(packed({"large": bytes(100)}))
    monkeypatch.setattr(handles, "MAX_MODEL_BYTES", 99)
    with pytest.raises(ValueError, match="unpacks to more than 99 bytes"):
        handles.local_path(str(tmp_path / "m.tar.gz"))
    (tmp_path / "n.tar.gz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="not a readable tar file"):
        handles.local_path(str(tmp_path / "n.tar.gz"))


@pytest.mark.slow
def test_a_kaggle_handle_from_its_cache(tmp_path):
    handle = "google/inception-v2/tensorFlow1/feature-vector/1"
    directory = tmp_path / "kaggle" / "models" / handle
    shutil.copytree(MODULE, directory)
    directory.with_name("1.complete").touch()
    assert is_the_module(handles.local_path(handle))


@pytest.mark.slow
def test_a_kaggle_handle_without_a_network_says_how_to_stage(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"cannot be fetched .*`python -m pipeline stage-model google/m/tensor"):
        handles.local_path("google/m/tensorFlow2/v/1")


def test_what_is_nothing():
    with pytest.raises(
        ValueError, match="model='resnet': no such directory, archive or hub handle, and none of the names effi"
    ):
        handles.local_path("resnet")


def test_models_in_a_bucket_are_copied_here(tmp_path):
    """In a process of its own: the client reads its environment when it is made."""
    (tmp_path / "server").mkdir()
    (tmp_path / "m.tar.gz").write_bytes(packed())
    code = """
import sys; from pathlib import Path; from google.cloud import storage; from transforms.models import handles
module, archive = Path(sys.argv[1]), sys.argv[2]
bucket = storage.Client().create_bucket("models")
for path in module.rglob("*"):
    if path.is_file(): bucket.blob("m/" + path.relative_to(module).as_posix()).upload_from_filename(str(path))
bucket.blob("m2/other").upload_from_string("a sibling whose name begins alike")
bucket.blob("m.tar.gz").upload_from_filename(archive)
digest = handles.files_digest(module)
first = handles.local_path("gs://models/m")
assert handles.files_digest(first) == digest == handles.files_digest(handles.local_path("gs://models/m.tar.gz"))
assert handles.local_path("gs://models/m/") != None and handles.local_path("gs://models/m") == first
bucket.blob("m/assets/new.txt").upload_from_string("changed")
changed = handles.local_path("gs://models/m")
assert changed != first and (changed / "assets/new.txt").exists()
try: handles.local_path("gs://models/none")
except ValueError as error: assert "no such object" in str(error), error
else: raise AssertionError("found what is not there")
"""
    with storage_emulator(tmp_path / "server") as found:
        env = environment(found) | {"PYTHONPATH": os.getcwd()}
        subprocess.run([sys.executable, "-c", code, MODULE, tmp_path / "m.tar.gz"], env=env, check=True)


def test_the_digest_covers_names_and_contents_but_no_notes(tmp_path):
    digests = []
    for change in (None, "content", "name", "note", "fingerprint", "preprocessing"):
        copy = tmp_path / str(change)
        shutil.copytree(MODULE, copy)
        if change == "content":
            (copy / "tfhub_module.pb").write_bytes(b"\x08\x04")
        elif change == "name":
            (copy / "tfhub_module.pb").rename(copy / "other.pb")
        elif change == "note":
            (copy / "assets.extra").mkdir()
            (copy / "assets.extra" / "note.json").write_text("{}")
        elif change == "fingerprint":
            (copy / "fingerprint.pb").write_bytes(b"another at each export")
        elif change == "preprocessing":  # what it tells is in the digest of the ModelSpec
            (copy / "preprocessor_config.json").write_text("{}")
        digests.append(handles.files_digest(copy))
    assert len(set(digests)) == 3 and digests[0] == digests[3] == digests[4] == digests[5]
