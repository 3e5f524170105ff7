"""transforms.models.engines.cache: what was found out about a model once need not be found out again."""

import dataclasses
import importlib.metadata
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.helpers.running import ROOT
from transforms.models import catalog, handles
from transforms.models.engines import cache, converted, loading
from transforms.models.preprocessing import Choices
from transforms.models.resolve import resolve

GOLDEN = ROOT / "tests" / "golden" / "tf1_hub"

SECOND_RUN = """
import sys
import numpy as np
from transforms.models.engines import loading
from transforms.models.resolve import resolve
found = resolve(sys.argv[1])
np.save(sys.argv[2], loading.load(found)(np.load(sys.argv[3])))
assert "tensorflow" not in sys.modules
print(found)
"""


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    monkeypatch.setenv("BEAM_IMAGE_EMBEDDINGS_CACHE", str(tmp_path / "kept"))
    yield tmp_path / "kept"
    _forget()
    cache._may_use.cache_clear()


def _forget():
    """As in a new process."""
    loading._load.cache_clear()
    converted._network.cache_clear()


@pytest.fixture
def model(tmp_path):
    return shutil.copytree(GOLDEN / "feature_vector_1", tmp_path / "model")


def _pixels(spec):
    return np.random.default_rng(0).integers(0, 256, (3, *spec.image_size, 3), np.uint8)


@pytest.mark.slow
def test_the_second_run_gives_the_same_without_tensorflow(model, tmp_path):
    first = resolve(str(model))
    np.save(tmp_path / "pixels.npy", _pixels(first))
    expected = loading.load(first)(_pixels(first))
    given = [model, tmp_path / "vectors.npy", tmp_path / "pixels.npy"]
    done = subprocess.run(
        [sys.executable, "-c", SECOND_RUN, *given], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout == f"{first}\n"
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.npy"), expected)


def test_what_has_changed_is_found_out_anew(model, tmp_path):
    first = resolve(str(model))
    assert resolve(str(model)) == first
    copy = shutil.copytree(model, tmp_path / "copy")
    assert resolve(str(copy)).location == str(copy)
    assert resolve(str(model), Choices(resize_mode="crop")).digest != first.digest
    (model / "another").write_text("file")
    assert resolve(str(model)).digest != first.digest
    assert len(list(cache.directory().glob("spec-*"))) == 4


@pytest.mark.slow
def test_a_model_that_is_edited_in_place_gives_its_own_vectors(tmp_path):
    class Scaled(tf.Module):
        def __init__(self, scale):
            self.scale = tf.Variable(scale)

        @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3))])
        def __call__(self, images):
            return self.scale * tf.reduce_mean(images, axis=[1, 2])

    white = np.full((1, 8, 8, 3), 255, np.uint8)
    for scale in (1.0, 2.0):
        tf.saved_model.save(Scaled(scale), str(tmp_path / "m"))
        for is_new_process in (False, True):
            if is_new_process:
                _forget()
            vectors = loading.load(resolve(str(tmp_path / "m"), Choices((8, 8))))(white)
            np.testing.assert_allclose(vectors, [[scale] * 3], rtol=1e-5)  # float32, by either engine
    assert len(list(cache.directory().glob("network-*"))) == 2


def test_a_note_beside_a_model_counts(tmp_path):
    class Free(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3))])
        def __call__(self, images):
            return tf.reduce_mean(images, axis=[1, 2])

    tf.saved_model.save(Free(), str(tmp_path / "m"))
    for size in (8, 9):
        (tmp_path / "m" / "assets.extra").mkdir(exist_ok=True)
        (tmp_path / "m" / "assets.extra" / "image_model.json").write_text(f'{{"image_size": [{size}, {size}]}}')
        assert resolve(str(tmp_path / "m")).image_size == (size, size)


def test_other_code_finds_out_anew(model, monkeypatch):
    resolve(str(model))
    monkeypatch.setattr(cache, "_versions", lambda: ["another version"])
    resolve(str(model))
    assert len(list(cache.directory().glob("spec-*"))) == 2


def test_what_is_broken_is_replaced(model, caplog):
    spec = resolve(str(model))
    expected = loading.load(spec)(_pixels(spec))
    (file,) = cache.directory().glob("spec-*/spec.json")
    file.write_text('{"name": 1}')
    (network,) = cache.directory().glob("network-*/network.xml")
    network.write_text("<net")
    _forget()
    assert resolve(str(model)) == spec
    np.testing.assert_array_equal(loading.load(spec)(_pixels(spec)), expected)
    assert f"{file}: not readable" in caplog.text and f"{network}: not readable" in caplog.text


def test_where_nothing_can_be_kept_all_works(model, directory, caplog):
    directory.write_text("a file where the directory should be")
    spec = resolve(str(model))
    with caplog.at_level(logging.WARNING):
        assert np.isfinite(loading.load(spec)(_pixels(spec))).all()
    assert caplog.text.count("the cache of models is not used: ") == 1


