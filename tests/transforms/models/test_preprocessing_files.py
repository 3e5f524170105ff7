"""transforms.models.preprocessing_files: what files of Hugging Face and OpenCLIP say, or an error that names the field.

CONFIGS have the fields that the processors of those models write.
"""

import contextlib
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import onnx_models, transformers_values
from transforms.images import decoding
from transforms.models import preprocessing_files
from transforms.models.engines import loading
from transforms.models.preprocessing import NO_CHOICES, Choices
from transforms.models.preprocessing_files import OPEN_CLIP, PREPROCESS_CFG, PREPROCESSOR
from transforms.models.resolve import resolve

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
CONFIGS = {
    "openai/clip-vit-base-patch32": (
        {
            "crop_size": 224,
            "do_center_crop": True,
            "do_normalize": True,
            "do_resize": True,
            "feature_extractor_type": "CLIPFeatureExtractor",
            "image_mean": list(CLIP_MEAN),
            "image_std": list(CLIP_STD),
            "resample": 3,
            "size": 224,
        },
        Choices((224, 224), CLIP_MEAN, CLIP_STD, "rgb", "crop", "bicubic", 1.0),
    ),
    "facebook/dinov2-base": (
        {
            "crop_size": {"height": 224, "width": 224},
            "do_center_crop": True,
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_processor_type": "BitImageProcessor",
            **IMAGENET,
            "resample": 3,
            "rescale_factor": 0.00392156862745098,
            "size": {"shortest_edge": 256},
        },
        Choices((224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "rgb", "crop", "bicubic", 0.875),
    ),
    "google/siglip-base-patch16-224": (
        {
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_processor_type": "SiglipImageProcessor",
            **HALF,
            "processor_class": "SiglipProcessor",
            "resample": 3,
            "rescale_factor": 0.00392156862745098,
            "size": {"height": 224, "width": 224},
        },
        Choices((224, 224), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "rgb", "stretch", "bicubic", 1.0),
    ),
    "google/vit-base-patch16-224": (
        {"do_normalize": True, "do_resize": True, "image_processor_type": "ViTFeatureExtractor", **HALF}
        | {"resample": 2, "size": 224},
        Choices((224, 224), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "rgb", "stretch", "pillow_bilinear", 1.0),
    ),
    "microsoft/resnet-50": (
        {
            "crop_pct": 0.875,
            "do_normalize": True,
            "do_resize": True,
            "feature_extractor_type": "ConvNextFeatureExtractor",
        }
        | IMAGENET
        | {"resample": 3, "size": 224},
        Choices((224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "rgb", "crop", "bicubic", 0.875),
    ),
    "facebook/convnext-base-384": (
        {"do_normalize": True, "image_processor_type": "ConvNextImageProcessor", "resample": 3}
        | IMAGENET
        | {"size": {"shortest_edge": 384}},
        Choices((384, 384), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "rgb", "stretch", "bicubic", 1.0),
    ),
    "apple/mobilevit-small": (
        {"crop_size": {"height": 256, "width": 256}, "do_center_crop": True, "do_flip_channel_order": True}
        | {"do_rescale": True, "do_resize": True, "resample": 2, "rescale_factor": 1 / 255}
        | {"feature_extractor_type": "MobileViTFeatureExtractor", "size": {"shortest_edge": 288}},
        Choices((256, 256), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bgr", "crop", "pillow_bilinear", 256 / 288),
    ),
    "without a rescaling": (
        {"do_normalize": False, "do_rescale": False, "resample": 1, "size": {"height": 8, "width": 9}},
        Choices((8, 9), (0.0, 0.0, 0.0), (1 / 255,) * 3, "rgb", "stretch", "lanczos", 1.0),
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_files_of_hugging_face(tmp_path, name):
    facts, expected = CONFIGS[name]
    (tmp_path / PREPROCESSOR).write_text(json.dumps(facts))
    assert preprocessing_files.choices(tmp_path) == expected


@pytest.mark.parametrize("name", [OPEN_CLIP, PREPROCESS_CFG])
def test_files_of_open_clip(tmp_path, name):
    config = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash", "size": [9, 8]}
    facts = {"model_cfg": {"vision_cfg": {"image_size": 7}}, "preprocess_cfg": config}
    (tmp_path / name).write_text(json.dumps(facts if name == OPEN_CLIP else config))
    half = (0.5, 0.5, 0.5)
    expected = Choices((9, 8), half, half, "rgb", "stretch", "bicubic", 1.0)
    assert preprocessing_files.choices(tmp_path) == expected
    facts = {"model_cfg": {"vision_cfg": {"image_size": 7}}, "preprocess_cfg": {"mean": CLIP_MEAN, "std": CLIP_STD}}
    (tmp_path / name).write_text(json.dumps(facts if name == OPEN_CLIP else {"size": 7}))
    expected = Choices((7, 7), CLIP_MEAN, CLIP_STD, "rgb", "crop", "bicubic", 1.0)
    assert preprocessing_files.choices(tmp_path) == expected


PLAIN = {"do_normalize": False, "resample": 3, "size": {"height": 8, "width": 9}}
SHORTER = {"do_normalize": False, "resample": 3, "size": {"shortest_edge": 8}}


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (PLAIN | {"do_thumbnail": True}, "the field 'do_thumbnail' is true, which this project does not know"),
        (PLAIN | {"do_pad": True, "pad_size": 9}, "the field 'do_pad' is true, which"),
        (PLAIN | {"rescale_offset": True}, "the field 'rescale_offset' is true, which"),
        (PLAIN | {"do_resize": False}, "the field 'do_resize' is false: expected true"),
        (PLAIN | {"resample": 9}, "the field 'resample' is 9: expected one of 0, 1, 2, 3, 4, 5"),
        (PLAIN | {"resample": [3]}, r"the field 'resample' is \[3\]: expected one of"),
        ({"size": {"height": 8, "width": 9}, "do_normalize": False}, "the field 'resample' is null"),
        (PLAIN | {"size": 8}, "the field 'size' is 8: expected height and width, or shortest_edge"),
        (PLAIN | {"size": {"longest_edge": 8}}, "the field 'size' is .*: expected height and width, or shortest_edge"),
        (PLAIN | {"size": {"height": 0, "width": 9}}, "the field 'size' is 0: expected a number of pixels"),
        (PLAIN | {"do_normalize": None}, "the field 'do_normalize' is null: expected true or false"),
        (PLAIN | {"do_normalize": True}, "the field 'image_mean' is null: expected three numbers"),
        (PLAIN | {"do_normalize": True, "image_mean": [0, 0, 0], "image_std": [1, 0, 1]}, "three numbers above 0"),
        (
            PLAIN | {"do_normalize": True, "image_mean": [0, "x", 0], "image_std": 1},
            "'image_mean' is \"x\": expected a n",
        ),
        (PLAIN | {"rescale_factor": 0}, r"the field 'rescale_factor' is 0\.0: expected a number above 0"),
        (PLAIN | {"rescale_factor": float("nan")}, "the field 'rescale_factor' is NaN: expected a number"),
        (PLAIN | {"do_flip_channel_order": True, "do_normalize": True} | IMAGENET, "expected it without do_normalize"),
        (PLAIN | {"crop_pct": 0.9}, "the field 'crop_pct' is known of ConvNext's processor only"),
        (PLAIN | {"crop_size": 9}, r"the field 'crop_size' is \(9, 9\) of \(8, 9\): expected the same part"),
        (PLAIN | {"do_center_crop": True}, "the field 'crop_size' is null: expected height and width"),
        (
            SHORTER | {"crop_size": 8, "image_processor_type": "LevitImageProcessor"},
            'the processor "LevitI.* is not known',
        ),
        (SHORTER | {"crop_size": 8, "image_processor_type": "Siglip2ImageProcessor"}, "may resize by rules of its own"),
        (PLAIN | {"crop_size": 8, "feature_extractor_type": ["CLIP"]}, r"the processor \[\"CLIP\"\] is not known"),
        (SHORTER, "the field 'do_center_crop' is false, and 'size' is the shorter side: images differ in size"),
        (SHORTER | {"crop_size": {"height": 8, "width": 6}}, "the field 'crop_size' is .*: expected the same part"),
        (SHORTER | {"crop_size": 16}, "the field 'crop_size' is .*: expected the same part of both sides"),
        ([], "expected a JSON object"),
    ],
    ids=str,
)
def test_a_field_that_cannot_be_honoured_is_named(tmp_path, facts, message):
    (tmp_path / PREPROCESSOR).write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=message) as error:
        preprocessing_files.choices(tmp_path)
    assert str(error.value).startswith(repr(str(tmp_path / PREPROCESSOR))) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"mode": "L"}, "the field 'mode' is \"L\": expected 'RGB'"),
        ({"resize_mode": "longest", "fill_color": 128}, "the field 'fill_color' is 128: expected 0, black"),
        ({"resize_mode": ["crop"]}, r"the field 'resize_mode' is \[\"crop\"\]: expected shortest, squash, longest"),
        ({"interpolation": "random"}, "the field 'interpolation' is \"random\": expected 'bicubic' or 'bilinear'"),
        ({"size": [1, 2, 3]}, r"the field 'size' is \[1, 2, 3\]: expected a number, or height and width"),
        ({"timm": {"x": 1}}, "the field 'timm' is .*, which this project does not know"),
    ],
    ids=str,
)
def test_a_field_of_open_clip_that_cannot_be_honoured_is_named(tmp_path, facts, message):
    (tmp_path / OPEN_CLIP).write_text(json.dumps({"preprocess_cfg": facts}))
    with pytest.raises(ValueError, match=message):
        preprocessing_files.choices(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 100_000, b" " * (2**20 + 1)], ids=["{", "?", "[", "1M"])
