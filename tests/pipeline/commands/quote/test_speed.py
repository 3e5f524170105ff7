"""pipeline.commands.quote.speed: decoding and embedding are measured, or the speed of a GPU taken from a flag."""

import pytest

from pipeline.commands.quote import speed
from pipeline.commands.quote.speed import measure
from tests.helpers import data_generation as data
from tests.helpers.clocks import Clock
from transforms.images import decoding
from transforms.models import catalog
from transforms.models.spec import ModelSpec


def measured(sample, **arguments):
    model = arguments.pop("model", catalog.bundled("efficientnet_lite0"))
    return measure(
        model,
        sample=str(sample / "*"),
        **{"batch_size": 2, "images_per_second": 200.0, "has_gpu": True} | arguments,
    )


@pytest.fixture
def microsecond_a_pixel(monkeypatch):
    """Makes decoding an image take a microsecond a pixel, and far more the first time."""
    clock, decoded = Clock(), set()
    monkeypatch.setattr(speed, "time", clock)
    decode = decoding.decode

    def decode_slowly(content, *args):
        result = decode(content, *args)
        clock.now += result.height * result.width * 1e-6 if content in decoded else 100.0
        decoded.add(content)
        return result

    monkeypatch.setattr(decoding, "decode", decode_slowly)


def test_decoding_is_measured_and_the_speed_of_a_gpu_taken_as_given(tmp_path, microsecond_a_pixel):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    data.write_images(tmp_path, 3, height=50, width=80)
    measurement = measured(tmp_path)
    assert measurement.decode == pytest.approx(0.004)
    assert measurement.embed == 0.005 and measurement.on_gpu and "as given" in measurement.embedded
    assert "measured here on 3 images" in measurement.decoded


@pytest.mark.slow
def test_large_images_take_longer(tmp_path, microsecond_a_pixel):
    for name, size in (("small", 100), ("large", 2000)):
        (tmp_path / name).mkdir()
        data.write_images(tmp_path / name, 2, height=size, width=size)
    data.write_images(tmp_path / "large", 1, start=2, height=1000, width=1000)
    (tmp_path / "large" / "broken.jpg").write_bytes(b"no image")
    # On average of those that can be decoded, and 400 times the pixels.
    assert measured(tmp_path / "small").decode == pytest.approx(0.01)
    assert measured(tmp_path / "large").decode == pytest.approx((4.0 + 4.0 + 1.0) / 3)


def test_a_gpus_speed_is_not_taken_from_this_machine(tmp_path):
    data.write_images(tmp_path, 1)
    measurement = measured(tmp_path, images_per_second=None)
    assert measurement.embed > 0 and not measurement.on_gpu
    assert "CPU; the GPU was not measured: give --images_per_second" in measurement.embedded


def test_what_cannot_be_measured(tmp_path):
    with pytest.raises(ValueError, match="--sample .* found none among 0"):
        measured(tmp_path)
    data.write_images(tmp_path, 1)
    far = ModelSpec("gs://b/m", "tf2", "gs://b/m", "", (), 0, (224, 224), "")
    with pytest.raises(ValueError, match="--model 'gs://b/m' would have to be fetched .* give --images_per_second"):
        measured(tmp_path, model=far, images_per_second=None)
    with pytest.raises(ValueError, match="give --preset dataflow-gpu too"):
        measured(tmp_path, has_gpu=False)
