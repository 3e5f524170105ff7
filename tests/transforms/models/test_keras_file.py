"""transforms.models.keras_file: what a `.keras` file tells before Keras loads it."""

import json
import re
import zipfile

import keras
import numpy as np
import pytest

from transforms.models import keras_file
from transforms.models.engines import loading
from transforms.models.preprocessing import NO_CHOICES, Choices, of_range
from transforms.models.resolve import resolve

SMALL = {"weights": None, "include_top": False, "pooling": "avg", "input_shape": (32, 40, 3)}


def written(file, config):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
    return file


def named(file, name, *layers):
    return keras_file.read(written(file, {"config": {"name": name, "layers": list(layers)}}))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["tf", ""])
def test_a_model_of_keras_applications_gets_what_it_was_trained_on(tmp_path, mode):
    keras.utils.set_random_seed(0)
    build = keras.applications.MobileNet if mode else keras.applications.MobileNetV3Small
    model = build(alpha=0.25 if mode else 0.75, **SMALL)
    model.save(tmp_path / "m.keras")
    spec = resolve(str(tmp_path / "m.keras"))
    assert spec.image_size == (32, 40)
    assert spec.preprocessing.pixel_range == ("-1..1" if mode else "0..255")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 40, 3), dtype=np.uint8)
    values = pixels.astype(np.float32)
    if mode:
        values = keras.applications.imagenet_utils.preprocess_input(values, mode=mode)
    expected = model.predict(values, verbose=0)
    np.testing.assert_allclose(loading.load(spec)(pixels), expected, atol=1e-4 * np.abs(expected).max())
    assert resolve(str(tmp_path / "m.keras"), choices=of_range("0..1")).preprocessing.pixel_range == "0..1"


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *((name, "caffe") for name in ("resnet50", "resnet152", "vgg16", "vgg19")),
        *((name, "tf") for name in ("resnet50v2", "xception", "inception_v3", "inception_resnet_v2", "nasnet_mobile")),
        *((name, "tf") for name in ("mobilenet_1.00_224", "mobilenetv2_0.35_96", "mobilenet_0.25_None")),
        *((name, "torch") for name in ("densenet121", "densenet201")),
    ],
)
def test_names_of_keras_applications(tmp_path, name, mode):
    assert named(tmp_path / "m.keras", name).known() == keras_file.MODES[mode]


@pytest.mark.parametrize("name", ["efficientnetb0", "efficientnetv2-s", "MobileNetV3Large", "convnext_tiny"])
@pytest.mark.parametrize("kind", ["Rescaling", "Normalization"])
def test_models_that_preprocess_pixels_themselves(tmp_path, name, kind):
    layer = {"class_name": kind, "config": {}}
    assert named(tmp_path / "m.keras", name, {}, layer).known() == of_range("0..255")
    assert named(tmp_path / "m.keras", name, {}, {"class_name": "Conv2D"}).known() == NO_CHOICES
    assert named(tmp_path / "m.keras", "mine", {}, layer).known() == NO_CHOICES  # it is warned of


@pytest.mark.slow
@pytest.mark.parametrize("build", ["ConvNeXtTiny", "EfficientNetV2B0", "MobileNetV3Small"])
@pytest.mark.parametrize("is_inside", [True, False])
def test_networks_of_keras_applications_that_preprocess_pixels_themselves(tmp_path, build, is_inside):
    model = getattr(keras.applications, build)(include_preprocessing=is_inside, **SMALL)
    model.save(tmp_path / "m.keras")
    expected = of_range("0..255") if is_inside else NO_CHOICES
    assert keras_file.read(tmp_path / "m.keras").known() == expected


