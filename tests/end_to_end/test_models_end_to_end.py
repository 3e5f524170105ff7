"""Models through the whole command: each format, each way to name it, vectors equal to a direct call's."""

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub

from pipeline.flags import options
from tests.helpers import data_generation as data
from tests.helpers.running import run_pipeline, run_refused
from transforms.images import decoding
from transforms.models.slim import checkpoint

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parents[1] / "golden" / "tf1_hub"
SAMPLES = sorted(Path(options.SAMPLES).parent.iterdir())


def pixels(paths, size):
    return np.stack([decoding.decode(path.read_bytes(), size).pixels for path in paths])


def in_unit_range(batch):
    return tf.constant(batch, tf.float32) / 255


def check_vectors(run, paths, direct, tolerance):
    """Asserts that a run gave each path the vector of the same row of `direct`, to a part of the largest component."""
    assert run.code == 0, run.stderr
    vectors = run.vectors()
    assert sorted(vectors) == sorted(os.fsencode(path) for path in paths)
    found = np.stack([vectors[os.fsencode(path)] for path in paths])
    assert np.abs(found - direct).max() <= tolerance * np.abs(direct).max()


def test_inception_resnet_v2_on_photographs(inception_resnet_v2, tmp_path):
    paths = data.write_images(tmp_path / "photos", 8, height=120, width=160)
    run = run_pipeline(tmp_path / "out", "--input", tmp_path / "photos", "--model", inception_resnet_v2.output)
    model = run.report["model"]
    assert (model["format"], model["dimension"], model["image_size"]) == ("tf2", 1536, [299, 299])  # noted at import
    network = hub.load(str(inception_resnet_v2.output))
    direct = network(in_unit_range(pixels(paths, (299, 299)))).numpy()
    check_vectors(run, paths, direct, 1e-4)  # float32, in batches of other sizes


def test_inception_v2(inception_v2, tmp_path):
    report = inception_v2[checkpoint.FEATURE_VECTOR]
    run = run_pipeline(tmp_path / "out", "--model", report.output)
    assert run.report["model"]["dimension"] == 1024
    layer = hub.KerasLayer(str(report.output))
    check_vectors(run, SAMPLES, layer(in_unit_range(pixels(SAMPLES, (224, 224)))).numpy(), 1e-4)


def test_inception_v2_as_a_classifier(inception_v2, tmp_path):
    directory = inception_v2[checkpoint.CLASSIFICATION].output
    run = run_pipeline(tmp_path / "out", "--model", directory)
    logits = hub.load(str(directory))(in_unit_range(pixels(SAMPLES, (224, 224)))).numpy()
    assert logits.shape[1] == 1001
    check_vectors(run, SAMPLES, logits, 1e-4)
    rows = {row["image/key"]: row for row in run.rows}
    for path, row in zip(SAMPLES, logits, strict=True):
        record = rows[os.fsencode(path)]
        assert record["label/index"] == row.argsort()[::-1][:5].tolist()
        assert all(isinstance(name, bytes) and name for name in record["label/name"])
        np.testing.assert_allclose(record["label/score"], np.sort(tf.nn.softmax(row))[::-1][:5], rtol=1e-3)


# Names, and modules of their format: those of these names are not to be had without a network.
CACHED = {
    "inception_resnet_v2/3": "feature_vector_3",
    "inception_resnet_v2/1": "feature_vector_1",
    "inception_v2": "feature_vector_1",
    "inception_resnet_v2/classification/3": "classification_3",
}


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory):
    from transforms.models import catalog

    directory = tmp_path_factory.mktemp("hub")
    for name, module in CACHED.items():
        digest = hashlib.sha1(catalog.HUB[name].handle.encode()).hexdigest()  # noqa: S324 - as hub does
        shutil.copytree(GOLDEN / module, directory / digest)
    return directory


@pytest.mark.parametrize(("name", "module"), CACHED.items(), ids=CACHED)
def test_names_find_what_tensorflow_hub_has_cached(hub_cache, tmp_path, name, module):
    run = run_pipeline(tmp_path / "out", "--model", name, env=os.environ | {"TFHUB_CACHE_DIR": str(hub_cache)})
    assert run.code == 0, run.stderr
    assert run.report["model"]["name"] == name and run.report["model"]["format"] == "tf1_hub"
    signature = hub.load(str(GOLDEN / module)).signatures["default"]
    direct = signature(images=in_unit_range(pixels(SAMPLES, (16, 16))))["default"].numpy()
    check_vectors(run, SAMPLES, direct, 1e-5)
    assert ("label/index" in run.rows[0]) == ("classification" in name)


def test_a_signature_of_a_tf1_module(tmp_path):
    flags = ["--model", GOLDEN / "feature_vector_3", "--model_signature", "image_feature_vector_with_bn_hparams"]
    run = run_pipeline(tmp_path / "out", *flags, "--image_size", "20x28")
    assert run.code == 0, run.stderr
    signature = hub.load(str(GOLDEN / "feature_vector_3")).signatures["default"]
    direct = signature(images=in_unit_range(pixels(SAMPLES, (20, 28))))["default"].numpy()
    check_vectors(run, SAMPLES, direct, 1e-5)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--model", GOLDEN / "feature_vector_1", "--image_size", "20x20"], "takes images of 16x16 pixels only"),
        (["--model", GOLDEN / "feature_vector_1", "--model_signature", "x"], "expected one of default, image_feature"),
        (["--model", GOLDEN / "feature_vector_1", "--model_tags", "serve"], "no such variant in this model"),
        (["--model", GOLDEN], "expected saved_model.pb there"),
        (["--model", GOLDEN / "feature_vector_1", "--runner=DataflowRunner"], "Dataflow's workers cannot read it"),
    ],
    ids=["size", "signature", "tags", "no model", "not staged"],
)
def test_what_is_wrong_with_a_model_is_said_in_one_line_before_any_work(tmp_path, flags, said):
    check_refused(run_refused(tmp_path / "out", *flags), said)


def test_a_model_that_cannot_be_fetched_is_said_in_one_line_before_any_work(tmp_path):
    env = os.environ | {"https_proxy": "http://127.0.0.1:9", "KAGGLEHUB_CACHE": str(tmp_path / "kaggle")}
    model = "google/inception-v2/tensorFlow1/feature-vector/1"
    run = run_pipeline(tmp_path / "out", "--model", model, env=env, fresh=True)
    check_refused(run, "is not cached here and cannot be fetched")


def check_refused(run, said):
    assert run.code == 2, run.stderr
    assert run.stderr.startswith("run_pipeline.py: ") and run.stderr.count("\n") == 1 and said in run.stderr
    assert not run.output.exists()
