"""transforms.models.training.classifier: what is trained and what is not, by which rules, and when it ends."""

import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import tiny_module
from transforms.models.training import classifier

SIZE = (16, 20)
IMAGES = np.random.default_rng(0).random((12, *SIZE, 3), np.float32)
NUMBERS = np.arange(12, dtype=np.int32) % 3


class Heard:
    """A Watch that remembers."""

    def __init__(self):
        self.batches, self.epochs = [], []

    def batch(self, epoch, batch, measured):
        self.batches.append((epoch, batch, measured["loss"]))

    def epoch(self, epoch, measured):
        self.epochs.append((epoch, dict(measured)))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return tiny_module.write(tmp_path_factory.mktemp("tiny") / "module")


@pytest.fixture
def module(written):
    return classifier.load_module(written)


def dataset(images=IMAGES, numbers=NUMBERS, batch_size=12):
    return tf.data.Dataset.from_tensor_slices((images, numbers)).batch(batch_size)


def fit(model, data=None, validation=None, *, epochs=1, learning_rate=0.01, patience=100, watch=None):
    return classifier.fit(
        model,
        data or dataset(),
        validation,
        epochs=epochs,
        learning_rate=learning_rate,
        patience=patience,
        watch=watch or Heard(),
    )


def values(module):
    return [variable.numpy() for variable in module.variables]


@pytest.mark.slow
def test_frozen_the_module_stays_as_it_is(module):
    before = values(module)
    model = classifier.image_classifier(module, SIZE, 3, trainable=False)
    head = model.layers[-1].kernel.numpy()
    fit(model, epochs=2)
    for old, new in zip(before, values(module), strict=True):
        np.testing.assert_array_equal(old, new)
    assert (model.layers[-1].kernel.numpy() != head).all()
    assert sum(model.losses) == 0


@pytest.mark.slow
def test_full_all_of_it_is_trained(module):
    before = values(module)
    model = classifier.image_classifier(module, SIZE, 3, trainable=True)
    fit(model, epochs=2)
    for old, new in zip(before, values(module), strict=True):
        assert (old != new).all()


def test_regularization_is_part_of_the_loss(module):
    frozen, full = (classifier.image_classifier(module, SIZE, 3, trainable=t, seed=3) for t in (False, True))
    decay = tiny_module.DECAY * (module.variables[0].numpy() ** 2).sum() / 2
    assert float(sum(full.losses)) == pytest.approx(decay, rel=1e-5)  # float32
    losses = []
    for model in (frozen, full):
        model.compile(loss="sparse_categorical_crossentropy")
        losses.append(model.evaluate(dataset(), verbose=0))
    assert losses[1] - losses[0] == pytest.approx(decay, rel=1e-4)  # a difference of float32


@pytest.mark.slow
@pytest.mark.parametrize(("momentum", "kept"), [(None, 0.99), (0.9, 0.9), (0.5, 0.5), (0.0, 0.0)])
def test_momentum_moves_the_averages_accordingly(module, momentum, kept):
    kernel, mean, variance = values(module)
    model = classifier.image_classifier(module, SIZE, 3, trainable=True, batch_norm_momentum=momentum)
    # One step over one batch: the averages move by what the batch was under the kernel of before.
    fit(model)
    batch_mean, batch_variance = tiny_module.batch_statistics(IMAGES, kernel)
    _, new_mean, new_variance = values(module)
    np.testing.assert_allclose(new_mean, kept * mean + (1 - kept) * batch_mean, rtol=0, atol=1e-5)  # float32 sums
    np.testing.assert_allclose(new_variance, kept * variance + (1 - kept) * batch_variance, rtol=0, atol=1e-5)


