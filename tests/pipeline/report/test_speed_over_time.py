"""The speed of a run over time."""

import random

from pipeline.report.speed_over_time import MAX_SPANS, Speed


def test_images_by_span():
    speed = Speed()
    for ended, images in ((1000.1, 3), (1000.2, 4), (1000.6, 5)):
        speed.add(ended, images)
    assert speed.facts(999.0) == {"from_s": 1.0, "span_s": 0.25, "images": [7, 0, 5]}
    assert Speed().facts(0.0) == {}


def test_the_spans_double_until_they_hold_the_run():
    speed = Speed()
    for second in range(10_000):
        speed.add(1e9 + second, 2)
    facts = speed.facts(1e9)
    assert facts["span_s"] == 128 and len(facts["images"]) <= MAX_SPANS and sum(facts["images"]) == 20_000


def test_parts_add_up_to_the_whole_in_any_order():
    rng = random.Random(0)
    times = [(1e9 + rng.random() * 500, rng.randrange(32)) for _ in range(1000)]
    whole, parts = Speed(), [Speed() for _ in range(5)]
    for number, (ended, images) in enumerate(times):
        whole.add(ended, images)
        parts[number % 5].add(ended, images)
    parts[0] = Speed()
    for number in range(0, 1000, 5):
        parts[0].add(*times[number])
    rng.shuffle(parts)
    total = Speed()
    for part in parts:
        total.merge(part)
    assert total.facts(1e9) == whole.facts(1e9)
