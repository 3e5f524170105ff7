"""pipeline.quote.estimate: the arithmetic against numbers worked out by hand, price tables, and what is measured."""

import dataclasses

import pytest
from apache_beam.testing.load_tests import dataflow_cost_consts as beams

from pipeline import presets
from pipeline.quote import estimate
from pipeline.quote.estimate import Prices, Speed, Workers
from tests import data_generation as data
from transforms.models.spec import ModelSpec, bundled

PRICES = Prices("s", "2026-01-01", "us-central1", 0.05, 0.004, 0.0001, 0.01, {"nvidia-l4": 0.7})
PLAIN = Workers("n1-standard-4", presets.shape("n1-standard-4"), None, 50)
L4 = presets.accelerator("nvidia-l4", 1, None)
GPU = Workers(L4.machine_type, presets.shape(L4.machine_type), L4, 50)
MILLION = 1_000_000


def speed(decode, embed, on_gpu=True):
    return Speed(decode, embed, on_gpu, "", "", 1)


def bills(of, gpu=GPU, count=10 * MILLION):
    return {bill.name: bill for bill in estimate.options(count, of, PRICES, PLAIN, gpu, 150_528 + 5_120)}


def test_an_hour_of_a_worker():
    # 4 × 0.05 + 15 × 0.004 + 50 × 0.0001, and 8 × 0.05 + 32 × 0.004 + 50 × 0.0001 + 0.7
    assert PLAIN.hour(PRICES) == (0.265, "4 × 0.05 + 15 × 0.004 + 50 × 0.0001")
    assert GPU.hour(PRICES) == (1.233, "8 × 0.05 + 32 × 0.004 + 50 × 0.0001 + 1 × 0.7")


def test_a_gpu_that_waits_for_nobody():
    # Decoding 0.008 / 8 = 0.001 s is hidden behind 0.0036 s: 10⁷ × 0.0036 / 3600 = 10 h, at $1.233.
    found = bills(speed(0.008, 0.0036))
    (item,) = found["fused"].items
    assert (item.amount, item.dollars) == (10, 12.33)
    # Apart: the same 10 h, 10⁷ × 0.002 / 3600 = 5.556 h of plain workers, and 2 × 10⁷ × 155,648 bytes.
    embed, decode, shuffled = found["separate"].items
    assert (embed.amount, embed.dollars) == (10, 12.33)
    assert (decode.amount, decode.dollars) == (5.556, 1.47)
    assert (shuffled.amount, shuffled.dollars) == (3112.96, 31.13)
    assert found["separate"].dollars == 44.93


def test_a_gpu_that_waits_for_decoding():
    # 0.08 / 8 = 0.01 s an image, three times what the GPU needs: fused, it is paid for 27.778 h.
    found = bills(speed(0.08, 0.0036))
    assert found["fused"].items[0].amount == 27.778
    assert found["separate"].items[0].amount == 10


def test_without_a_gpu_decoding_and_embedding_share_the_cores():
    found = bills(speed(0.008, 0.028, on_gpu=False), gpu=None)
    assert list(found) == ["plain workers"]
    # 10⁷ × 0.036 / 4 / 3600
    assert found["plain workers"].items[0].amount == 25
    assert bills(speed(0.008, 0.028, on_gpu=False))["fused"].items[0].amount == 12.5


def test_the_table_has_the_prices_of_its_source():
    found = estimate.read_prices(None)
    assert (found.vcpu, found.memory_gb) == (beams.VCPU_PER_HR_BATCH, beams.MEM_PER_GB_HR_BATCH)
    assert (found.disk_gb, found.shuffle_gb) == (beams.PD_PER_GB_HR, beams.SHUFFLE_PER_GB_BATCH)
    assert sorted(found.gpu.values()) == sorted(beams.ACCELERATOR_TO_COST.values())
    assert found.gpu["nvidia-l4"] == beams.L4_PER_GPU_PER_HOUR
    assert found.date and "dataflow_cost_consts" in found.source and found.region == "us-central1"
    assert set(found.gpu) == set(presets.GPUS)


def test_a_table_of_ones_own(tmp_path):
    own = tmp_path / "prices.toml"
    own.write_text(estimate.PRICES.read_text().replace("vcpu = 0.056", "vcpu = 0.01"))
    assert estimate.read_prices(str(own)).vcpu == 0.01


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "cannot be read"), ("= 3", "cannot be read"), ("source = ''\ndate = 1", "missed 'worker'")],
    ids=["absent", "no TOML", "incomplete"],
)
def test_wrong_tables(tmp_path, text, said):
    path = tmp_path / "prices.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match="--prices") as raised:
        estimate.read_prices(str(path))
    assert said in str(raised.value)


def test_a_price_that_is_missing_is_asked_for():
    with pytest.raises(ValueError, match="the price table has no 'nvidia-l4': copy pipeline/quote/prices.toml, add it"):
        GPU.hour(dataclasses.replace(PRICES, gpu={}))


def measured(sample, **given):
    model = given.pop("model", bundled("efficientnet_lite0", None, "stretch"))
    return estimate.measure(
        model,
        sample=str(sample / "*"),
        resize_mode="stretch",
        **{"batch_size": 2, "images_per_second": 200.0, "has_gpu": True} | given,
    )


def test_decoding_is_measured_and_the_speed_of_a_gpu_taken_as_given(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    data.write_images(tmp_path, 3)
    found = measured(tmp_path)
    assert 0 < found.decode < 0.1
    assert found.embed == 0.005 and found.on_gpu and "as given" in found.embedded
    assert "measured here on 3 images" in found.decoded


def test_large_images_take_longer(tmp_path):
    for name, size in (("small", 100), ("large", 2000)):
        (tmp_path / name).mkdir()
        data.write_images(tmp_path / name, 2, height=size, width=size)
    # 400 times the pixels; less by far in time, as JPEGs are decoded at a reduced size.
    assert measured(tmp_path / "large").decode > 3 * measured(tmp_path / "small").decode


def test_a_gpus_speed_is_not_taken_from_this_machine(tmp_path):
    data.write_images(tmp_path, 1)
    found = measured(tmp_path, images_per_second=None)
    assert found.embed > 0 and not found.on_gpu
    assert "CPU; the GPU is not: give --images_per_second" in found.embedded


def test_what_cannot_be_measured(tmp_path):
    with pytest.raises(ValueError, match="--sample .* found none among 0"):
        measured(tmp_path)
    data.write_images(tmp_path, 1)
    far = ModelSpec("gs://b/m", "tf2", "gs://b/m", "", (), 0, (224, 224), "")
    with pytest.raises(ValueError, match="--model 'gs://b/m' would have to be fetched .* give --images_per_second"):
        measured(tmp_path, model=far, images_per_second=None)
    with pytest.raises(ValueError, match="give --preset dataflow-gpu too"):
        measured(tmp_path, has_gpu=False)
