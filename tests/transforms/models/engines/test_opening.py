"""transforms.models.engines.opening: a model of each format as one function of TensorFlow's over bytes."""

import dataclasses
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import tiny_module
from transforms.models import keras_file
from transforms.models.engines import loading, opening
from transforms.models.preprocessing import TF_HUB, Preprocessing, of_range
from transforms.models.resolve import resolve
from transforms.models.spec import ModelSpec

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 3), np.uint8)
MEANS = PIXELS.mean(axis=(1, 2)) / 255


def saved(directory, scale=2.0):
    tf.saved_model.save(tiny_module.ScaledModule(scale), str(directory))
    return ModelSpec("m", "tf2", str(directory), "", ("serve",), 3, PIXELS.shape[1:3], "")


def test_a_model_gets_bytes_as_the_range_from_0_to_1(tmp_path):
    opened = opening.open_model(saved(tmp_path / "m"))
    for pixels, means in ((PIXELS, MEANS), (PIXELS[:1], MEANS[:1])):
        vectors = opened(pixels)
        assert isinstance(vectors, np.ndarray) and vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, 2.0 * means, rtol=1e-5)  # float32 sums of 30 terms
    assert opened.function.structured_input_signature[0][0].dtype == tf.uint8


def test_a_keras_model_is_not_in_training(tmp_path):
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense(4)
    layers = [keras.layers.GlobalAveragePooling2D(), dense, keras.layers.Dropout(0.9)]
    keras.Sequential([keras.Input((6, 5, 3)), *layers]).save(tmp_path / "m.keras")
    spec = ModelSpec("m", "keras", str(tmp_path / "m.keras"), "", (), 4, PIXELS.shape[1:3], "")
    expected = MEANS @ dense.kernel.numpy()  # its bias is 0
    np.testing.assert_allclose(opening.open_model(spec)(PIXELS), expected, atol=1e-6)


def test_a_keras_file_with_code_in_it_is_refused_in_one_line(tmp_path):
    image = keras.Input((6, 5, 3))
    doubled = keras.layers.Lambda(lambda x: 2 * x)(image)
    keras.Model(image, keras.layers.GlobalAveragePooling2D()(doubled)).save(tmp_path / "m.keras")
    spec = ModelSpec("m", "keras", str(tmp_path / "m.keras"), "", (), 3, PIXELS.shape[1:3], "")
    with pytest.raises(
        ValueError, match=r"m\.keras': Keras does not load it .*`Lambda` layer.*expected layers"
    ) as caught:
        opening.open_model(spec)
    assert "\n" not in str(caught.value) and "safe_mode" not in str(caught.value)


def test_parameters_are_the_numbers_in_all_variables():
    module = tf.Module()
    module.layers = [tf.Variable(tf.zeros((3, 4))), tf.Variable(tf.zeros(4), trainable=False)]
    assert opening.Opened(None, module).parameters() == 3 * 4 + 4


def test_parameters_of_a_saved_model_that_lists_no_variables(tmp_path):
    module = tf.train.Checkpoint(scale=tf.Variable(tf.ones(3)))  # unlike a tf.Module, it has no `variables`
    module.__call__ = tf.function(
        lambda images: module.scale * tf.reduce_mean(images, [1, 2]),
        input_signature=[tf.TensorSpec((None, None, None, 3))],
    )
    tf.saved_model.save(module, str(tmp_path))
    spec = ModelSpec("m", "tf2", str(tmp_path), "", ("serve",), 3, PIXELS.shape[1:3], "")
    assert opening.open_model(spec).parameters() == 3


def test_a_model_is_opened_once_until_its_files_change(tmp_path):
    spec = saved(tmp_path / "m")
    opened = opening.open_model(spec)
    assert opening.open_model(dataclasses.replace(spec, digest="d", precision="bfloat16")) is opened
    saved(tmp_path / "m", scale=3.0)
    np.testing.assert_allclose(opening.open_model(spec)(PIXELS), 3.0 * MEANS, rtol=1e-5)


def test_a_model_that_is_not_there(tmp_path):
    spec = ModelSpec("m", "tf2", str(tmp_path / "none"), "", ("serve",), 3, (6, 5), "")
    with pytest.raises(ValueError, match=f"model='{tmp_path}/none'"):
        opening.open_model(spec)


def test_a_model_gets_the_values_that_it_was_trained_with(tmp_path):
    preprocessing = Preprocessing((0.1, 0.2, 0.3), (0.5, 0.25, 0.2), "bgr")
    spec = dataclasses.replace(saved(tmp_path / "m"), preprocessing=preprocessing)
    expected = 2.0 * (MEANS[:, ::-1] - preprocessing.mean) / preprocessing.std
    np.testing.assert_allclose(opening.open_model(spec)(PIXELS), expected, rtol=1e-5)
    spec = dataclasses.replace(spec, preprocessing=of_range("0..255").preprocessing())
    np.testing.assert_allclose(opening.open_model(spec)(PIXELS), 2.0 * 255 * MEANS, rtol=1e-5)