def test_what_is_no_small_json_is_one_line(tmp_path, content):
    (tmp_path / PREPROCESS_CFG).write_bytes(content)
    with pytest.raises(ValueError, match=r"preprocess_cfg\.json': expected (JSON|at most 1048576 bytes)") as error:
        preprocessing_files.choices(tmp_path)
    assert "\n" not in str(error.value)


def test_files_that_contradict_each_other(tmp_path):
    (tmp_path / PREPROCESSOR).write_text(json.dumps(CONFIGS["openai/clip-vit-base-patch32"][0]))
    (tmp_path / OPEN_CLIP).write_text(json.dumps({"preprocess_cfg": {"mean": [0.4815, 0.4578, 0.4082]}}))
    assert preprocessing_files.choices(tmp_path).image_size == (224, 224)  # equal, but for digits
    (tmp_path / OPEN_CLIP).write_text(json.dumps({"preprocess_cfg": {"mean": [0.5, 0.5, 0.5]}}))
    with pytest.raises(
        ValueError, match=r"its mean is \(0\.5, .*, and preprocessor_config\.json says \(0\.48.*: remove"
    ):
        preprocessing_files.choices(tmp_path)
    (tmp_path / OPEN_CLIP).write_text(json.dumps({"preprocess_cfg": {}}))
    (tmp_path / PREPROCESSOR).write_text(json.dumps({**CONFIGS["openai/clip-vit-base-patch32"][0], "size": 256}))
    with pytest.raises(ValueError, match=r"its crop_fraction is 1\.0, and preprocessor_config\.json says 0\.875"):
        preprocessing_files.choices(tmp_path)


