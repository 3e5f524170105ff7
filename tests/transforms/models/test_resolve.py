"""transforms.models.resolve: from a handle to what is known before any worker starts."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import onnx_models
from transforms.models import notes
from transforms.models.engines import loading
from transforms.models.model_facts import Function
from transforms.models.preprocessing import TF_HUB, Choices, of_range
from transforms.models.resolve import resolve

GOLDEN = Path(__file__).parents[2] / "golden" / "tf1_hub"


def test_a_tf1_module():
    spec = resolve(str(GOLDEN / "feature_vector_3"))
    assert (spec.format, spec.signature, spec.tags) == ("tf1_hub", "default", ())
    assert (spec.dimension, spec.image_size) == (12, (16, 16))  # by its ImageModuleInfo
    assert resolve(str(GOLDEN / "feature_vector_3"), Choices((20, 28))).image_size == (20, 28)


def test_pixels_through_the_model():
    spec = resolve(str(GOLDEN / "feature_vector_1"))
    with np.load(GOLDEN / "feature_vector_1.npz") as golden:
        pixels = np.rint(golden["images"] * 255).astype(np.uint8)
        # Rounding the golden images to bytes moves each value by up to 1/510.
        np.testing.assert_allclose(loading.load(spec)(pixels), golden["output"], atol=0.02)


def test_a_module_of_fixed_size_refuses_another():
    with pytest.raises(ValueError, match="takes images of 16x16 pixels only, not image_size=20x28"):
        resolve(str(GOLDEN / "feature_vector_1"), Choices((20, 28)))


def free_size_model(directory):
    module = tf.Module()
    module.kernel = tf.Variable(tf.ones((3, 5)))
    function = tf.function(lambda images: tf.reduce_mean(images, [1, 2]) @ module.kernel)
    signature = function.get_concrete_function(tf.TensorSpec((None, None, None, 3), tf.float32, name="images"))
    tf.saved_model.save(module, str(directory), signatures=signature)
    return directory


def test_a_model_of_any_size_asks_for_one_unless_it_is_noted(tmp_path):
    free_size_model(tmp_path)
    with pytest.raises(ValueError, match="does not tell which size its images have: give --image_size HxW"):
        resolve(str(tmp_path))
    assert resolve(str(tmp_path), Choices((9, 8))).image_size == (9, 8)
    notes.write(tmp_path, image_size=(7, 6))
    spec = resolve(str(tmp_path))
    assert (spec.format, spec.dimension, spec.image_size) == ("tf2", 5, (7, 6))
    (tmp_path / "assets.extra" / "image_model.json").write_text('{"image_size": 3}')
    with pytest.raises(ValueError, match=r'expected {"image_size": \[height, width\]}'):
        resolve(str(tmp_path))


def test_a_fixed_size_of_the_signature_that_is_called_by_default(tmp_path):
    module = tf.Module()
    module.kernel = tf.Variable(tf.ones((3, 5)))
    function = tf.function(lambda images: tf.reduce_mean(images, [1, 2]) @ module.kernel)
    signature = function.get_concrete_function(tf.TensorSpec((None, 7, 6, 3), tf.float32, name="images"))
    tf.saved_model.save(module, str(tmp_path), signatures=signature)
    assert resolve(str(tmp_path)).image_size == (7, 6)
    with pytest.raises(ValueError, match="takes images of 7x6 pixels only, not image_size=9x9"):
        resolve(str(tmp_path), Choices((9, 9)))


def test_whatever_changes_vectors_changes_the_digest():
    free = str(GOLDEN / "feature_vector_3")
    specs = [
        resolve(free),
        resolve(free, Choices(resize_mode="crop")),
        resolve(free, Choices((20, 20))),
        resolve(free, function=Function(signature="image_feature_vector")),
        resolve(free, function=Function(tags=("train",))),
        resolve(str(GOLDEN / "feature_vector_1")),
    ]
    assert len({spec.digest for spec in specs}) == len(specs)
    assert specs[0].digest == resolve(f"{free}/").digest


def test_a_keras_file(tmp_path):
    layers = keras.layers
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.GlobalAveragePooling2D()])
    model.save(tmp_path / "m.keras")
    spec = resolve(str(tmp_path / "m.keras"), Choices((8, 8)))
    assert (spec.format, spec.dimension) == ("keras", 4)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    np.testing.assert_allclose(loading.load(spec)(pixels), model(pixels / np.float32(255)).numpy(), atol=1e-5)
    with pytest.raises(ValueError, match="neither signatures nor tags"):
        resolve(str(tmp_path / "m.keras"), Choices((8, 8)), Function(signature="serving_default"))


def test_a_keras_file_with_code_in_it_is_refused(tmp_path):
    keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Lambda(lambda x: x)]).save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match=r"safe mode, which runs no code of a file \(.*`Lambda` layer"):
        resolve(str(tmp_path / "m.keras"), Choices((8, 8)))


def test_a_model_that_gives_images(tmp_path):
    keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)]).save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match=r"gives float32\[2, 6, 6, 4\] for 2 images: expected one vector per image"):
        resolve(str(tmp_path / "m.keras"), Choices((8, 8)))


def test_offline_a_known_name_says_how_to_stage_it(monkeypatch, tmp_path):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"/imagenet/inception_v2/feature_vector/1' is not cached") as said:
        resolve("inception_v2")
    assert "\n" not in str(said.value) and "python -m pipeline stage-model" in str(said.value)


def test_an_onnx_model(tmp_path):
    file = onnx_models.write(tmp_path / "m.onnx", external="w.bin")
    with pytest.raises(ValueError, match="does not tell which size its images have: give --image_size HxW"):
        resolve(str(file))
    spec = resolve(str(file), Choices((8, 9)))
    assert (spec.format, spec.dimension, spec.image_size, spec.output) == ("onnx", 5, (8, 9), "")
    assert (spec.signature, spec.tags, spec.classes) == ("", (), ())
    assert spec.digest == resolve(str(tmp_path), Choices((8, 9))).digest  # by its directory
    assert resolve(str(file), Choices((8, 9)), Function(output="vectors")) == spec
    (tmp_path / "w.bin").write_bytes(bytes(60))
    assert resolve(str(file), Choices((8, 9))).digest != spec.digest


def test_an_onnx_model_of_several_outputs(tmp_path):
    file = onnx_models.write(tmp_path / "m.onnx", outputs=(("n", 5), ("n", 5, 1, 1)))
    with pytest.raises(ValueError, match=r"m\.onnx': it has 2 outputs: give model_output"):
        resolve(str(file), Choices((8, 9)))
    specs = [resolve(str(file), Choices((8, 9)), Function(output=name)) for name in ("vectors", "output1")]
    assert [spec.output for spec in specs] == ["vectors", "output1"]
    assert specs[0].digest != specs[1].digest
    onnx_models.write(file, outputs=(("n", "t", 5),))
    with pytest.raises(ValueError, match=r"m\.onnx': the output 'vectors' has the shape \[2, 72, 5\] for 2 images"):
        resolve(str(file), Choices((8, 9)))


def test_an_onnx_model_with_names_of_classes(tmp_path):
    onnx_models.write(tmp_path / "m.onnx")
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\ne\n")
    assert resolve(str(tmp_path), Choices((8, 9))).classes == tuple("abcde")


def test_the_preprocessing_is_part_of_the_digest_and_tf_hubs_is_the_default(tmp_path):
    file = str(onnx_models.write(tmp_path / "m.onnx"))
    usual = resolve(file, Choices((8, 9)))
    assert usual.preprocessing == TF_HUB and resolve(file, Choices((8, 9)).over(of_range("0..1"))) == usual
    specs = [
        usual,
        resolve(file, Choices((8, 9)).over(of_range("0..255"))),
        resolve(file, Choices((8, 9)).over(of_range("-1..1"))),
        resolve(file, Choices((8, 9), channels="bgr")),
        resolve(file, Choices((8, 9), interpolation="bicubic")),
        resolve(file, Choices((8, 9), resize_mode="crop", interpolation="bicubic")),
        resolve(file, choices=Choices(image_size=(8, 9), crop_fraction=0.875)),
        resolve(file, Choices((8, 9)), normalize=True),
    ]
    assert len({spec.digest for spec in specs}) == len(specs)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 9, 3), dtype=np.uint8)
    np.testing.assert_allclose(loading.load(specs[1])(pixels), onnx_models.vectors(pixels, 1), rtol=1e-4, atol=1e-4)
    assert resolve(file, Choices((8, 9)).over(of_range("0..255"))) == specs[1]  # of the cache


def test_a_model_that_takes_bytes_takes_no_other_values(tmp_path):
    file = str(onnx_models.write(tmp_path / "m.onnx", dtype=onnx_models.UINT8))
    spec = resolve(file, Choices((8, 9)))
    assert spec.preprocessing.pixel_range == "0..255"
    assert resolve(file, Choices((8, 9)).over(of_range("0..255"))) == spec
    assert resolve(file, Choices((8, 9), channels="bgr")).digest != spec.digest
    with pytest.raises(
        ValueError, match=r"takes pixels as bytes, and not pixels in -1\.\.1: give --pixel_range 0\.\.25"
    ):
        resolve(file, Choices((8, 9)).over(of_range("-1..1")))


def test_a_bundled_model_takes_its_own_values():
    usual = resolve("efficientnet_lite0", Choices(resize_mode="crop"))
    spec = resolve("efficientnet_lite0", choices=Choices(resize_mode="crop", crop_fraction=0.875))
    assert spec.preprocessing.crop_fraction == 0.875 and spec.digest != usual.digest
    assert resolve("efficientnet_lite0", normalize=True).digest != resolve("efficientnet_lite0").digest
    with pytest.raises(ValueError, match="takes pixels in 0..1, RGB: expected no other channels and no other std"):
        resolve("efficientnet_lite0", choices=of_range("0..255").over(Choices(channels="bgr")))


@pytest.mark.parametrize(
    ("last", "expected"),
    [(tf.nn.softmax, True), (tf.nn.sigmoid, True), (tf.identity, False), (lambda x: x - tf.reduce_max(x), False)],
    ids=["softmax", "sigmoid", "logits", "logits below 0"],
)
def test_outputs_that_are_probabilities(tmp_path, last, expected):
    module = tf.Module()
    module.__call__ = tf.function(
        lambda x: last(50 * (tf.reduce_mean(x, [1, 2]) - 0.49)), [tf.TensorSpec((None, 8, 9, 3), tf.float32)]
    )
    tf.saved_model.save(module, str(tmp_path))
    assert not resolve(str(tmp_path), Choices((8, 9))).gives_probabilities  # of no classes
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    spec = resolve(str(tmp_path), Choices((8, 9)))
    assert spec.gives_probabilities is spec.fields(2).gives_probabilities is expected


def test_scores_of_classes_are_not_normalized(tmp_path):
    onnx_models.write(tmp_path / "m.onnx")
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\ne\n")
    with pytest.raises(ValueError, match="gives classes, whose scores normalize would change: expected it without"):
        resolve(str(tmp_path), Choices((8, 9)), normalize=True)


def test_an_export_of_keras_is_not_asked_for_the_size_that_it_serves(tmp_path):
    inputs = keras.Input((9, 7, 3))
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs)).export(str(tmp_path), verbose=False)
    spec = resolve(str(tmp_path))
    assert (spec.image_size, spec.dimension) == ((9, 7), 3)


def test_a_size_that_is_asked_for_or_noted_precedes_that_of_serving_default(tmp_path):
    module = tf.Module()
    module.__call__ = tf.function(
        lambda x: tf.reduce_mean(x, [1, 2]), [tf.TensorSpec((None, None, None, 3), tf.float32)]
    )
    serve = tf.function(module.__call__).get_concrete_function(
        tf.TensorSpec((None, 9, 7, 3), tf.float32, name="images")
    )
    tf.saved_model.save(module, str(tmp_path), signatures=serve)
    assert resolve(str(tmp_path)).image_size == (9, 7)
    assert resolve(str(tmp_path), Choices((8, 8))).image_size == (8, 8)
    notes.write(tmp_path, image_size=(5, 6))
    assert resolve(str(tmp_path)).image_size == (5, 6)
