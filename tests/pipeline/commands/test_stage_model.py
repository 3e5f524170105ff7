"""pipeline.commands.stage_model: a copy is complete, is recognized the next time, and has the model's digest."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.commands import inspect_model, stage_model
from tests.helpers import cloud_storage, onnx_models
from tests.helpers.emulators import environment, storage_emulator
from transforms.models import handles, notes
from transforms.models.engines import opening
from transforms.models.preprocessing import Choices
from transforms.models.resolve import resolve
from transforms.storage.context import Storage
from transforms.storage.stores import gcs

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parents[2] / "golden" / "tf1_hub"


def stage(*argv):
    return stage_model.main([str(part) for part in argv])


def test_a_copy_is_the_same_model_and_notes_its_size(tmp_path, capsys):
    assert stage(GOLDEN / "feature_vector_3", tmp_path / "m") == 0
    assert handles.files_digest(tmp_path / "m") == handles.files_digest(GOLDEN / "feature_vector_3")
    assert notes.image_size(tmp_path / "m") == (16, 16)
    assert notes.handle(tmp_path / "m") == str(GOLDEN / "feature_vector_3")
    assert "4 files copied" in capsys.readouterr().out


def test_again_changes_nothing_and_another_needs_overwrite(tmp_path, capfd):
    assert stage(GOLDEN / "feature_vector_3", tmp_path / "m") == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "m").rglob("*")}
    assert stage(GOLDEN / "feature_vector_3", tmp_path / "m") == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "m").rglob("*")} == before
    assert "it is there already" in capfd.readouterr().out
    assert stage(GOLDEN / "feature_vector_1", tmp_path / "m") == 2
    assert capfd.readouterr().err == (
        f"stage-model: destination='{tmp_path}/m' exists: give another, or --overwrite to replace it\n"
    )
    assert stage(GOLDEN / "feature_vector_1", tmp_path / "m", "--overwrite") == 0
    assert handles.files_digest(tmp_path / "m") == handles.files_digest(GOLDEN / "feature_vector_1")


def test_a_copy_that_broke_off_is_no_model_and_is_completed(tmp_path):
    assert stage(GOLDEN / "feature_vector_3", tmp_path / "m") == 0
    (tmp_path / "m" / "saved_model.pb").unlink()  # it is copied last
    assert stage(GOLDEN / "feature_vector_3", tmp_path / "m") == 0
    assert handles.files_digest(tmp_path / "m") == handles.files_digest(GOLDEN / "feature_vector_3")


def test_what_is_no_model_is_not_replaced(tmp_path, capfd):
    assert stage(GOLDEN / "feature_vector_3", tmp_path / "m") == 0
    (tmp_path / "m" / "thesis.tex").write_text("years of work")
    before = sorted(tmp_path.rglob("*"))
    assert stage(GOLDEN / "feature_vector_1", tmp_path / "m", "--overwrite") == 2
    assert "is not replaced, it holds more than this command writes" in capfd.readouterr().err
    (tmp_path / "m" / "saved_model.pb").unlink()  # nor does a copy that broke off take a place that has another use
    assert stage(GOLDEN / "feature_vector_1", tmp_path / "m") == 2
    assert sorted([*tmp_path.rglob("*"), tmp_path / "m" / "saved_model.pb"]) == before


def test_a_copy_that_fails_leaves_the_model_that_is_there(tmp_path, monkeypatch):
    assert stage(GOLDEN / "feature_vector_3", tmp_path / "m") == 0

    def fail(source, target):
        raise OSError("no space left on device")

    monkeypatch.setattr(shutil, "copyfile", fail)
    assert stage(GOLDEN / "feature_vector_1", tmp_path / "m", "--overwrite") == 2
    assert handles.files_digest(tmp_path / "m") == handles.files_digest(GOLDEN / "feature_vector_3")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize(
    ("handle", "message"),
    [("efficientnet_lite0", "nothing to stage"), ("nothing", "no such directory, archive or hub handle")],
)
def test_a_model_that_cannot_be_staged(tmp_path, capfd, handle, message):
    assert stage(handle, tmp_path / "m") == 2
    err = capfd.readouterr().err
    assert err.startswith("stage-model: ") and message in err and err.count("\n") == 1
    assert not (tmp_path / "m").exists()


def test_a_link_that_leads_out_is_not_published(tmp_path, capfd):
    model = shutil.copytree(GOLDEN / "feature_vector_3", tmp_path / "model")
    (tmp_path / "private").write_text("secret")
    (model / "assets").mkdir(exist_ok=True)
    (model / "assets" / "names").symlink_to(tmp_path / "private")
    assert stage(model, tmp_path / "m") == 2
    assert "/assets/names' is a link that leads out of the model" in capfd.readouterr().err
    assert not (tmp_path / "m").exists()


def test_a_destination_elsewhere(capfd):
    assert stage(GOLDEN / "feature_vector_3", "hdfs://models/m") == 2
    expected = "destination='hdfs://models/m': expected a directory, local or in a bucket (gs://, s3://, az://)"
    assert expected in capfd.readouterr().err


def test_a_bucket_from_end_to_end(tmp_path, monkeypatch, capfd):
    """Staged, staged again, looked at and opened as a worker does: each request is billed to the project."""
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "server").mkdir()
    with (
        storage_emulator(tmp_path / "server") as address,
        cloud_storage.proxy(address["STORAGE_EMULATOR_HOST"]) as front,
        cloud_storage.clients_of(monkeypatch, front.url),
    ):
        gcs.client().create_bucket("models")
        gcs.client.cache_clear()
        front.requests.clear()
        billed = "--billing_project", "payer"
        assert stage(GOLDEN / "feature_vector_3", "gs://models/m", *billed) == 0
        assert stage(GOLDEN / "feature_vector_3", "gs://models/m/", *billed) == 0
        assert "it is there already" in capfd.readouterr().out
        assert stage(GOLDEN / "feature_vector_1", "gs://models/m", *billed) == 2
        assert "destination='gs://models/m' exists: give another" in capfd.readouterr().err
        assert stage(GOLDEN / "feature_vector_1", "gs://models/m", "--overwrite", *billed) == 0
        spec = resolve("gs://models/m", Choices((16, 16)), storage=Storage("payer"))
        assert spec == resolve("gs://models/m", Choices((16, 16)), storage=Storage("payer"))  # as kept
        shutil.rmtree(tmp_path / "cache")  # a worker is another machine
        opening._open.cache_clear()
        listed = len(front.requests)
        assert opening.open_model(pickle.loads(pickle.dumps(spec))).parameters() > 0  # noqa: S301 - made here
        assert len(front.requests) > listed
        assert inspect_model.main(["gs://models/m", "--batch_size", "1", *billed]) == 0
        assert f"digest                {spec.digest}" in capfd.readouterr().out
        unbilled = [request for request in front.requests if "userProject=payer" not in request[1]]
        assert not unbilled
    assert spec.digest == resolve(str(GOLDEN / "feature_vector_1"), Choices((16, 16))).digest
    assert spec.storage == Storage("payer") and "storage" not in spec.facts()


def test_an_onnx_model_with_its_external_data(tmp_path, capsys):
    source = onnx_models.write(tmp_path / "mine.onnx", external="weights/w.bin")
    (tmp_path / "beside.txt").write_text("no part of it")
    assert stage(source, tmp_path / "m") == 0
    staged = sorted(
        path.relative_to(tmp_path / "m").as_posix() for path in (tmp_path / "m").rglob("*") if path.is_file()
    )
    assert staged == ["assets.extra/image_model.json", "model.onnx", "weights/w.bin"]
    assert resolve(str(tmp_path / "m"), Choices((8, 9))).digest == resolve(str(source), Choices((8, 9))).digest
    assert stage(source, tmp_path / "m") == 0
    assert "it is there already" in capsys.readouterr().out


def test_the_preprocessing_comes_along(tmp_path, capsys):
    source = onnx_models.write(tmp_path / "mine.onnx")
    config = tmp_path / "preprocess_cfg.json"
    for size in (8, 9):  # the second replaces the first, although the network is the same
        config.write_text(json.dumps({"size": size}))
        assert stage(source, tmp_path / "m", "--overwrite") == 0
        assert "it is there already" not in capsys.readouterr().out
        assert (tmp_path / "m" / "preprocess_cfg.json").read_text() == config.read_text()
        staged = resolve(str(tmp_path / "m"))
        assert staged.preprocessing.interpolation == "bicubic" and staged.image_size == (size, size)
        assert staged.digest == resolve(str(source)).digest


def test_a_model_of_another_format_is_not_replaced_unasked(tmp_path, capfd):
    source = onnx_models.write(tmp_path / "mine.onnx")
    assert stage(GOLDEN / "feature_vector_3", tmp_path / "m") == 0
    assert stage(source, tmp_path / "m") == 2
    assert "exists: give another, or --overwrite to replace it" in capfd.readouterr().err
    assert stage(source, tmp_path / "m", "--overwrite") == 0
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["assets.extra", "model.onnx"]
    assert stage(GOLDEN / "feature_vector_3", tmp_path / "m", "--overwrite") == 0
    assert handles.files_digest(tmp_path / "m") == handles.files_digest(GOLDEN / "feature_vector_3")


def test_an_onnx_model_in_a_directory_of_links(tmp_path, capfd):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "m.onnx").symlink_to(onnx_models.write(tmp_path / "private.onnx"))
    assert stage(tmp_path / "model", tmp_path / "m") == 2
    assert "/model/m.onnx' is a link that leads out of the model" in capfd.readouterr().err


def test_an_onnx_model_to_a_bucket_and_back(tmp_path, monkeypatch):
    """The .onnx alone is named, and its data comes along. Only objects that change are read again."""
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "server").mkdir()
    source = onnx_models.write(tmp_path / "mine.onnx", external="weights/w.bin")
    expected = resolve(str(source), Choices((8, 9)))
    with (
        storage_emulator(tmp_path / "server") as address,
        cloud_storage.proxy(address["STORAGE_EMULATOR_HOST"]) as front,
        cloud_storage.clients_of(monkeypatch, front.url),
    ):
        gcs.client().create_bucket("models")
        assert stage(source, "gs://models/m") == 0
        front.requests.clear()
        for handle in ("gs://models/m/model.onnx", "gs://models/m/model.onnx", "gs://models/m"):
            spec = resolve(handle, Choices((8, 9)))
            assert spec.digest == expected.digest and spec.location == handle
        read = [path for _, path, *_ in front.requests if "alt=media" in path]
        assert len([path for path in read if "model.onnx" in path]) == 2  # once for the file, once for the directory
        gcs.client().bucket("models").blob("m/preprocess_cfg.json").upload_from_string('{"size": 8}')
        assert resolve("gs://models/m/model.onnx").preprocessing.interpolation == "bicubic"
        changed = bytes(60)
        gcs.client().bucket("models").blob("m/weights/w.bin").upload_from_string(changed)
        path = handles.local_path("gs://models/m/model.onnx")
        assert (path.parent / "weights" / "w.bin").read_bytes() == changed
        gcs.client().bucket("models").blob("m/weights/w.bin").delete()
        with pytest.raises(ValueError, match="there is no object 'gs://models/m/weights/w.bin'"):
            handles.local_path("gs://models/m/model.onnx")


def test_to_a_bucket_and_through_the_pipeline(tmp_path):
    (tmp_path / "server").mkdir()
    with storage_emulator(tmp_path / "server") as address:
        env = environment(address) | {"TFHUB_CACHE_DIR": str(tmp_path / "cache")}
        make = "from google.cloud import storage; storage.Client().create_bucket('models')"
        subprocess.run([sys.executable, "-c", make], env=env, check=True)
        module = tmp_path / "module"
        shutil.copytree(GOLDEN / "classification_3", module)
        command = [sys.executable, "-m", "pipeline", "stage-model", module, "gs://models/c3"]
        subprocess.run(command, env=env, check=True, capture_output=True)
        shutil.rmtree(module)  # from now on there is only the staged one
        from tests.helpers.running import run_pipeline

        run = run_pipeline(tmp_path / "out", "--model", "gs://models/c3", "--top_classes", 3, env=env, fresh=True)
    assert run.code == 0, run.stderr
    model = run.report["model"]
    assert (model["format"], model["location"], model["dimension"]) == ("tf1_hub", "gs://models/c3", 5)
    for row in run.rows:
        best = row["embedding"].argsort()[::-1][:3]
        assert row["label/index"] == best.tolist()
        assert row["label/name"] == [str(index).encode() for index in best]
        assert sorted(row["label/score"], reverse=True) == row["label/score"] and sum(row["label/score"]) <= 1.0001