def test_a_model_without_such_a_file(tmp_path):
    assert preprocessing_files.choices(tmp_path) == NO_CHOICES and preprocessing_files.text(tmp_path) == ""


def test_a_model_with_a_file_beside_it(tmp_path):
    file = onnx_models.write(tmp_path / "m.onnx")
    plain = resolve(str(file), Choices((8, 9)))
    config = {"do_normalize": True, "resample": 3, "size": {"height": 8, "width": 9}} | IMAGENET
    (tmp_path / PREPROCESSOR).write_text(json.dumps(config))
    spec = resolve(str(file))
    assert spec.image_size == (8, 9) and spec.digest != plain.digest
    assert spec.preprocessing.resizing.interpolation == "bicubic"
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 9, 3), dtype=np.uint8)
    values = (pixels / 255 - IMAGENET["image_mean"]) / IMAGENET["image_std"]
    np.testing.assert_allclose(loading.load(spec)(pixels), onnx_models.vectors(values, 1), rtol=1e-4, atol=1e-4)
    assert resolve(str(tmp_path)).digest == spec.digest  # by its directory
    (tmp_path / PREPROCESSOR).write_text(json.dumps(config | {"do_convert_rgb": True}, indent=2))
    assert resolve(str(file)).digest == spec.digest  # another text that says the same
    flags = Choices(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), interpolation="bilinear")
    assert resolve(str(file), choices=flags).digest == plain.digest
    (tmp_path / PREPROCESSOR).write_text(json.dumps(config | {"do_pad": True}))
    with pytest.raises(ValueError, match="the field 'do_pad' is true"):
        resolve(str(file))


