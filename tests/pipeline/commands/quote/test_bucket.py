"""pipeline.commands.quote.bucket: requests, bytes, ramps and tars against numbers worked out by hand."""

import pytest

from pipeline.commands.quote import bill, bucket

PRICES = {
    "gs": {"source": "s", "date": "d", "million_gets": 0.4, "million_lists": 5.0, "gb_between_regions": 0.02},
    "az": {"source": "s", "date": "d", "gb_to_internet": 0.087},
}
MILLION = 1_000_000


def of(inputs=("gs://b/**",), input_format="images", **changes):
    arguments = {
        "images": 10 * MILLION,
        "image_bytes": 500_000,
        "seconds": 10_000.0,
        "workers": 20,
        "region": "us-central1",
        "location": None,
        "prices": PRICES,
    }
    return bucket.of(inputs, input_format, **(arguments | changes))


def test_requests_and_their_price():
    # 10⁷ GETs at $0.40 a million, and 10⁷ / 1,000 LISTs at $5 a million
    requests = of().requests
    assert (requests.objects, requests.gets, requests.lists) == (10 * MILLION, 10 * MILLION, 10_000)
    assert requests.dollars == 4.05


def test_each_object_of_a_list_is_looked_up_too():
    requests = of(input_format="list").requests
    assert (requests.gets, requests.lists, requests.dollars) == (20 * MILLION, 0, 8.0)
    assert requests.full_rate == 40_000


def test_a_tar_is_one_object():
    # 10⁷ × 500,000 / 500,000,000 tars
    tars = of(input_format="tar")
    assert (tars.requests.gets, tars.requests.lists, tars.requests.dollars) == (10_000, 10, 0.0)
    assert tars.requests.ramp_adds_seconds == 0 and tars.in_tars is None
    assert of().in_tars == tars.requests


@pytest.mark.parametrize(
    ("gets", "rate", "until_full", "adds"),
    [
        (MILLION, 5000, 0, 0),
        # Two doublings; meanwhile 1200 / ln 2 × 15,000 = 25,968,511 reads, which take 1298.4 s at 20,000 a second.
        (100 * MILLION, 20_000, 2400, 1101.6),
        # The job ends before: 1200 × log2(1 + 10⁷ × ln 2 / (1200 × 5000)) = 1329.5 s, against 500 s.
        (10 * MILLION, 20_000, 2400, 829.5),
        (1, 10_000, 1200, 0.0001),
    ],
)
def test_the_ramp_of_a_bucket(gets, rate, until_full, adds):
    assert bucket.ramp(gets, rate) == pytest.approx((until_full, adds), abs=0.1)


def test_a_ramp_never_takes_less_than_none():
    for rate in (4999, 5001, 7_000, 80_000):
        assert all(bucket.ramp(gets, rate)[1] >= 0 for gets in (1, 1000, MILLION, 1000 * MILLION))


@pytest.mark.parametrize(
    ("inputs", "location", "gigabytes", "dollars"),
    [
        ("gs://b", None, None, None),
        ("gs://b", "US-CENTRAL1", 0.0, 0.0),
        ("gs://b", "europe-west1", 5000.0, 100.0),  # 10⁷ × 500 kB, at $0.02
        ("az://b", None, 5000.0, 435.0),
        ("s3://b", "us-east-1", 5000.0, None),
    ],
)
def test_the_bytes_that_leave_a_region(inputs, location, gigabytes, dollars):
    found = of([inputs], location=location)
    assert (found.gigabytes, found.dollars) == (gigabytes, dollars)


def test_inputs_that_are_in_no_bucket():
    assert of(["photos/*.jpg", "https://x/y"]) is None


def test_what_people_read():
    # 10⁷ × 20 / 10,000 s = 20,000 a second
    assert of(location="EU").lines() == [
        "  bucket   gs://, besides; prices of d: s",
        "    10,000,000 GET and 10,000 LIST, at $0.4 and $5 a million: $4.05",
        "    bytes that leave a region: 5,000.0 GB × $0.02 = $100.00",
        "    ramp: 20,000 GET a second of all workers from minute 40 on, for which the job takes 13.8 min more",
        "    in 10,000 tars of 500 MB, each job would be $4.05 cheaper and 13.8 min faster; packing them reads each "
        "object once",
    ]


def test_what_is_unknown_is_said():
    assert of(["s3://b"], workers=None, images=1000).lines() == [
        "  bucket   s3://, besides; prices of nowhere: give them by --prices",
        "    1,000 GET and 1 LIST: the price table has no million_gets and million_lists for them",
        "    bytes that leave a region: 0.5 GB at an unknown gb_to_internet",
        "    ramp: unknown without --max_num_workers",
    ]
    assert "    bytes that leave a region: unknown without --bucket_location" in of().lines()


def test_a_small_job_has_no_use_for_tars():
    assert of(images=1000, location="us-central1").lines()[1:] == [
        "    1,000 GET and 1 LIST, at $0.4 and $5 a million: $0.00",
        "    bytes that leave a region: none, the bucket is where the job is",
        "    ramp: 2 GET a second of all workers, which a bucket serves at once",
    ]


def test_each_price_of_the_table_has_a_source_and_a_date():
    prices = bill.read_prices(None).buckets
    assert set(prices) == set(bucket.STORES)
    assert all(of_store["source"].startswith("https://") and of_store["date"] for of_store in prices.values())
    # $0.0004 and $0.005 for a thousand
    assert (prices["gs"]["million_gets"], prices["gs"]["million_lists"]) == (0.4, 5.0)