def test_a_model_that_takes_bytes_gets_them_as_they_are(tmp_path):
    module = tf.Module()
    serve = tf.function(lambda images: tf.reduce_mean(tf.cast(images, tf.float32), [1, 2]))
    signature = serve.get_concrete_function(tf.TensorSpec((None, None, None, 3), tf.uint8, name="images"))
    tf.saved_model.save(module, str(tmp_path), signatures=signature)
    for preprocessing, values in ((TF_HUB, PIXELS), (Preprocessing(channels="bgr"), PIXELS[..., ::-1])):
        spec = ModelSpec("m", "tf2", str(tmp_path), "serving_default", ("serve",), 3, PIXELS.shape[1:3], "")
        opened = opening.open_model(dataclasses.replace(spec, preprocessing=preprocessing))
        np.testing.assert_allclose(opened(PIXELS), values.mean(axis=(1, 2)), rtol=1e-5)


def keras_model(outputs, file):
    """Writes a Keras model whose outputs are made of its means, (n, 3)."""
    image = keras.Input((6, 5, 3))
    means = keras.layers.GlobalAveragePooling2D()(image)
    keras.Model(image, outputs(means)).save(file)
    return ModelSpec("m", "keras", str(file), "", (), 3, PIXELS.shape[1:3], "")


def test_the_pooled_output_of_several_is_taken(tmp_path):
    def outputs(means):
        return {"sequence_output": keras.layers.RepeatVector(4)(means), "pooled_output": means}

    spec = keras_model(outputs, tmp_path / "m.keras")
    np.testing.assert_allclose(opening.open_model(spec)(PIXELS), MEANS, rtol=1e-5)


def test_several_outputs_without_a_pooled_one_are_named(tmp_path):
    spec = keras_model(lambda means: {"b": means, "a": means}, tmp_path / "m.keras")
    with pytest.raises(ValueError, match=r"m\.keras' has the outputs a, b, and none of pooled_output, pooler_output"):
        opening.open_model(spec)


def encoder(name):
    """Returns a small vision encoder of KerasHub with random weights, and its vectors of an image's values."""
    keras_hub = pytest.importorskip("keras_hub", reason="KerasHub is not installed")
    keras.utils.set_random_seed(0)
    small = {"patch_size": 8, "hidden_dim": 16, "num_layers": 2, "num_heads": 2, "intermediate_dim": 32}
    if name == "DINOV2Backbone":
        small["position_embedding_shape"] = (32, 32, 3)
    return getattr(keras_hub.models, name)(**small, image_shape=(32, 32, 3))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("CLIPVisionEncoder", (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ("SigLIPVisionEncoder", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ("DINOV2Backbone", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ],
)
def test_an_encoder_of_keras_hub(tmp_path, name, mean, std):
    model = encoder(name)
    model.save(tmp_path / "m.keras")
    spec = resolve(str(tmp_path / "m.keras"))
    assert (spec.image_size, spec.dimension, spec.preprocessing.interpolation) == ((32, 32), 16, "bicubic")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    expected = model.predict({"images": ((pixels / 255 - mean) / std).astype(np.float32)}, verbose=0)
    expected = expected if name == "SigLIPVisionEncoder" else expected[:, 0]
    np.testing.assert_allclose(loading.load(spec)(pixels), expected, atol=1e-4)


def test_an_encoder_of_keras_hub_without_it(tmp_path, monkeypatch):
    spec = keras_model(lambda means: means, tmp_path / "m.keras")
    monkeypatch.setattr(keras_file, "_packages", lambda facts: {"keras_hub"})
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(ValueError, match="expected the package keras-hub here and on the workers, the extra"):
        opening.open_model(spec)


def _external(group, file):
    group.create_dataset("0", shape=(3, 4), dtype="f4", external=[(str(file), 0, 48)])


def _link(group, file):
    group["0"] = h5py.ExternalLink(str(file), "/x")


def _virtual(group, file):
    layout = h5py.VirtualLayout(shape=(3, 4), dtype="f4")
    layout[:] = h5py.VirtualSource(str(file), "x", shape=(3, 4))
    group.create_virtual_dataset("0", layout)


@pytest.mark.parametrize("refer", [_external, _link, _virtual])
def test_a_keras_file_whose_weights_lie_in_another_file(tmp_path, refer):
    """Their bytes would not be in the digest."""
    layers = [keras.Input((6, 5, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4)]
    keras.Sequential(layers).save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with h5py.File(tmp_path / "elsewhere.h5", "w") as other:
        other["x"] = np.ones((3, 4), np.float32)
    (tmp_path / "weights.h5").write_bytes(members["model.weights.h5"])
    with h5py.File(tmp_path / "weights.h5", "r+") as weights:
        group = weights["layers/dense/vars"]
        del group["0"]
        refer(group, tmp_path / "elsewhere.h5")
    members["model.weights.h5"] = (tmp_path / "weights.h5").read_bytes()
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    spec = ModelSpec("m", "keras", str(tmp_path / "m.keras"), "", (), 4, PIXELS.shape[1:3], "")
    with pytest.raises(ValueError, match=r"m\.keras': Keras does not load it"):
        opening.open_model(spec)