def test_a_size_beside_a_model_that_takes_another(tmp_path):
    file = onnx_models.write(tmp_path / "m.onnx", shape=(1, 3, 8, 9), outputs=((1, 5),))
    (tmp_path / PREPROCESS_CFG).write_text('{"size": 7, "resize_mode": "squash"}')
    with pytest.raises(
        ValueError, match="takes images of 8x9 pixels only, and a file beside it says 7x7: give --image_s"
    ):
        resolve(str(file))
    assert resolve(str(file), Choices((8, 9))).image_size == (8, 9)


TRANSFORMERS = json.loads(Path(transformers_values.__file__).with_suffix(".json").read_text())["cases"]


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_values_are_those_of_the_processor_that_wrote_the_file(tmp_path, name):
    case = TRANSFORMERS[name]
    (tmp_path / PREPROCESSOR).write_text(json.dumps(case["config"]))
    choices = preprocessing_files.choices(tmp_path / "m.onnx")
    preprocessing = choices.preprocessing()
    encoded = transformers_values.IMAGE.read_bytes()
    pixels = decoding.decode(encoded, choices.image_size, preprocessing.resizing).pixels
    values = (pixels / 255 - np.array(preprocessing.mean)) / np.array(preprocessing.std)
    expected = np.array(case["values"])
    sampled = values.transpose(2, 0, 1)[:, :: transformers_values.STEP, :: transformers_values.STEP]
    np.testing.assert_allclose(sampled, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("mean", "is_same"), [(0.4815, True), (0.4825, False), (0.52, False)])
def test_numbers_of_two_files_may_differ_in_the_digits_that_one_leaves_out(tmp_path, mean, is_same):
    (tmp_path / PREPROCESSOR).write_text(json.dumps(CONFIGS["openai/clip-vit-base-patch32"][0]))
    (tmp_path / OPEN_CLIP).write_text(json.dumps({"preprocess_cfg": {"mean": [mean, *CLIP_MEAN[1:]]}}))
    with contextlib.nullcontext() if is_same else pytest.raises(ValueError, match="its mean is"):
        assert preprocessing_files.choices(tmp_path).mean == CLIP_MEAN  # the first file's


def choices_of(tmp_path, facts, name=PREPROCESSOR):
    (tmp_path / name).write_text(json.dumps(facts))
    return preprocessing_files.choices(tmp_path)


@pytest.mark.parametrize("resample", Image.Resampling)
def test_the_numbers_of_resample_are_pillows(tmp_path, resample):
    chosen = choices_of(tmp_path, PLAIN | {"resample": int(resample)}).interpolation
    assert chosen.removeprefix("pillow_") == resample.name.lower()
    assert chosen != "bilinear"  # which is antialiased otherwise


@pytest.mark.parametrize(
    ("value", "is_known"), [(3, False), ("x", False), (0, False), ({}, False), (None, True), (False, True)]
)
def test_a_field_that_is_not_known_may_only_say_that_nothing_is_done(tmp_path, value, is_known):
    with contextlib.nullcontext() if is_known else pytest.raises(ValueError, match="the field 'new' is .* not know"):
        choices_of(tmp_path, PLAIN | {"new": value})


@pytest.mark.parametrize("factor", [1 / 255, 1 / 256, 1 / 127.5, 1.0])
def test_mean_and_deviation_are_of_the_rescaled_pixels(tmp_path, factor):
    normalized = {"do_normalize": True, "rescale_factor": factor, "image_mean": 0.5, "image_std": [0.25, 0.5, 2]}
    preprocessing = choices_of(tmp_path, PLAIN | normalized).preprocessing()
    for pixel in (0, 100, 255):
        values = [
            pixel * scale + offset for scale, offset in zip(preprocessing.scale, preprocessing.offset, strict=True)
        ]
        assert values == pytest.approx([(pixel * factor - 0.5) / std for std in (0.25, 0.5, 2)])


def test_the_crop_of_a_convnext_without_one(tmp_path):
    facts = {"do_normalize": False, "image_processor_type": "ConvNextImageProcessor", "resample": 3}
    assert choices_of(tmp_path, facts | {"size": {"shortest_edge": 383}}).crop_fraction == 224 / 256
    assert choices_of(tmp_path, facts | {"size": {"shortest_edge": 384}}).crop_fraction == 1.0
    for wrong in ({"size": {"height": 8, "width": 8}}, {"size": {"shortest_edge": 8}, "do_center_crop": True}):
        with pytest.raises(ValueError, match="the field 'size' of ConvNext's processor: expected the shortest_edge"):
            choices_of(tmp_path, facts | wrong)


