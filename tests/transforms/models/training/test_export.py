"""transforms.models.training.export: what is written can be used, and trained again."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub

from tests.helpers import tiny_module
from transforms.models import class_names, notes
from transforms.models.training import classifier, export

SIZE = (16, 20)
IMAGES = np.random.default_rng(0).random((5, *SIZE, 3), np.float32)
NUMBERS = np.arange(5, dtype=np.int32) % 3
CLASSES = ("cat", "red dog", "世")


class Deaf:
    def batch(self, epoch, batch, measured):
        pass

    def epoch(self, epoch, measured):
        pass


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A module after some training, its classifier, and where both were written."""
    directory = tmp_path_factory.mktemp("trained")
    module = classifier.load_module(tiny_module.write(directory / "module"))
    model = classifier.image_classifier(module, SIZE, 3, trainable=True, batch_norm_momentum=0.5)
    data = tf.data.Dataset.from_tensor_slices((IMAGES, NUMBERS)).batch(5)
    classifier.fit(model, data, None, epochs=3, learning_rate=0.1, patience=1, watch=Deaf())
    export.write_classifier(model, CLASSES, directory / "classifier")
    export.write_module(module, SIZE, directory / "feature_vector")
    return module, model, directory


def test_a_classifier_gives_the_probabilities_of_the_model(trained):
    _, model, directory = trained
    classifier = hub.load(str(directory / "classifier"))
    expected = model(IMAGES, training=False).numpy()
    for found in (classifier(IMAGES), classifier.signatures["serving_default"](tf.constant(IMAGES))["probabilities"]):
        np.testing.assert_allclose(found, expected, atol=1e-6)  # float32
    np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-6)
    assert class_names.names(directory / "classifier", False, 3) == CLASSES


def test_the_image_size_is_noted(trained):
    _, _, directory = trained
    for name in ("classifier", "feature_vector"):
        assert notes.image_size(directory / name) == SIZE


def test_the_module_gives_the_vectors_within_the_classifier(trained):
    module, _, directory = trained
    reloaded, classifier = (hub.load(str(directory / name)) for name in ("feature_vector", "classifier"))
    vectors = reloaded(IMAGES).numpy()
    assert vectors.dtype == np.float32 and vectors.shape == (5, tiny_module.FEATURES)
    np.testing.assert_allclose(vectors, module(IMAGES), atol=1e-6)
    logits = vectors @ classifier.kernel.numpy() + classifier.bias.numpy()
    np.testing.assert_allclose(tf.nn.softmax(logits), classifier(IMAGES), atol=1e-6)
    original = hub.load(str(directory / "module"))
    assert np.abs(vectors - original(IMAGES)).max() > 0.01  # it was trained


def test_the_module_is_reusable(trained):
    module, _, directory = trained
    reloaded = hub.load(str(directory / "feature_vector"))
    assert [variable.shape for variable in reloaded.variables] == [variable.shape for variable in module.variables]
    assert [variable.shape for variable in reloaded.trainable_variables] == [(3, 3, 3, 8)]
    (loss,), (original,) = reloaded.regularization_losses, module.regularization_losses
    assert float(loss()) == pytest.approx(float(original()), rel=1e-6) and float(loss()) > 0  # float32
    served = reloaded.signatures["serving_default"]
    np.testing.assert_allclose(served(tf.constant(IMAGES))["default"], reloaded(IMAGES), atol=1e-6)
    assert served.structured_input_signature[1]["images"].shape.as_list() == [None, *SIZE, 3]
    assert reloaded(np.zeros((2, 30, 30, 3), np.float32)).shape == (2, 8)  # other sizes, as before


def test_the_module_can_be_trained_again(trained):
    _, _, directory = trained
    again = classifier.load_module(directory / "feature_vector")
    kernel, mean, _ = (variable.numpy() for variable in again.variables)
    model = classifier.image_classifier(again, SIZE, 3, trainable=True, batch_norm_momentum=0.25)
    data = tf.data.Dataset.from_tensor_slices((IMAGES, NUMBERS)).batch(5)
    classifier.fit(model, data, None, epochs=1, learning_rate=0.1, patience=1, watch=Deaf())
    batch_mean, _ = tiny_module.batch_statistics(IMAGES, kernel)
    np.testing.assert_allclose(again.variables[1], 0.25 * mean + 0.75 * batch_mean, atol=1e-5)  # float32 sums


def test_a_module_without_the_optional_parts(tmp_path):
    module = classifier.load_module(tiny_module.write_plain(tmp_path / "plain"))
    export.write_module(module, (24, 40), tmp_path / "feature_vector")
    reloaded = hub.load(str(tmp_path / "feature_vector"))
    for name in ("variables", "trainable_variables", "regularization_losses"):
        assert list(getattr(reloaded, name)) == []
    images = np.random.default_rng(0).random((2, 24, 40, 3), np.float32)
    np.testing.assert_allclose(reloaded(images), images.mean(axis=(1, 2)), atol=1e-5)  # float32 sums


def test_a_classifier_over_vectors(tmp_path):
    vectors = np.random.default_rng(0).normal(3, 10, (20, 6)).astype(np.float32)
    model = classifier.vector_classifier(vectors, np.arange(20), 3)
    export.write_classifier(model, CLASSES, tmp_path / "classifier")
    loaded = hub.load(str(tmp_path / "classifier"))
    np.testing.assert_allclose(loaded(vectors), model(vectors, training=False), atol=1e-6)  # float32
    assert notes.image_size(tmp_path / "classifier") is None


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    module = classifier.load_module(tiny_module.write_plain(tmp_path / "plain"))
    with pytest.raises(OSError, match="cannot write a SavedModel"):
        export.write_module(module, (24, 40), tmp_path / "file" / "feature_vector")
