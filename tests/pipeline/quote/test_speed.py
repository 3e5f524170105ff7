"""pipeline.quote.speed: decoding and embedding are measured, or the speed of a GPU taken from a flag."""

import pytest

from pipeline.quote.speed import measure
from tests import data_generation as data
from transforms.models import catalog
from transforms.models.spec import ModelSpec


def measured(sample, **arguments):
    model = arguments.pop("model", catalog.bundled("efficientnet_lite0", None, "stretch"))
    return measure(
        model,
        sample=str(sample / "*"),
        resize_mode="stretch",
        **{"batch_size": 2, "images_per_second": 200.0, "has_gpu": True} | arguments,
    )


def test_decoding_is_measured_and_the_speed_of_a_gpu_taken_as_given(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    data.write_images(tmp_path, 3)
    speed = measured(tmp_path)
    assert 0 < speed.decode < 0.1
    assert speed.embed == 0.005 and speed.on_gpu and "as given" in speed.embedded
    assert "measured here on 3 images" in speed.decoded


def test_large_images_take_longer(tmp_path):
    for name, size in (("small", 100), ("large", 2000)):
        (tmp_path / name).mkdir()
        data.write_images(tmp_path / name, 2, height=size, width=size)
    # 400 times the pixels; less by far in time, as JPEGs are decoded at a reduced size.
    assert measured(tmp_path / "large").decode > 3 * measured(tmp_path / "small").decode


def test_a_gpus_speed_is_not_taken_from_this_machine(tmp_path):
    data.write_images(tmp_path, 1)
    speed = measured(tmp_path, images_per_second=None)
    assert speed.embed > 0 and not speed.on_gpu
    assert "CPU; the GPU is not: give --images_per_second" in speed.embedded


def test_what_cannot_be_measured(tmp_path):
    with pytest.raises(ValueError, match="--sample .* found none among 0"):
        measured(tmp_path)
    data.write_images(tmp_path, 1)
    far = ModelSpec("gs://b/m", "tf2", "gs://b/m", "", (), 0, (224, 224), "")
    with pytest.raises(ValueError, match="--model 'gs://b/m' would have to be fetched .* give --images_per_second"):
        measured(tmp_path, model=far, images_per_second=None)
    with pytest.raises(ValueError, match="give --preset dataflow-gpu too"):
        measured(tmp_path, has_gpu=False)
