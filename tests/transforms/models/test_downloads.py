"""transforms.models.downloads: what tensorflow-hub caches is what was checked.

`test_handles.py` has the server of hostile archives, and the redirects of tfhub.dev.
"""

import functools
import http.server
import tarfile
import threading
from pathlib import Path

import pytest
import tensorflow_hub

from transforms.models import downloads, handles

MODULE = Path(__file__).parents[2] / "golden" / "tf1_hub" / "feature_vector_1"


@pytest.fixture
def url(tmp_path):
    """Serves a directory with the archive of a module."""
    (tmp_path / "served").mkdir()
    with tarfile.open(tmp_path / "served" / "m.tar.gz", "w:gz") as tar:
        tar.add(MODULE, ".")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "served")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/m.tar.gz"
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_cache_is_tensorflow_hubs_own(tmp_path, monkeypatch, url):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    fetched = downloads.fetch(url, handles.MAX_MODEL_BYTES)
    assert handles.files_digest(fetched) == handles.files_digest(MODULE)
    assert tensorflow_hub.resolve(url) == str(fetched)


def test_an_archive_that_is_too_large_leaves_nothing(tmp_path, monkeypatch, url):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        downloads.fetch(url, 1000)
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_archive_may_have_just_as_many_bytes(tmp_path, monkeypatch):
    archive = tmp_path / "served" / "m.tar.gz"
    checked = []
    monkeypatch.setattr(downloads.archives, "check", lambda file, named, most: checked.append((named, most)))
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    archive.parent.mkdir()
    archive.write_bytes(bytes(100))
    fetch = downloads._CheckedResolver(100)._call_urlopen
    with fetch(archive.as_uri()) as file:
        assert file.read() == bytes(100)  # from its front
    assert checked == [("the archive", 100)]
    with pytest.raises(ValueError, match="it has more than 99 bytes"):
        downloads._CheckedResolver(99)._call_urlopen(archive.as_uri())


def test_a_hostile_archive_leaves_nothing(tmp_path, monkeypatch, url):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    with tarfile.open(tmp_path / "served" / "m.tar.gz", "w:gz") as tar:
        tar.add(MODULE, ".")
        tar.add(MODULE / "saved_model.pb", "../evil")
    with pytest.raises(ValueError, match=r"the archive: its member '\.\./evil' leads out of the archive"):
        downloads.fetch(url, handles.MAX_MODEL_BYTES)
    assert list((tmp_path / "cache").iterdir()) == [] and not list(tmp_path.rglob("evil"))