def test_a_seed_decides_on_the_first_weights(module):
    kernels = [
        classifier.image_classifier(module, SIZE, 3, trainable=False, seed=seed).layers[-1].kernel.numpy()
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert (kernels[0] != kernels[2]).any()


def test_fixed_image_sizes(module, tmp_path):
    plain = classifier.load_module(tiny_module.write_plain(tmp_path / "plain"))
    assert classifier.fixed_image_size(module) is None
    assert classifier.fixed_image_size(plain) == (24, 40)
    assert classifier.image_classifier(plain, (24, 40), 2, trainable=False).output_shape == (None, 2)
    for wrong, said in [
        ({"image_size": (24, 24)}, "the model takes images of 24x40 pixels only, not image_size=24x24"),
        ({"batch_norm_momentum": 0.5}, "the model's __call__ takes no batch_norm_momentum: expected a model that does"),
        ({"trainable": True}, "the model has no trainable variables"),
    ]:
        arguments = {"image_size": (24, 40), "trainable": False} | wrong
        with pytest.raises(ValueError, match=said):
            classifier.image_classifier(plain, classes=2, **arguments)


def test_modules_that_are_not_for_images_or_not_for_training(tmp_path):
    def saved(function, *traces, name):
        module = tf.Module()
        module.scale = tf.Variable(2.0)
        module.__call__ = tf.function(function)
        for trace in traces:
            module.__call__.get_concrete_function(*trace)
        tf.saved_model.save(module, str(tmp_path / name))
        loaded = classifier.load_module(tmp_path / name)
        loaded.trainable_variables = [loaded.scale]
        return loaded

    images = tf.TensorSpec([None, None, None, 3], tf.float32)
    maps = saved(lambda images: images * 2.0, (images,), name="maps")
    with pytest.raises(ValueError, match=r"gives float32\(2, 16, 20, 3\) for 2 images: expected one vector per image"):
        classifier.image_classifier(maps, SIZE, 3, trainable=False)
    inference = saved(lambda images, training: tf.reduce_mean(images, [1, 2]), (images, False), name="inference")
    assert classifier.image_classifier(inference, SIZE, 3, trainable=False)
    with pytest.raises(ValueError, match="cannot be called with images of 16x20, training=True: Could not find match"):
        classifier.image_classifier(inference, SIZE, 3, trainable=True)
    text = saved(lambda text: tf.strings.length(text), (tf.TensorSpec([None], tf.string),), name="text")
    with pytest.raises(ValueError, match="cannot be called with images of 16x20: "):
        classifier.image_classifier(text, SIZE, 3, trainable=False)


def test_what_is_no_module(tmp_path):
    with pytest.raises(ValueError, match=f"model='{tmp_path}' cannot be loaded: expected a SavedModel"):
        classifier.load_module(tmp_path)
    tf.saved_model.save(tf.Module(), str(tmp_path))
    with pytest.raises(ValueError, match="expected a SavedModel that can be called"):
        classifier.load_module(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"no protocol buffer")
    with pytest.raises(ValueError, match="cannot be loaded"):
        classifier.load_module(tmp_path)


def vectors_that_mislead():
    """Returns a probe, its data, and validation data that says the opposite: validation gets worse from the start."""
    vectors = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    numbers = (vectors[:, 0] > 0).astype(np.int32)
    rows = np.arange(64)
    model = classifier.vector_classifier(vectors, rows, 2)
    batches = [classifier.vector_batches(vectors, rows, each, 16, None) for each in (numbers, 1 - numbers)]
    return model, *batches


@pytest.mark.slow
def test_the_best_epoch_is_kept_even_if_training_goes_on():
    model, data, validation = vectors_that_mislead()
    heard = Heard()
    fitted = fit(model, data, validation, epochs=4, watch=heard)
    losses = fitted.history["val_loss"]
    assert fitted.best_epoch == 1 and list(losses) == sorted(losses) and losses[3] > losses[0] + 0.01
    assert model.evaluate(validation, verbose=0)[0] == pytest.approx(losses[0], rel=1e-5)
    assert [epoch for epoch, _ in heard.epochs] == [1, 2, 3, 4]
    assert [measured["val_loss"] for _, measured in heard.epochs] == list(losses)
    assert [each[:2] for each in heard.batches] == [(epoch, batch) for epoch in (1, 2, 3, 4) for batch in (1, 2, 3, 4)]


@pytest.mark.slow
def test_training_ends_when_patience_does():
    model, data, validation = vectors_that_mislead()
    fitted = fit(model, data, validation, epochs=50, patience=2)
    assert fitted.best_epoch == 1 and len(fitted.history["loss"]) == 3


def test_without_validation_the_last_epoch_counts():
    model, data, _ = vectors_that_mislead()
    fitted = fit(model, data, epochs=3, patience=1)
    assert fitted.best_epoch == 3 and set(fitted.history) == {"loss", "accuracy"}


def test_a_loss_that_is_not_finite_fails():
    model, _, validation = vectors_that_mislead()
    bad = np.full((8, 4), np.nan, np.float32)
    broken = classifier.vector_batches(bad, np.arange(8), np.zeros(8, np.int32), 8, None)
    with pytest.raises(
        classifier.TrainingError, match="the loss is not finite after epoch 1: try a lower learning rate"
    ):
        fit(model, broken, validation, epochs=5)


def test_a_probe_brings_vectors_to_one_scale():
    rng = np.random.default_rng(1)
    vectors = (rng.normal(size=(9000, 4)) * [1, 1000, 1e-5, 0] + [5, -2000, 0, 7]).astype(np.float32)
    rows = np.flatnonzero(np.arange(9000) % 3)  # of the others nothing may be known
    vectors[::3] = 1e9
    normalize = classifier.vector_classifier(vectors, rows, 2).layers[0]
    normal = normalize(vectors[rows]).numpy()
    np.testing.assert_allclose(normal.mean(axis=0), 0, atol=1e-3)  # float32 input, 6000 rows
    # The first varies by 1/1000 of the second, which is the least that is brought to 1; the others stay small.
    np.testing.assert_allclose(normal.std(axis=0)[:2], [1, 1], rtol=0.05)
    assert normal.std(axis=0)[2] < 1e-4 and normal.std(axis=0)[3] == 0


def test_vectors_without_any_variance():
    vectors = np.ones((4, 3), np.float32)
    model = classifier.vector_classifier(vectors, np.arange(4), 2)
    assert np.isfinite(model(vectors).numpy()).all()


def test_vector_batches_pick_rows_with_their_classes():
    vectors = np.arange(40, dtype=np.float32).reshape(20, 2)
    rows, numbers = np.array([3, 5, 7, 11, 13]), np.array([0, 1, 0, 1, 1], np.int32)
    inputs, classes = zip(*classifier.vector_batches(vectors, rows, numbers, 2, None).as_numpy_iterator(), strict=True)
    np.testing.assert_array_equal(np.concatenate(inputs), vectors[rows])
    assert [len(batch) for batch in inputs] == [2, 2, 1] and np.concatenate(classes).tolist() == numbers.tolist()
    shuffled = classifier.vector_batches(vectors, rows, numbers, 5, seed=0).repeat(4)
    orders = [tuple(inputs.numpy()[:, 0]) for inputs, _ in shuffled]
    assert {tuple(sorted(order)) for order in orders} == {tuple(vectors[rows, 0])} and len(set(orders)) > 1
