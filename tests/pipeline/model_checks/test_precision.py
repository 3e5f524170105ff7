"""pipeline.model_checks.precision: what is asked, what `auto` measures, and what other machines get."""

import dataclasses

import numpy as np
import pytest

from pipeline.flags import options
from pipeline.model_checks import precision
from transforms.models.engines import loading
from transforms.models.spec import PRECISIONS, in_precision

bfloat16_here = pytest.mark.skipif("bfloat16" not in loading.precisions(), reason="no CPU with bfloat16 embeds here")


def config(*flags):
    return options.parse(["--output=o", *flags])[0]


def test_float32_is_the_default_and_changes_no_digest(model):
    assert precision.resolved(config(), True) == model
    assert (model.precision, model.precision_cosine) == ("float32", 1.0)


@bfloat16_here
def test_what_is_asked_is_measured_here(model):
    found = precision.resolved(config("--precision=bfloat16"), True)
    assert found.precision == "bfloat16" and found.digest != model.digest
    assert 0.99 < found.precision_cosine < 0.999  # this model in bfloat16 on the sample images; see docs/models.md
    assert dataclasses.replace(found, precision="float32", precision_cosine=1.0, digest=model.digest) == model


@pytest.mark.slow
@bfloat16_here
def test_auto_keeps_float32_where_vectors_would_suffer(model):
    assert precision.resolved(config("--precision=auto"), True) == model


@pytest.mark.slow
@bfloat16_here
@pytest.mark.parametrize(("least_speed_up", "chosen"), [(0.0, "bfloat16"), (1e9, "float32")])
def test_auto_takes_what_is_faster_and_near_enough(model, monkeypatch, least_speed_up, chosen):
    monkeypatch.setattr(precision, "LEAST_COSINE", 0.99)
    monkeypatch.setattr(precision, "LEAST_SPEED_UP", least_speed_up)
    assert precision.resolved(config("--precision=auto"), True).precision == chosen


class _Model:
    """Gives two vectors, turned by an angle with a given cosine from those in float32."""

    def __init__(self, precision, cosine):
        self.precision = precision
        self._vectors = np.array([[1, 0], [cosine, (1 - cosine**2) ** 0.5]] if precision != "float32" else [[1, 0]] * 2)

    def __call__(self, pixels):
        return self._vectors


def machine(cosines, speeds):
    """A machine that computes in float32 and in the precisions of `cosines`, at these images a second."""
    return precision.Machine(
        precisions=["float32", *cosines],
        load=lambda spec, batch_size: _Model(spec.precision, cosines.get(spec.precision)),
        images_per_second=lambda model, pixels, seconds: speeds[model.precision],
    )


@pytest.mark.parametrize(
    ("cosines", "speeds", "chosen"),
    [
        ({"bfloat16": 0.9985}, {"float32": 100, "bfloat16": 200}, "float32"),
        ({"bfloat16": 0.9991}, {"float32": 100, "bfloat16": 200}, "bfloat16"),
        ({"bfloat16": 0.9991}, {"float32": 100, "bfloat16": 109}, "float32"),
        ({"bfloat16": 0.9991}, {"float32": 100, "bfloat16": 111}, "bfloat16"),
        ({"float16": 0.9985}, {"float32": 100, "float16": 200}, "float32"),
        ({"bfloat16": 0.9985, "float16": 0.9995}, {"float32": 100, "bfloat16": 300, "float16": 200}, "float16"),
        ({}, {"float32": 100}, "float32"),
    ],
)
def test_auto_takes_another_precision_if_it_is_near_and_fast(model, cosines, speeds, chosen):
    spec = precision.resolved(config("--precision=auto"), True, machine(cosines, speeds))
    assert spec.precision == chosen
    if chosen == "float32":
        assert spec == model
    else:
        assert spec == in_precision(model, chosen, cosines[chosen])  # of the image that suffers most


class _OneAtATime:
    """A machine whose models all compute in the precision that was loaded last, as TensorFlow's do.

    It also counts images per second: 100 in float32, and 200 in float16.
    """

    def __init__(self):
        self._latest = None

    def load(self, spec, batch_size):
        self._latest = _Model(spec.precision, 0.9995)
        return lambda pixels: self._latest(pixels)

    def images_per_second(self, model, pixels, seconds):
        return {"float32": 100, "float16": 200}[self._latest.precision]


@pytest.mark.parametrize("asked", ["auto", "float16"])
def test_float32_is_measured_before_another_precision_is_loaded(model, asked):
    of_tensorflow = _OneAtATime()
    measured = precision.Machine(["float32", "float16"], of_tensorflow.load, of_tensorflow.images_per_second)
    spec = precision.resolved(config(f"--precision={asked}"), True, measured)
    assert spec == in_precision(model, "float16", 0.9995)


def test_what_is_asked_is_taken_whatever_it_costs(model):
    spec = precision.resolved(config("--precision=bfloat16"), True, machine({"bfloat16": 0.9}, {}))
    assert spec == in_precision(model, "bfloat16", 0.9)


def test_what_the_machine_does_not_compute_in_is_refused():
    with pytest.raises(ValueError, match=r"--precision float16: this machine computes in float32, bfloat16"):
        precision.resolved(config("--precision=float16"), True, machine({"bfloat16": 0.9}, {}))


def test_what_this_machine_does_not_compute_in_is_refused():
    absent = next(name for name in PRECISIONS if name not in loading.precisions())
    with pytest.raises(ValueError, match=f"--precision {absent}: this machine computes in float32"):
        precision.resolved(config(f"--precision={absent}"), True)


def test_workers_elsewhere_get_what_is_asked_unmeasured(model):
    found = precision.resolved(config("--precision=float16"), False)
    assert (found.precision, found.precision_cosine) == ("float16", None)
    assert found.digest == in_precision(model, "float16", None).digest
    with pytest.raises(ValueError, match="--precision auto measures the machine it is on"):
        precision.resolved(config("--precision=auto"), False)


@pytest.mark.slow
@bfloat16_here
def test_vectors_in_bfloat16_are_those_that_were_measured(model):
    found = precision.resolved(config("--precision=bfloat16"), True)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    in_float32, in_bfloat16 = (loading.load(spec)(pixels) for spec in (model, found))
    assert 1e-4 < np.abs(in_float32 - in_bfloat16).max() / np.abs(in_float32).max() < 0.2
