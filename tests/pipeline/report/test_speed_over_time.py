"""The speed of a run over time."""

import random

from pipeline.report.speed_over_time import MAX_SPANS, Speed


def test_images_by_span():
    speed = Speed()
    for started, ended, images in ((1000.1, 1000.1, 3), (1000.0, 1000.2, 4), (1000.55, 1000.6, 5)):
        speed.add(started, ended, images)
    assert speed.facts(999.0) == {"from_s": 1.0, "span_s": 0.25, "images": [7, 0, 5]}
    assert Speed().facts(0.0) == {}


def test_the_images_of_a_call_are_spread_over_its_time():
    speed = Speed()
    speed.add(1000.125, 1001.0, 64)
    assert speed.facts(1000.0)["images"] == [9, 18, 19, 18]


def test_the_spans_double_until_they_hold_the_run():
    speed = Speed()
    for second in range(10_000):
        speed.add(1e9 + second, 1e9 + second + 0.5, 2)
    facts = speed.facts(1e9)
    assert facts["span_s"] == 128 and len(facts["images"]) <= MAX_SPANS and sum(facts["images"]) == 20_000
    speed.add(1e9, 2e9, 100)  # a clock that was set anew
    assert len(speed.facts(1e9)["images"]) <= MAX_SPANS and sum(speed.images.values()) == 20_100


def test_parts_add_up_in_any_order():
    rng = random.Random(0)
    times = [(1e9 + rng.random() * 500, rng.randrange(32)) for _ in range(1000)]
    totals = []
    for _ in range(2):
        parts = [Speed() for _ in range(5)]
        for number, (started, images) in enumerate(times):
            parts[number % 5].add(started, started + 0.3, images)
        rng.shuffle(parts)
        total = Speed()
        for part in parts:
            total.merge(part)
        totals.append(total.facts(1e9))
    assert totals[0] == totals[1] and sum(totals[0]["images"]) == sum(images for _, images in times)
