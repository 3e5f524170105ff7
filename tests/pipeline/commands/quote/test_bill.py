"""pipeline.commands.quote.bill: the arithmetic against numbers worked out by hand, and price tables."""

import dataclasses

import pytest
from apache_beam.testing.load_tests import dataflow_cost_consts as beams

from pipeline.commands.quote import bill
from pipeline.commands.quote.bill import Prices, Workers
from pipeline.commands.quote.speed import Speed
from pipeline.runners import presets

PRICES = Prices("s", "2026-01-01", "us-central1", 0.05, 0.004, 0.0001, 0.01, {"nvidia-l4": 0.7})
PLAIN = Workers("n1-standard-4", presets.shape("n1-standard-4"), None, 50)
L4 = presets.accelerator("nvidia-l4", 1, None)
GPU = Workers(L4.machine_type, presets.shape(L4.machine_type), L4, 50)
MILLION = 1_000_000


def speed(decode, embed, on_gpu=True, python=0.0):
    return Speed(decode, python, embed, on_gpu, "", "", 1)


def bills(of, gpu=GPU, count=10 * MILLION):
    return {each.name: each for each in bill.bills(count, of, PRICES, PLAIN, gpu, 150_528 + 5_120)}


def test_an_hour_of_a_worker():
    # 4 × 0.05 + 15 × 0.004 + 50 × 0.0001, and 8 × 0.05 + 32 × 0.004 + 50 × 0.0001 + 0.7
    assert PLAIN.hour(PRICES) == (0.265, "4 × 0.05 + 15 × 0.004 + 50 × 0.0001")
    assert GPU.hour(PRICES) == (1.233, "8 × 0.05 + 32 × 0.004 + 50 × 0.0001 + 1 × 0.7")


def test_a_gpu_that_waits_for_nobody():
    # Decoding 0.008 / 8 = 0.001 s is hidden behind 0.0036 s: 10⁷ × 0.0036 / 3600 = 10 h, at $1.233.
    by_name = bills(speed(0.008, 0.0036))
    (item,) = by_name["fused"].items
    assert (item.amount, item.dollars) == (10, 12.33)
    # Apart: the same 10 h, 10⁷ × 0.002 / 3600 = 5.556 h of plain workers, and 2 × 10⁷ × 155,648 bytes.
    embed, decode, shuffled = by_name["separate"].items
    assert (embed.amount, embed.dollars) == (10, 12.33)
    assert (decode.amount, decode.dollars) == (5.556, 1.47)
    assert (shuffled.amount, shuffled.dollars) == (3112.96, 31.13)
    assert by_name["separate"].dollars == 44.93


def test_a_gpu_that_waits_for_decoding():
    # 0.08 / 8 = 0.01 s an image, three times what the GPU needs: fused, it is paid for 27.778 h.
    by_name = bills(speed(0.08, 0.0036))
    assert by_name["fused"].items[0].amount == 27.778
    assert by_name["separate"].items[0].amount == 10


def test_a_gpu_that_waits_for_the_lock_of_its_process():
    # (0.0004 + 0.0002) / 8 and 0.0001 s are less than 0.0002 s: 10⁷ × 0.0002 / 3600.
    (item,) = bills(speed(0.0004, 0.0001, python=0.0002))["fused"].items
    assert item.amount == 0.556 and "max(0.000600 s / 8 vCPUs, 0.000200 s, 0.000100 s)" in item.reckoned
    # On plain workers, whose processes have a lock each: 10⁷ × (0.0034 + 0.0002) / 4 / 3600.
    assert bills(speed(0.0034, 0.0001, python=0.0002))["separate"].items[1].amount == 2.5


def test_without_a_gpu_decoding_and_embedding_share_the_cores():
    by_name = bills(speed(0.008, 0.028, on_gpu=False), gpu=None)
    assert list(by_name) == ["plain workers"]
    # 10⁷ × 0.036 / 4 / 3600
    assert by_name["plain workers"].items[0].amount == 25
    assert bills(speed(0.008, 0.028, on_gpu=False))["fused"].items[0].amount == 12.5


def test_the_table_has_the_prices_of_its_source():
    prices = bill.read_prices(None)
    assert (prices.vcpu, prices.memory_gb) == (beams.VCPU_PER_HR_BATCH, beams.MEM_PER_GB_HR_BATCH)
    assert (prices.disk_gb, prices.shuffle_gb) == (beams.PD_PER_GB_HR, beams.SHUFFLE_PER_GB_BATCH)
    assert sorted(prices.gpu.values()) == sorted(beams.ACCELERATOR_TO_COST.values())
    assert prices.gpu["nvidia-l4"] == beams.L4_PER_GPU_PER_HOUR
    assert prices.date and "dataflow_cost_consts" in prices.source and prices.region == "us-central1"
    assert set(prices.gpu) == set(presets.GPUS)


def test_a_table_of_ones_own(tmp_path):
    own = tmp_path / "prices.toml"
    own.write_text(bill.PRICES.read_text().replace("vcpu = 0.056", "vcpu = 0.01"))
    assert bill.read_prices(str(own)).vcpu == 0.01


def test_a_table_without_buckets_and_one_without_the_source_of_a_price(tmp_path):
    own, table = tmp_path / "prices.toml", bill.PRICES.read_text()
    own.write_text(table.partition("[bucket.gs]")[0])
    assert bill.read_prices(str(own)).buckets == {}
    for wrong in ("[bucket.gs]\nmillion_gets = 1", "[bucket]\ngs = 1"):
        own.write_text(table.partition("[bucket.gs]")[0] + wrong)
        with pytest.raises(ValueError, match="missing or wrong: "):
            bill.read_prices(str(own))


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "cannot be read"), ("= 3", "cannot be read"), ("source = ''\ndate = 1", "missing or wrong: 'worker'")],
    ids=["absent", "no TOML", "incomplete"],
)
def test_wrong_tables(tmp_path, text, said):
    path = tmp_path / "prices.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match="--prices") as raised:
        bill.read_prices(str(path))
    assert said in str(raised.value)


def test_a_price_that_is_missing_is_asked_for():
    with pytest.raises(
        ValueError, match="the price table has no 'nvidia-l4': copy pipeline/commands/quote/prices.toml, add it"
    ):
        GPU.hour(dataclasses.replace(PRICES, gpu={}))


def test_each_gpu_of_a_worker_has_its_price():
    two = presets.accelerator("nvidia-l4", 2, None)
    dollars, reckoned = Workers(two.machine_type, presets.shape(two.machine_type), two, 50).hour(PRICES)
    # 24 × 0.05 + 96 × 0.004 + 50 × 0.0001 + 2 × 0.7
    assert (dollars, reckoned) == (2.989, "24 × 0.05 + 96 × 0.004 + 50 × 0.0001 + 2 × 0.7")