def test_the_size_and_the_first_layer_of_a_model(tmp_path):
    layers = keras.layers
    rescaling = layers.Rescaling(1 / 127.5, -1)
    model = keras.Sequential([keras.Input((96, 64, 3)), rescaling, layers.GlobalAveragePooling2D()])
    model.save(tmp_path / "m.keras")
    file = keras_file.read(tmp_path / "m.keras")
    assert (file.image_size, file.has_preprocessing, file.takes_bytes, file.registered_name) == (
        (96, 64),
        True,
        False,
        "",
    )
    assert resolve(str(tmp_path / "m.keras")).image_size == (96, 64)
    with pytest.raises(ValueError, match="takes images of 96x64 pixels only, not image_size=64x64"):
        resolve(str(tmp_path / "m.keras"), Choices((64, 64)))
    keras.Sequential([keras.Input((None, None, 3)), layers.GlobalAveragePooling2D()]).save(tmp_path / "m.keras")
    file = keras_file.read(tmp_path / "m.keras")
    assert (file.image_size, file.has_preprocessing) == (None, False)
    with pytest.raises(ValueError, match="does not tell which size its images have"):
        resolve(str(tmp_path / "m.keras"))


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_a_model_of_whole_numbers_gets_pixels_as_they_are(tmp_path, dtype):
    inputs = keras.Input((8, 9, 3), dtype=dtype)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs)))
    model.save(tmp_path / "m.keras")
    spec = resolve(str(tmp_path / "m.keras"))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 9, 3), np.uint8)
    assert spec.preprocessing.pixel_range == "0..255"
    np.testing.assert_allclose(loading.load(spec)(pixels), pixels.mean((1, 2)) / 255, rtol=1e-5)
    with pytest.raises(ValueError, match="takes pixels as bytes, and not pixels in -1..1"):
        resolve(str(tmp_path / "m.keras"), choices=of_range("-1..1"))


@pytest.mark.parametrize(("shape", "text"), [((64, 48, 1), "64 × 48 × 1"), ((8,), "8"), ((None, None, 4), "? × ? × 4")])
def test_a_model_of_no_rgb_images_is_refused(tmp_path, shape, text):
    keras.Sequential([keras.Input(shape), keras.layers.Activation("relu")]).save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match=rf"m\.keras' takes {re.escape(text)} values: expected RGB images"):
        resolve(str(tmp_path / "m.keras"), Choices((64, 48)))


def test_a_model_with_two_outputs_is_refused(tmp_path):
    inputs = keras.Input((8, 9, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    keras.Model(inputs, [pooled, keras.layers.Dense(2)(pooled)]).save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match=r"m\.keras' has 2 outputs: save a model whose only output is one vector"):
        resolve(str(tmp_path / "m.keras"))


@pytest.mark.parametrize(
    "config",
    [None, [], {}, {"config": []}, {"config": {"layers": [1, {"class_name": ["Rescaling"], "config": 1}]}}],
    ids=str,
)
def test_strange_configurations_tell_nothing(tmp_path, config):
    file = keras_file.read(written(tmp_path / "m.keras", config))
    assert (file.image_size, file.has_preprocessing, file.known()) == (None, False, NO_CHOICES)


@pytest.mark.parametrize("content", ["", "no zip", "no config", "deep"])
def test_what_is_no_keras_file_is_one_line(tmp_path, content):
    path = tmp_path / "m.keras"
    path.write_text(content)
    if content in ("no config", "deep"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json" if content == "deep" else "x", "[" * 100_000)
    with pytest.raises(ValueError, match=r"m\.keras' is not a \.keras file: ") as error:
        keras_file.read(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("mode", keras_file.MODES)
def test_the_values_of_a_mode_are_those_that_keras_computes(mode):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3)).astype(np.float32)
    preprocessing = keras_file.MODES[mode].preprocessing()
    taken = pixels[..., ::-1] if preprocessing.channels == "bgr" else pixels
    values = taken * np.float32(preprocessing.scale) + np.float32(preprocessing.offset)
    expected = keras.applications.imagenet_utils.preprocess_input(pixels.copy(), mode=mode)
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-4)  # of up to 255, in float32


def test_a_configuration_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    file = written(tmp_path / "m.keras", {"config": {"name": "n" * 100}})
    with zipfile.ZipFile(file) as archive:
        size = archive.getinfo("config.json").file_size
    monkeypatch.setattr(keras_file.archives, "MAX_JSON_BYTES", size)
    assert keras_file.read(file).name == "n" * 100
    monkeypatch.setattr(keras_file.archives, "MAX_JSON_BYTES", size - 1)
    with pytest.raises(ValueError, match=rf"config\.json has {size} bytes: expected {size - 1} or less"):
        keras_file.read(file)


CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@pytest.mark.parametrize(
    ("name", "values", "has_class_token"),
    [
        ("CLIPVisionEncoder", Choices(mean=CLIP_MEAN, std=CLIP_STD), True),
        ("SigLIPVisionEncoder", Choices(mean=(0.5,) * 3, std=(0.5,) * 3), False),
        ("DINOV2Backbone", Choices(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)), True),
    ],
)
def test_image_encoders_of_keras_hub_get_what_they_were_trained_on(tmp_path, name, values, has_class_token):
    config = {"registered_name": f"keras_hub>{name}", "config": {"image_shape": [9, 8, 3]}}
    file = keras_file.read(written(tmp_path / "m.keras", config))
    assert file.known() == values.over(Choices(interpolation="bicubic"))
    assert (file.has_class_token, file.image_size, file.packages) == (has_class_token, (9, 8), {"keras_hub"})