def test_a_cache_that_others_may_write_to_is_not_used(model, directory, caplog):
    """Whoever may write to it could have put another network there, which would run in place of the model."""
    spec = resolve(str(model))
    expected = loading.load(spec)(_pixels(spec))
    for network in directory.glob("network-*/network.*"):
        network.write_bytes(b"of somebody else")
    before = sorted(directory.rglob("*"))
    directory.chmod(0o777)
    cache._may_use.cache_clear()
    _forget()
    assert resolve(str(model)) == spec
    np.testing.assert_array_equal(loading.load(spec)(_pixels(spec)), expected)
    assert sorted(directory.rglob("*")) == before
    assert caplog.text.count("the cache of models is not used: ") == 1
    assert "kept' may be written by others" in caplog.text


def test_a_directory_that_is_no_model_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(handles, "files_digest", lambda path: pytest.fail("it may be a terabyte of photographs"))
    with pytest.raises(ValueError, match=r"expected saved_model\.pb"):
        resolve(str(tmp_path))


def test_by_default_it_is_in_the_cache_of_the_user(monkeypatch, tmp_path):
    monkeypatch.delenv("BEAM_IMAGE_EMBEDDINGS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.directory() == tmp_path / "beam-image-embeddings" / "models"


def test_where_the_cache_is(monkeypatch, tmp_path):
    """Of the variable, of the user's caches, in the home, and where there is none among temporary files."""
    own = "beam-image-embeddings", "models"
    monkeypatch.setenv("BEAM_IMAGE_EMBEDDINGS_CACHE", "/named")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache.directory() == Path("/named")
    monkeypatch.delenv("BEAM_IMAGE_EMBEDDINGS_CACHE")
    assert cache.directory() == Path("/caches", *own)
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.directory() == Path("/home/me/.cache", *own)
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: "/scratch")
    monkeypatch.delenv("HOME")
    assert cache.directory() == Path("/scratch/.cache", *own)


@pytest.mark.parametrize("numbers", [(0.5, None), (0.25, 0.125)])
def test_a_finding_is_read_back(numbers):
    entry = cache.directory() / "finding"
    assert cache.read_finding(entry) is None and not cache.has(entry)
    cache.write_finding(entry, numbers)
    assert cache.read_finding(entry) == numbers and cache.has(entry)
    cache.write_finding(entry, (9.0, 9.0))  # the first one stays
    assert cache.read_finding(entry) == numbers


@pytest.mark.parametrize("content", ["", "[1]", "[1, 2, 3]", "{}", '["x", null]', "[null, null]"])
def test_a_broken_finding_goes(content, caplog):
    entry = cache.directory() / "finding"
    cache.write_finding(entry, (0.5, None))
    (entry / "finding.json").write_text(content)
    assert cache.read_finding(entry) is None and not entry.exists()
    assert "finding.json: not readable" in caplog.text


@pytest.mark.parametrize("field", ["digest", "format", "location"])
def test_each_model_has_a_finding_of_its_own(field):
    spec = catalog.bundled(catalog.DEFAULT)
    other = dataclasses.replace(spec, **{field: "another"})
    assert cache.finding_entry(spec) == cache.finding_entry(spec) != cache.finding_entry(other)
    assert cache.finding_entry(spec).parent == cache.directory()


def test_a_disk_that_is_full_is_a_warning(monkeypatch, caplog):
    def fail(path, fill):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.complete, "fill_once", fail)
    cache.mark(cache.directory() / "agreement")
    assert "agreement: cannot be written ([Errno 28] No space left on device); the next run" in caplog.text
    assert not cache.has(cache.directory() / "agreement")


def test_a_cache_of_others_has_no_entry_and_gets_none(directory):
    entry = directory / "finding"
    cache.write_finding(entry, (0.5, None))
    directory.chmod(0o777)
    cache._may_use.cache_clear()
    assert cache.read_finding(entry) is None and not cache.has(entry)
    cache.mark(directory / "agreement")
    assert not (directory / "agreement").exists() and entry.exists()


def test_an_entry_depends_on_the_code_and_on_each_library(monkeypatch):
    versions = cache._versions()
    assert len(versions[0]) == 64 and importlib.metadata.version("openvino") in versions
    first = cache._entry("kind", "part")
    for number in range(len(versions)):
        changed = [*versions[:number], "another", *versions[number + 1 :]]
        with monkeypatch.context() as patch:
            patch.setattr(cache, "_versions", lambda changed=changed: changed)
            assert cache._entry("kind", "part") != first
    assert cache._entry("kind", "part") == first != cache._entry("kind", "other") and first.name.startswith("kind-")
