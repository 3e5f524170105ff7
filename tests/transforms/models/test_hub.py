"""transforms.models.hub: both SavedModel formats, and what is no model of images.

`tests/golden/tf1_hub` holds three modules written by the original exporter (hub.create_module_spec, Module.export),
with the outputs of its session.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from transforms.models import hub

GOLDEN = Path(__file__).parents[2] / "golden" / "tf1_hub"
MODULES = ["feature_vector_1", "feature_vector_3", "classification_3"]


def embed(directory, images, signature=None, tags=None):
    model = hub.read(directory)
    function = hub.load(directory, *hub.choose(model, signature, tags)).embed
    return function(tf.constant(images)).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_tf1_modules_give_the_originals_numbers(name):
    with np.load(GOLDEN / f"{name}.npz") as golden:
        assert np.abs(embed(GOLDEN / name, golden["images"]) - golden["output"]).max() <= 1e-5
        if "images_20x28" in golden:
            assert np.abs(embed(GOLDEN / name, golden["images_20x28"]) - golden["output_20x28"]).max() <= 1e-5


@pytest.mark.parametrize("signature", ["image_feature_vector", "image_feature_vector_with_bn_hparams"])
def test_tf1_signatures_by_name(signature):
    with np.load(GOLDEN / "feature_vector_3.npz") as golden:
        vectors = embed(GOLDEN / "feature_vector_3", golden["images"], signature)
        assert np.abs(vectors - golden["output"]).max() <= 1e-5


def test_tf1_variants_by_tags():
    with np.load(GOLDEN / "feature_vector_3.npz") as golden:
        trained = embed(GOLDEN / "feature_vector_3", golden["images"], tags=("train",))
        # In training batch norm takes the batch's own mean: other numbers, or it would be the same graph.
        assert trained.shape == golden["output"].shape and np.abs(trained - golden["output"]).max() > 1e-3


def test_what_a_tf1_module_says_of_itself():
    fixed, free = hub.read(GOLDEN / "feature_vector_1"), hub.read(GOLDEN / "feature_vector_3")
    assert fixed.format == free.format == "tf1_hub"
    assert fixed.image_size == free.image_size == (16, 16)
    assert set(free.variants) == {(), ("train",)}
    assert set(free.variants[()]) == {"default", "image_feature_vector", "image_feature_vector_with_bn_hparams"}
    assert hub.expected_size(fixed.variants[()]["default"]) == (16, 16)
    assert hub.expected_size(free.variants[()]["default"]) is None
    assert str(fixed.variants[()]["default"]) == "(images: float32[?, 16, 16, 3]) → default: float32[?, 12]"


@pytest.mark.parametrize(
    ("signature", "tags", "said"),
    [
        ("nothing", None, "model_signature='nothing': expected one of default, image_feature_vector"),
        (None, ("serve",), r"model_tags='serve': no such variant in this model; expected one of \[\] \[train\]"),
    ],
)
def test_signatures_and_tags_that_are_not_there(signature, tags, said):
    with pytest.raises(ValueError, match=said):
        hub.choose(hub.read(GOLDEN / "feature_vector_1"), signature, tags)


class Reusable(tf.Module):
    """A reusable SavedModel: mean colour times a variable; in training it gives something else."""

    def __init__(self):
        self.kernel = tf.Variable(tf.reshape(tf.range(12, dtype=tf.float32), (3, 4)))

    @tf.function(
        input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32), tf.TensorSpec((), tf.bool, name="training")]
    )
    def __call__(self, images, training=False):
        vectors = tf.reduce_mean(images, axis=[1, 2]) @ self.kernel
        return tf.cond(training, lambda: vectors * 0.0, lambda: vectors)


def save(directory, function, *specs, **signatures):
    """Saves a module with nothing but signatures: `serving_default` from a function, and others by name."""
    module = tf.Module()
    concrete = {"serving_default": tf.function(function).get_concrete_function(*specs)}
    concrete |= {name: tf.function(other).get_concrete_function(*specs) for name, other in signatures.items()}
    module.functions = list(concrete.values())
    tf.saved_model.save(module, str(directory), signatures=concrete)
    return directory


IMAGES = tf.TensorSpec((None, None, None, 3), tf.float32, name="images")


def mean_colour(images):
    return {"default": tf.reduce_mean(images, axis=[1, 2])}


def test_a_reusable_tf2_model_by_its_call(tmp_path):
    module = Reusable()
    tf.saved_model.save(module, str(tmp_path))
    images = np.random.default_rng(0).random((2, 5, 7, 3), np.float32)
    assert hub.read(tmp_path).format == "tf2"
    expected = images.mean(axis=(1, 2)) @ module.kernel.numpy()
    np.testing.assert_allclose(embed(tmp_path, images), expected, rtol=1e-5)  # float32 sums


def test_any_other_tf2_model_by_its_signature(tmp_path):
    save(tmp_path, mean_colour, IMAGES, doubled=lambda images: {"default": 2 * mean_colour(images)["default"]})
    images = np.random.default_rng(0).random((2, 5, 7, 3), np.float32)
    np.testing.assert_allclose(embed(tmp_path, images), images.mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(embed(tmp_path, images, "doubled"), 2 * images.mean(axis=(1, 2)), rtol=1e-5)


def test_a_signature_that_takes_bytes(tmp_path):
    pixels = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    spec = tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")
    save(tmp_path, lambda images: mean_colour(tf.cast(images, tf.float32)), spec)
    assert hub.load(tmp_path, "serving_default", ("serve",)).takes_bytes
    np.testing.assert_allclose(embed(tmp_path, pixels), pixels.mean(axis=(1, 2)), rtol=1e-5)


@pytest.mark.parametrize(
    ("function", "specs", "has"),
    [
        (lambda x: {"y": x}, [tf.TensorSpec((None, 7), tf.float32, name="x")], r"\(x: float32\[\?, 7\]\)"),
        (
            lambda images, boxes: {"y": tf.reduce_mean(images, [1, 2]) + boxes},
            [IMAGES, tf.TensorSpec((None, 3), tf.float32, name="boxes")],
            r"\(boxes: float32\[\?, 3\], images: float32\[\?, \?, \?, 3\]\)",
        ),
        (lambda images: {"y": images}, [IMAGES], r"y: float32\[\?, \?, \?, 3\]"),
        (lambda images: {"y": tf.argmax(tf.reduce_mean(images, [1, 2]), 1)}, [IMAGES], r"y: int64\[\?\]"),
        (
            lambda images: {"a": tf.reduce_mean(images, [1, 2]), "b": tf.reduce_max(images, [1, 2])},
            [IMAGES],
            r"a: float32\[\?, 3\], b: float32\[\?, 3\]",
        ),
    ],
    ids=["no images", "several inputs", "gives images", "gives classes", "two vectors"],
)
def test_what_is_no_model_of_images_is_refused_with_what_it_has(tmp_path, function, specs, has):
    save(tmp_path, function, *specs)
    with pytest.raises(ValueError, match=rf"{has}.*expected one (input|output) float32"):
        embed(tmp_path, np.zeros((1, 4, 4, 3), np.float32))


def test_a_model_with_nothing_to_call(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path))
    with pytest.raises(ValueError, match="is not callable and has no signature 'serving_default'"):
        embed(tmp_path, np.zeros((1, 4, 4, 3), np.float32))


def test_a_graph_that_does_more_than_compute_is_not_loaded(tmp_path):
    save(
        tmp_path, lambda images: mean_colour(images + tf.cast(tf.io.read_file("/etc/passwd") == "", tf.float32)), IMAGES
    )
    with pytest.raises(ValueError, match="^the model's graph is refused for its operations ReadFile: "):
        hub.read(tmp_path)


def test_a_graph_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "saved_model.pb").open("wb") as file:
        file.truncate(hub.MAX_GRAPH_BYTES + 1)  # sparse
    with pytest.raises(ValueError, match=rf"expected a graph of at most {hub.MAX_GRAPH_BYTES}, "):
        hub.read(tmp_path)


@pytest.mark.parametrize("file", ["variables.index", "variables.data-00000-of-00001"])
@pytest.mark.parametrize("name", ["feature_vector_1", "tf2"])
def test_truncated_variables_are_said_in_one_line(tmp_path, name, file):
    if name == "tf2":
        tf.saved_model.save(Reusable(), str(tmp_path / name))
    else:
        shutil.copytree(GOLDEN / name, tmp_path / name)
    path = tmp_path / name / "variables" / file
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match=rf"^the SavedModel '.*{name}' cannot be loaded: [^\n]+$") as caught:
        embed(tmp_path / name, np.zeros((1, 16, 16, 3), np.float32))
    assert "Detected at node" not in str(caught.value)


@pytest.mark.parametrize("name", ["feature_vector_3", "tf2"])
def test_a_file_with_flipped_bytes_is_a_model_or_is_refused_in_one_line(tmp_path, name):
    if name == "tf2":
        tf.saved_model.save(Reusable(), str(tmp_path))
        content = (tmp_path / "saved_model.pb").read_bytes()
    else:
        content = (GOLDEN / name / "saved_model.pb").read_bytes()
        (tmp_path / "tfhub_module.pb").touch()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        spoiled = np.frombuffer(content, np.uint8).copy()
        spoiled[random.integers(0, len(spoiled), 3)] = random.integers(0, 256, 3)
        (tmp_path / "saved_model.pb").write_bytes(spoiled.tobytes())
        try:
            hub.read(tmp_path)
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 20


def test_what_is_no_saved_model(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing")
    with pytest.raises(ValueError, match=r"expected saved_model.pb there, found \['readme.txt'\]"):
        hub.read(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"\xff\xff no protocol buffer")
    with pytest.raises(ValueError, match="is not a SavedModel"):
        hub.read(tmp_path)
