"""Reusable SavedModels: the interface of TF-Hub's models, fine-tuning, and directories that are complete."""

import stat
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub
import tf_keras

from tests.helpers import formula_weights, tiny_network
from tests.helpers.tiny_network import TinyNetwork
from transforms.models.slim import reusable

MEAN = "Tiny/Conv2d_1a_3x3/BatchNorm/moving_mean"
VARIANCE = "Tiny/Conv2d_1a_3x3/BatchNorm/moving_variance"
IMAGES = formula_weights.images(16, 24)


@pytest.fixture(scope="module")
def network():
    return TinyNetwork(tiny_network.weights())


@pytest.fixture(scope="module")
def features_model(network, tmp_path_factory):
    return reusable.write_reusable(network, tmp_path_factory.mktemp("tiny") / "features")


@pytest.fixture(scope="module")
def classes_model(network, tmp_path_factory):
    return reusable.write_reusable(network, tmp_path_factory.mktemp("tiny") / "classes", classification=True)


def named(variables, name):
    return next(variable for variable in variables if variable.name == f"{name}:0")


def batch_statistics():
    """The mean and unbiased variance, by channel, of what the first batch normalization gets for IMAGES."""
    kernel = tiny_network.weights()["Tiny/Conv2d_1a_3x3/weights"]
    pixels = tf.nn.conv2d(IMAGES * 2 - 1, kernel, 2, "VALID").numpy().reshape(-1, 4)
    return pixels.mean(axis=0), pixels.var(axis=0, ddof=1)


def test_features_and_logits_survive(network, features_model, classes_model):
    for images in (IMAGES, formula_weights.images(3, 7)):
        features = network(images)
        np.testing.assert_allclose(hub.load(str(features_model))(images), features, rtol=1e-5)
        np.testing.assert_allclose(hub.load(str(classes_model))(images), network.logits(features), rtol=1e-5, atol=1e-6)


def test_signatures_are_tf_hubs_for_images(network, features_model, classes_model):
    features = network(IMAGES)
    for path, name, expected in (
        (features_model, "image_feature_vector", features),
        (classes_model, "image_classification", network.logits(features)),
    ):
        signatures = hub.load(str(path)).signatures
        assert set(signatures) == {"serving_default", name}
        for signature in signatures.values():
            assert set(signature.structured_input_signature[1]) == {"images"}
            outputs = signature(images=tf.constant(IMAGES))
            assert set(outputs) == {"default"}
            np.testing.assert_allclose(outputs["default"], expected, rtol=1e-5, atol=1e-6)


