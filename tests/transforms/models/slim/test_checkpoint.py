"""Checkpoints: both formats are read, and whatever is not as the network needs it is named."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub

from tests.helpers import formula_weights, slim_checkpoints, tiny_network
from tests.helpers.slim_checkpoints import V1, V2
from tests.helpers.tiny_network import TinyNetwork
from transforms.models.slim import checkpoint
from transforms.models.slim.checkpoint import CLASSIFICATION, FEATURE_VECTOR, CheckpointMismatchError

KERNEL = "Tiny/Conv2d_1a_3x3/weights"
BETA = "Tiny/Conv2d_1a_3x3/BatchNorm/beta"
CLASSIFIER = {"Tiny/Logits/Logits/weights", "Tiny/Logits/Logits/biases"}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    known = checkpoint.network_class
    monkeypatch.setattr(checkpoint, "network_class", lambda name: TinyNetwork if name == "tiny" else known(name))


def write(tmp_path, arrays, version=V2):
    return slim_checkpoints.write(tmp_path / "model.ckpt-7", arrays, version)


@pytest.mark.parametrize("version", [V1, V2], ids=["V1", "V2"])
@pytest.mark.parametrize("head", checkpoint.HEADS)
def test_weights_are_read_as_written(tmp_path, version, head):
    weights, ignored = checkpoint.read_weights("tiny", write(tmp_path, tiny_network.weights(), version), head)
    assert weights.keys() == TinyNetwork.expected_variables(classifier=head == CLASSIFICATION).keys()
    for name, value in tiny_network.weights().items():
        if name in weights:
            np.testing.assert_array_equal(weights[name], value)
    assert ignored == ({"classifier": tuple(sorted(CLASSIFIER))} if head == FEATURE_VECTOR else {})


def test_a_v1_checkpoint_is_one_file_and_a_v2_checkpoint_several(tmp_path):
    write(tmp_path, tiny_network.weights(), V1)
    assert [path.name for path in tmp_path.iterdir()] == ["model.ckpt-7"]
    (tmp_path / "model.ckpt-7").unlink()
    write(tmp_path, tiny_network.weights(), V2)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"model.ckpt-7.index", "model.ckpt-7.data-00000-of-00001"}
    for name in names:  # any of them will do
        weights, _ = checkpoint.read_weights("tiny", tmp_path / name)
        np.testing.assert_array_equal(weights[KERNEL], tiny_network.weights()[KERNEL])


@pytest.mark.parametrize("dtype", [np.float64, np.float16, tf.bfloat16.as_numpy_dtype])
def test_other_float_types_will_do(tmp_path, dtype):
    arrays = {name: value.astype(dtype) for name, value in tiny_network.weights().items()}
    weights, _ = checkpoint.read_weights("tiny", write(tmp_path, arrays))
    images = formula_weights.images(16, 24)
    expected = TinyNetwork(tiny_network.weights())(images)
    # bfloat16 keeps 8 bits of a weight: 0.4 %.
    np.testing.assert_allclose(TinyNetwork(weights)(images), expected, rtol=0.05, atol=0.01)


def test_missing_and_misshapen_variables_are_all_named(tmp_path):
    arrays = tiny_network.weights()
    del arrays["Tiny/Conv2d_1b_1x1/weights"], arrays["Tiny/Conv2d_1b_1x1/BatchNorm/moving_mean"]
    arrays[KERNEL] = np.zeros((3, 3, 4, 4), np.float32)
    arrays[BETA] = np.zeros(4, np.int32)
    with pytest.raises(CheckpointMismatchError) as caught:
        checkpoint.read_weights("tiny", write(tmp_path, arrays))
    assert isinstance(caught.value, ValueError)
    assert caught.value.missing == ("Tiny/Conv2d_1b_1x1/weights", "Tiny/Conv2d_1b_1x1/BatchNorm/moving_mean")
    assert caught.value.misshapen == {
        KERNEL: "float32 [3, 3, 4, 4], expected float32 [3, 3, 3, 4]",
        BETA: "int32 [4], expected float32 [4]",
    }
    for name in (*caught.value.missing, *caught.value.misshapen):
        assert repr(name) in str(caught.value)
    assert "2 missing: " in str(caught.value) and "2 misshapen: " in str(caught.value)
    assert "'Tiny/Conv2d_1b_1x1/weights' and 1 more" in caught.value.describe(limit=1)


def test_strings_are_not_weights(tmp_path):
    arrays = tiny_network.weights() | {BETA: np.array(["a", "b", "c", "d"], object)}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = {
            name: tf.compat.v1.get_variable(name, initializer=tf.constant(value)) for name, value in arrays.items()
        }
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver(variables).save(session, str(tmp_path / "model.ckpt"), write_meta_graph=False)
    with pytest.raises(CheckpointMismatchError, match=rf"'{BETA}' is string \[4\], expected float32 \[4\]"):
        checkpoint.read_weights("tiny", tmp_path / "model.ckpt")


def test_a_classifier_of_other_classes_matters_to_logits_alone(tmp_path):
    arrays = tiny_network.weights() | {"Tiny/Logits/Logits/weights": np.zeros((6, 5), np.float32)}
    path = write(tmp_path, arrays)
    checkpoint.read_weights("tiny", path, FEATURE_VECTOR)
    with pytest.raises(CheckpointMismatchError, match="classifier alone differs: head='feature_vector' does without"):
        checkpoint.read_weights("tiny", path, CLASSIFICATION)


def test_the_checkpoint_of_another_network_is_recognized(tmp_path):
    with pytest.raises(CheckpointMismatchError, match="the checkpoint has 'Tiny': is it another network's") as caught:
        checkpoint.read_weights("inception_v2", write(tmp_path, tiny_network.weights()))
    assert len(caught.value.missing) == 275


def test_what_is_no_part_of_the_network_is_reported_by_kind(tmp_path):
    extra = {
        "auxiliary head": ["Tiny/AuxLogits/Logits/biases", "Tiny/AuxLogits/Logits/weights"],
        "global step": ["global_step"],
        "moving averages of weights": [f"{KERNEL}/ExponentialMovingAverage"],
        "optimizer slots": [
            f"{BETA}/Adam",
            f"{BETA}/Adam_1",
            f"{KERNEL}/Momentum",
            f"{KERNEL}/RMSProp_1",
            "beta1_power",
        ],
        "other": ["something/else"],
    }
    names = [name for members in extra.values() for name in members]
    path = write(tmp_path, tiny_network.weights() | {name: np.zeros(2, np.float32) for name in names})
    weights, ignored = checkpoint.read_weights("tiny", path, CLASSIFICATION)
    assert weights.keys() == TinyNetwork.expected_variables().keys()
    assert {kind: sorted(members) for kind, members in ignored.items()} == {k: sorted(v) for k, v in extra.items()}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    arrays = tiny_network.weights()
    arrays[BETA][2] = value
    with pytest.raises(ValueError, match=f"'{BETA}' in checkpoint=.* is not finite"):
        checkpoint.read_weights("tiny", write(tmp_path, arrays))


def _nothing(path: Path) -> None:
    pass


def _half(path: Path) -> None:
    data = slim_checkpoints.write(path, tiny_network.weights(), V1).read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _flipped(path: Path) -> None:
    slim_checkpoints.write(path, tiny_network.weights(), V2)
    data = path.with_name(f"{path.name}.data-00000-of-00001")
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 0xFF
    data.write_bytes(content)


def _directory(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("spoil", [_nothing, _half, _flipped, _directory])
def test_what_cannot_be_read_is_one_plain_error(tmp_path, spoil):
    path = tmp_path / "model.ckpt"
    spoil(path)
    with pytest.raises(ValueError, match=r"cannot read checkpoint='.*model\.ckpt': expected a \.ckpt file"):
        checkpoint.read_weights("tiny", path)


class _Planted:
    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_is_not_loaded(tmp_path):
    planted = _Planted()
    planted.path = tmp_path / "executed"
    path = tmp_path / "model.ckpt"
    path.write_bytes(pickle.dumps(planted))
    with pytest.raises(ValueError, match="cannot read checkpoint"):
        checkpoint.read_weights("tiny", path)
    assert not planted.path.exists()
    pickle.loads(path.read_bytes())  # noqa: S301 - shows that it would have been noticed
    assert planted.path.exists()


def test_an_archive_is_to_be_unpacked(tmp_path):
    with pytest.raises(ValueError, match="is an archive: unpack it"):
        checkpoint.read_weights("tiny", tmp_path / "inception_v2_2016_08_28.tar.gz")


def test_unknown_names_are_answered_with_the_known(tmp_path):
    with pytest.raises(ValueError, match="unknown network='vgg': expected one of inception_resnet_v2, inception_v2"):
        checkpoint.read_weights("vgg", tmp_path)
    with pytest.raises(ValueError, match="unknown head='pixels': expected one of feature_vector, classification"):
        checkpoint.read_weights("tiny", tmp_path, "pixels")


def test_every_known_network_has_its_class():
    assert {name: checkpoint.network_class(name).__name__ for name in checkpoint.NETWORKS} == {
        "inception_resnet_v2": "InceptionResNetV2",
        "inception_v2": "InceptionV2",
    }


@pytest.mark.parametrize(("head", "dimension"), [(FEATURE_VECTOR, 6), (CLASSIFICATION, 3)])
def test_an_import_makes_a_model_and_tells_of_it(tmp_path, head, dimension):
    path = write(tmp_path, tiny_network.weights() | {"global_step": np.int64(7)}, V1)
    report = checkpoint.import_checkpoint("tiny", path, tmp_path / "model", head)
    assert (report.network, report.head, report.dimension, report.image_size) == ("tiny", head, dimension, (16, 24))
    shapes = TinyNetwork.expected_variables(classifier=head == CLASSIFICATION).values()
    assert report.parameters == sum(int(np.prod(shape)) for shape in shapes)
    assert report.ignored["global step"] == ("global_step",)
    assert hub.load(str(report.output))(formula_weights.images(5, 5)).shape == (2, dimension)


def test_an_occupied_output_is_refused_before_the_checkpoint_is_read(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(FileExistsError):
        checkpoint.import_checkpoint("tiny", tmp_path / "none.ckpt", tmp_path / "model")


def test_a_checkpoint_that_does_not_fit_leaves_no_directory(tmp_path):
    path = write(tmp_path, {KERNEL: tiny_network.weights()[KERNEL]}, V1)
    with pytest.raises(CheckpointMismatchError):
        checkpoint.import_checkpoint("tiny", path, tmp_path / "models" / "tiny")
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
