"""transforms.models.checked_copy: a model that is replaced between the launch and its loading is never loaded."""

import dataclasses
import os
import re
import shutil
import tempfile
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import onnx_models, tiny_module
from transforms.models import checked_copy, handles
from transforms.models.engines import cache, converted, loading, opening
from transforms.models.preprocessing import Choices
from transforms.models.resolve import resolve
from transforms.models.spec import ModelSpec
from transforms.storage.context import Storage

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 3), np.uint8)
SIZE = PIXELS.shape[1:3]


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("BEAM_IMAGE_EMBEDDINGS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "hub"))
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    forget()
    yield tmp_path / "cache"
    cache._may_use.cache_clear()


def forget():
    """Forgets all loaded models, as another process has not loaded any."""
    for opened in (loading._load, opening._open, converted._network):
        opened.cache_clear()


def spec_of(location, **changes):
    return ModelSpec("m", "tf2", str(location), "", (), 3, SIZE, "d" * 64, **changes)


def saved_model(directory, scale):
    tf.saved_model.save(tiny_module.ScaledModule(scale), str(directory / "m"))
    return directory / "m"


def keras_file(directory, scale):
    scaled = [keras.Input((*SIZE, 3)), keras.layers.Rescaling(scale), keras.layers.GlobalAveragePooling2D()]
    keras.Sequential(scaled).save(directory / "m.keras")
    return directory / "m.keras"


def onnx(directory, scale):
    file = onnx_models.write(directory / "m.onnx", external="w.bin")
    kernel = np.fromfile(directory / "w.bin", np.float32)
    (scale * kernel).tofile(directory / "w.bin")
    return file


def openvino_ir(directory, scale):
    openvino = pytest.importorskip("openvino")
    onnx(directory, scale)
    openvino.save_model(openvino.Core().read_model(directory / "m.onnx"), directory / "m.xml", compress_to_fp16=False)
    (directory / "m.onnx").unlink()
    return directory / "m.xml"


FORMATS = pytest.mark.parametrize("write", [saved_model, keras_file, onnx, openvino_ir])


def made(write, tmp_path):
    """Returns the spec of a model, and the directories of it and of another one of the same form."""
    directories = [tmp_path / name for name in ("first", "second")]
    for directory, scale in zip(directories, (1.0, 2.0), strict=True):
        directory.mkdir()
        file = write(directory, scale)
    spec = resolve(str(directories[0] / file.name), Choices(SIZE))
    assert spec.files and spec.files != resolve(str(file), Choices(SIZE)).files
    forget()
    shutil.rmtree(cache.directory(), ignore_errors=True)
    return spec, *directories


@pytest.mark.slow
@FORMATS
def test_a_model_replaced_after_the_launch_is_not_loaded(write, tmp_path):
    spec, first, second = made(write, tmp_path)
    expected = loading.load(spec)(PIXELS)
    forget()
    shutil.rmtree(cache.directory(), ignore_errors=True)
    first.rename(tmp_path / "away")
    second.rename(first)
    with pytest.raises(checked_copy.Changed, match=re.escape(spec.location)) as caught:
        loading.load(spec)
    assert "\n" not in str(caught.value) and "launch a new run" in str(caught.value)
    shutil.rmtree(first)
    (tmp_path / "away").rename(first)
    np.testing.assert_array_equal(loading.load(spec)(PIXELS), expected)
    assert list((tmp_path / "scratch").glob("embed-images-model-*")) == []


@pytest.mark.slow
@FORMATS
def test_a_model_changed_in_place_after_it_was_loaded_stays_as_it_was(write, tmp_path):
    spec, first, second = made(write, tmp_path)
    model = loading.load(spec)
    expected = model(PIXELS)
    for file in second.rglob("*"):
        if file.is_file():
            with open(first / file.relative_to(second), "r+b") as target:
                target.truncate(0)  # what was mapped into memory would now end the process
                target.write(file.read_bytes())
    np.testing.assert_array_equal(model(PIXELS), expected)
    assert loading.load(spec) is model  # it has what the digest says


def test_what_was_converted_from_the_same_files_needs_them_no_more(tmp_path):
    pytest.importorskip("openvino")
    write = saved_model(tmp_path, 2.0)
    spec = resolve(str(write), Choices(SIZE))
    expected = loading.load(spec)(PIXELS)
    forget()
    saved_model(tmp_path, 3.0)
    np.testing.assert_array_equal(loading.load(spec)(PIXELS), expected)


def test_the_bytes_that_are_loaded_are_those_that_were_hashed(tmp_path):
    spec = resolve(str(onnx(tmp_path, 1.0)), Choices(SIZE))
    with checked_copy.files(spec) as path:
        onnx(tmp_path, 2.0)  # between the check and the loading
        assert handles.files_digest(path) == spec.files != handles.files_digest(tmp_path / "m.onnx")
    assert not path.exists()


def test_copies_are_removed_before_the_end_of_a_process(tmp_path):
    spec = resolve(str(onnx(tmp_path, 1.0)), Choices(SIZE))
    with checked_copy.files(spec) as path:
        checked_copy.remove_all()
        assert not path.exists()
    assert not checked_copy._copies


def test_copies_whose_block_ends_meanwhile_are_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr(checked_copy, "_copies", {str(tmp_path / name) for name in ("a", "b")})
    rmtree = shutil.rmtree

    def too_late(directory, **options):
        checked_copy._copies.discard(directory)
        rmtree(directory, **options)

    monkeypatch.setattr(shutil, "rmtree", too_late)
    checked_copy.remove_all()
    assert not checked_copy._copies


def test_files_in_directories_of_directories(tmp_path):
    (tmp_path / "m" / "assets.extra" / "a").mkdir(parents=True)
    for name in ("saved_model.pb", "assets.extra/a/b.txt"):
        (tmp_path / "m" / name).write_text(name)
    with checked_copy.files(spec_of(tmp_path / "m", files=handles.files_digest(tmp_path / "m"))) as path:
        assert (path / "assets.extra/a/b.txt").read_text() == "assets.extra/a/b.txt"


def test_the_project_of_the_model_pays_for_its_files(tmp_path, monkeypatch):
    monkeypatch.setattr(handles, "local_path", lambda location, storage: tmp_path / location / storage.billing_project)
    with checked_copy.files(spec_of("m", storage=Storage("ours"))) as path:
        assert path == tmp_path / "m" / "ours"


def test_without_a_digest_there_is_nothing_to_hold_the_files_against(tmp_path):
    file = onnx(tmp_path, 1.0)
    spec = resolve(str(file), Choices(SIZE))
    assert checked_copy.memory_key(spec) == ()
    unknown = dataclasses.replace(spec, files="")
    assert checked_copy.memory_key(unknown) == handles.files_state(spec.location)
    onnx(tmp_path, 2.0)
    with checked_copy.files(unknown) as path:
        assert path == handles.local_path(spec.location, None)


def test_a_file_that_goes_while_it_is_copied(tmp_path, monkeypatch):
    spec = resolve(str(onnx(tmp_path, 1.0)), Choices(SIZE))
    copy_file = checked_copy._copy_file
    monkeypatch.setattr(checked_copy, "_copy_file", lambda *args: (tmp_path / "w.bin").unlink(True) or copy_file(*args))
    with pytest.raises(checked_copy.Changed, match="is gone"), checked_copy.files(spec):
        pass


def test_a_link_that_is_turned_to_another_model(tmp_path):
    for name, scale in (("v1", 1.0), ("v2", 2.0)):
        (tmp_path / name).mkdir()
        onnx(tmp_path / name, scale)
    (tmp_path / "current").symlink_to("v1")
    spec = resolve(str(tmp_path / "current"), Choices(SIZE))
    (tmp_path / "new").symlink_to("v2")
    (tmp_path / "new").rename(tmp_path / "current")
    with pytest.raises(checked_copy.Changed), checked_copy.files(spec):
        pass


def test_links_to_files_as_in_a_snapshot_of_hugging_face(tmp_path):
    (tmp_path / "blobs").mkdir()
    onnx_models.write(tmp_path / "blobs" / "0a1b")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "model.onnx").symlink_to("../blobs/0a1b")
    spec = resolve(str(tmp_path / "snapshot"), Choices(SIZE))
    with checked_copy.files(spec) as path:
        assert not (path / "model.onnx").is_symlink()
    onnx_models.write(tmp_path / "blobs" / "0a1b", shape=("n", "h", "w", 3))
    with pytest.raises(checked_copy.Changed), checked_copy.files(spec):
        pass


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path, monkeypatch):
    spec = resolve(str(onnx(tmp_path, 1.0)), Choices(SIZE))
    copy_file = checked_copy._copy_file

    def replaced(source, target):
        if source.name == "w.bin":
            source.unlink()
            os.mkfifo(source)
        return copy_file(source, target)

    monkeypatch.setattr(checked_copy, "_copy_file", replaced)
    with pytest.raises(OSError, match="no regular file any more"), checked_copy.files(spec):
        pass


def test_a_model_replaced_while_it_is_tried_gets_no_digest(tmp_path, monkeypatch):
    file = keras_file(tmp_path, 1.0)
    inspect = cache.write_spec
    written = threading.Event()
    monkeypatch.setattr(cache, "write_spec", lambda *args: written.set() or inspect(*args))
    files = checked_copy.files

    def after_the_look(spec):
        keras_file(tmp_path, 2.0)
        return files(spec)

    monkeypatch.setattr(checked_copy, "files", after_the_look)
    with pytest.raises(checked_copy.Changed):
        resolve(str(file), Choices(SIZE))
    assert not written.is_set()