@pytest.mark.parametrize("name", ["resnet50_mine", "my_resnet50", "vgg160", "densenet121 (1)", "mobilenet_1.00_"])
def test_a_name_that_only_begins_or_ends_as_theirs_is_another(tmp_path, name):
    assert named(tmp_path / "m.keras", name).known() == NO_CHOICES


@pytest.mark.parametrize("name", ["efficientnetb0_mine", "MobileNetV3SmallOfMine"])
def test_a_name_that_begins_as_one_that_preprocesses_pixels_is_another(tmp_path, name):
    assert named(tmp_path / "m.keras", name, {}, {"class_name": "Rescaling"}).known() == NO_CHOICES


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int16", "int32", "int64", "float32", "float16"])
def test_whether_a_model_takes_whole_numbers(tmp_path, dtype):
    file = named(tmp_path / "m.keras", "m", {"class_name": "InputLayer", "config": {"dtype": dtype}})
    assert file.takes_bytes is ("int" in dtype)


@pytest.mark.parametrize("shape", [[0, 8, 3], [-1, 8, 3], [8, 9, 4], [8.0, 9, 3], [8, 9], ["8", 9, 3]], ids=str)
def test_a_size_that_is_none_is_free(tmp_path, shape):
    file = written(tmp_path / "m.keras", {"config": {"image_shape": shape}})
    assert keras_file.read(file).image_size is None


def test_the_input_of_images_among_several_is_not_known(tmp_path):
    text = {"class_name": "InputLayer", "config": {"batch_shape": [None, 8]}}
    assert named(tmp_path / "m.keras", "m", text, {"class_name": "InputLayer"}).image_size is None
    with pytest.raises(ValueError, match="takes 8 values: expected RGB images"):
        named(tmp_path / "m.keras", "m", text)


def test_the_packages_of_all_classes_at_any_depth(tmp_path):
    config = {
        "registered_name": "Functional",
        "config": {
            "layers": [{"registered_name": "mine>Layer", "config": [{"deep": {"registered_name": "theirs>L"}}]}]
        },
    }
    assert keras_file.read(written(tmp_path / "m.keras", config)).packages == {"mine", "theirs"}


@pytest.mark.parametrize(("offset_in_header", "value"), [(0, 1), (2, 99)], ids=["encrypted", "unknown compression"])
def test_a_configuration_that_zipfile_cannot_read_is_one_line(tmp_path, offset_in_header, value):
    file = written(tmp_path / "m.keras", {})
    content = bytearray(file.read_bytes())
    for start, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # flags and method, in both headers of the member
        content[content.index(start) + at + offset_in_header] = value
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"m\.keras' is not a \.keras file: "):
        keras_file.read(file)