def test_variables_are_exposed(network, features_model):
    loaded = hub.load(str(features_model))
    names = {variable.name.removesuffix(":0") for variable in loaded.variables}
    assert names == set(TinyNetwork.expected_variables())
    trainable = {variable.name.removesuffix(":0") for variable in loaded.trainable_variables}
    assert trainable == {name for name in names if "/moving_" not in name}
    (loss,) = loaded.regularization_losses
    assert float(loss()) == pytest.approx(float(network.regularization_loss()), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("momentum", [0.997, 0.99, 0.5, 0.0, 1, np.float32(0.75)])
def test_a_keras_layer_moves_the_averages_by_its_momentum(features_model, momentum):
    layer = hub.KerasLayer(str(features_model), trainable=True, arguments={"batch_norm_momentum": momentum})
    layer(IMAGES, training=True)
    for name, batch in zip((MEAN, VARIANCE), batch_statistics(), strict=True):
        expected = tiny_network.weights()[name] * momentum + batch * (1 - momentum)
        np.testing.assert_allclose(named(layer.variables, name), expected, rtol=1e-5, atol=1e-6)


def test_the_momentum_is_099_unless_given(features_model):
    layer = hub.KerasLayer(str(features_model), trainable=True)
    layer(IMAGES, training=True)
    expected = tiny_network.weights()[MEAN] * 0.99 + batch_statistics()[0] * 0.01
    np.testing.assert_allclose(named(layer.variables, MEAN), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("trainable", "training"), [(False, True), (True, False)])
def test_averages_rest_outside_training(features_model, trainable, training):
    layer = hub.KerasLayer(str(features_model), trainable=trainable, arguments={"batch_norm_momentum": 0.5})
    layer(IMAGES, training=training)
    np.testing.assert_array_equal(named(layer.variables, MEAN), tiny_network.weights()[MEAN])


def test_weight_decay_is_added_where_the_layer_trains(network, features_model):
    trained, frozen = (hub.KerasLayer(str(features_model), trainable=trainable) for trainable in (True, False))
    assert float(sum(trained.losses)) == pytest.approx(float(network.regularization_loss()), rel=1e-6)
    assert float(sum(frozen.losses)) == 0


@pytest.mark.slow
def test_two_steps_of_training_lower_the_loss(features_model):
    layer = hub.KerasLayer(str(features_model), trainable=True, arguments={"batch_norm_momentum": 0.997})
    model = tf_keras.Sequential([layer, tf_keras.layers.Dense(1, kernel_initializer="ones")])
    model.compile(tf_keras.optimizers.SGD(0.01), "mse")
    losses = model.fit(IMAGES, np.array([0.0, 1.0]), epochs=3, verbose=0).history["loss"]
    assert losses[0] > losses[1] > losses[2]


def test_the_classifier_drops_features_in_training_alone(classes_model):
    loaded = hub.load(str(classes_model))
    # Ones of a moving average that stands still: what differs between two calls is the dropout.
    calls = [loaded(IMAGES, training=True, batch_norm_momentum=1.0).numpy() for _ in range(8)]
    assert any(np.any(call != calls[0]) for call in calls)
    np.testing.assert_array_equal(loaded(IMAGES), loaded(IMAGES))


def test_a_network_without_its_classifier_has_no_logits(tmp_path):
    weights = {name: value for name, value in tiny_network.weights().items() if "/Logits/" not in name}
    network = TinyNetwork(weights)
    assert network(IMAGES).shape == (2, 6)
    with pytest.raises(ValueError, match="no weights 'Tiny/Logits/Logits/weights'"):
        reusable.write_reusable(network, tmp_path / "model", classification=True)
    assert list(tmp_path.iterdir()) == []


def test_others_may_read_the_directory_as_the_umask_says(features_model, tmp_path):
    (tmp_path / "plain").mkdir()
    assert stat.S_IMODE(features_model.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_parents_are_made_and_nothing_else_is_left(network, tmp_path):
    path = reusable.write_reusable(network, tmp_path / "models" / "tiny")
    assert path == tmp_path / "models" / "tiny"
    assert [entry.name for entry in path.parent.iterdir()] == ["tiny"]


def test_an_existing_directory_is_refused(network, tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(FileExistsError, match="exists: give another, or --overwrite to replace it"):
        reusable.write_reusable(network, tmp_path / "model")


@pytest.mark.slow
def test_overwriting_replaces_a_saved_model(network, tmp_path):
    path = reusable.write_reusable(network, tmp_path / "model")
    reusable.write_reusable(network, path, classification=True, overwrite=True)
    assert hub.load(str(path))(IMAGES).shape == (2, 3)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def _a_file(path: Path) -> None:
    path.write_text("mine")


def _a_directory_of_others(path: Path) -> None:
    path.mkdir()
    (path / "thesis.tex").write_text("mine")


def _a_saved_model_with_a_file_of_others(path: Path) -> None:
    _a_directory_of_others(path)
    (path / "saved_model.pb").touch()


@pytest.mark.parametrize("occupy", [_a_file, _a_directory_of_others, _a_saved_model_with_a_file_of_others])
def test_overwriting_deletes_nothing_but_saved_models(network, tmp_path, occupy):
    occupy(tmp_path / "model")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FileExistsError, match="is not replaced, it holds more than this command writes"):
        reusable.write_reusable(network, tmp_path / "model", overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_overwriting_a_link_leaves_what_it_points_to(network, tmp_path):
    target = reusable.write_reusable(network, tmp_path / "target")
    link = tmp_path / "link"
    link.symlink_to(target)
    reusable.write_reusable(network, link, classification=True, overwrite=True)
    assert not link.is_symlink()
    assert hub.load(str(target))(IMAGES).shape == (2, 6)


@pytest.mark.slow
def test_a_write_that_fails_leaves_nothing_new(network, tmp_path, monkeypatch):
    path = reusable.write_reusable(network, tmp_path / "model")

    def fail(model, directory, signatures):
        (Path(directory) / "variables").mkdir()
        raise tf.errors.ResourceExhaustedError(None, None, "no space left on device")

    monkeypatch.setattr(tf.saved_model, "save", fail)
    for output, overwrite in ((path, True), (tmp_path / "other", False)):
        with pytest.raises(OSError, match="no space left on device"):
            reusable.write_reusable(network, output, classification=True, overwrite=overwrite)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
    assert hub.load(str(path))(IMAGES).shape == (2, 6)


@pytest.mark.slow
def test_a_rename_that_fails_puts_the_old_model_back(network, tmp_path, monkeypatch):
    path = reusable.write_reusable(network, tmp_path / "model")
    rename, failed = Path.rename, []

    def fail_for_the_new(self, target):
        if target == path and (self / "saved_model.pb").exists() and not failed:
            failed.append(self)
            raise OSError("the disk is gone")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new)
    with pytest.raises(OSError, match="the disk is gone"):
        reusable.write_reusable(network, path, classification=True, overwrite=True)
    assert hub.load(str(path))(IMAGES).shape == (2, 6)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_a_uri_is_refused(network):
    with pytest.raises(ValueError, match="output='gs://bucket/model' is a URI: expected a local directory"):
        reusable.write_reusable(network, "gs://bucket/model")