def test_a_crop_is_no_larger_than_the_image(tmp_path):
    square = PLAIN | {"size": {"height": 8, "width": 8}}
    assert choices_of(tmp_path, square | {"crop_size": 8}).crop_fraction == 1.0
    with pytest.raises(ValueError, match=r"the field 'crop_size' is \(9, 9\) of \(8, 8\): expected the same part"):
        choices_of(tmp_path, square | {"crop_size": 9})


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (
            {"do_normalize": True, "image_mean": 1e10, "image_std": 1},
            "'image_mean' is 10000000000.0: expected a number",
        ),
        ({"do_normalize": True, "image_mean": [1e400, 0, 0], "image_std": 1}, "'image_mean' is Infinity: expected a n"),
        ({"rescale_factor": True}, "'rescale_factor' is true: expected a number"),
        ({"resample": True}, "'resample' is true: expected one of"),
        ({"size": {"height": True, "width": 8}}, "'size' is true: expected a number of pixels"),
        ({"size": {"height": 100_000, "width": 8}}, "'size' is 100000: expected a number of pixels"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_numbers_that_are_none(tmp_path, facts, message):
    with pytest.raises(ValueError, match=message):
        choices_of(tmp_path, PLAIN | facts)
    assert choices_of(tmp_path, PLAIN | {"size": {"height": 99_999, "width": 1}}).image_size == (99_999, 1)


@pytest.mark.parametrize("field", ["do_flip_channels", "do_flip_channel_order"])
def test_channels_are_flipped_by_either_field(tmp_path, field):
    assert choices_of(tmp_path, PLAIN | {field: True}).channels == "bgr"
    assert choices_of(tmp_path, PLAIN | {field: False}).channels == "rgb"


def test_the_modes_of_open_clip(tmp_path):
    config = {"size": 8, "fill_color": 128}
    assert choices_of(tmp_path, config | {"resize_mode": "shortest"}, PREPROCESS_CFG).resize_mode == "crop"
    assert choices_of(tmp_path, config | {"resize_mode": "squash"}, PREPROCESS_CFG).resize_mode == "stretch"
    padded = config | {"resize_mode": "longest", "fill_color": 0, "interpolation": "bilinear"}
    chosen = choices_of(tmp_path, padded, PREPROCESS_CFG)
    assert (chosen.resize_mode, chosen.interpolation) == ("pad", "pillow_bilinear")
    black = {"size": 8, "resize_mode": "longest"}  # by open_clip's default
    assert choices_of(tmp_path, black, PREPROCESS_CFG).resize_mode == "pad"


def test_a_directory_of_that_name_is_no_such_file(tmp_path):
    (tmp_path / PREPROCESSOR).mkdir()
    assert preprocessing_files.choices(tmp_path) == NO_CHOICES


def test_a_file_that_is_too_large_is_not_read_whole(tmp_path):
    with (tmp_path / PREPROCESSOR).open("wb") as file:
        file.truncate(2**28)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="expected at most 1048576 bytes"):
            preprocessing_files.text(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_the_processor_of_mobilevit_flips_channels_unless_its_file_says_otherwise(tmp_path):
    facts = {"image_processor_type": "MobileViTImageProcessor", "resample": 2, "size": {"shortest_edge": 8}}
    facts |= {"do_center_crop": True, "crop_size": {"height": 8, "width": 8}}
    assert choices_of(tmp_path, facts).channels == "bgr"
    assert choices_of(tmp_path, facts | {"do_flip_channel_order": False}).channels == "rgb"


def test_a_processor_whose_name_only_begins_like_a_known_one_is_not_known(tmp_path):
    with pytest.raises(ValueError, match="the processor .* is not known"):
        choices_of(tmp_path, PLAIN | {"image_processor_type": "CLIPImageProcessorOfMyOwn"})


def test_bytes_that_are_no_text_are_shown_all_the_same(tmp_path):
    (tmp_path / PREPROCESSOR).write_bytes(b'{"size": "\xff"}')
    assert preprocessing_files.text(tmp_path).startswith('{"size": "')
