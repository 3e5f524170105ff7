"""transforms.elements.records: what travels, survives the way there."""

import dataclasses
import time

from transforms.elements import records


def test_a_failure_quotes_only_the_beginning_of_a_message():
    failure = records.Failure.of(b"k", "decode", ValueError("x" * 10_000))
    assert (failure.error, len(failure.message), failure.retryable) == ("ValueError", 500, False)


def test_the_time_of_one_item_ends_now_and_lasts_as_long_as_its_call():
    before = time.time()
    read = records.StageSeconds.of("read", 0.25)
    assert before <= read.ended <= time.time()
    assert (read.items, read.longest, read.calls, read.device) == (1, 0.25, 1.0, "")
    assert read.started == read.ended - 0.25
    # An image of a batch of four, in a call of two seconds.
    image = records.StageSeconds.of("embed", 0.5, calls=0.25, device="CPU", ended=100.0)
    assert (image.started, image.ended, image.longest) == (98.0, 100.0, 0.5)
    # All images of that batch.
    batch = records.StageSeconds.of("embed", 2.0, items=4, calls=1, device="CPU", ended=100.0)
    assert (batch.started, batch.ended, batch.items, batch.calls, batch.longest) == (98.0, 100.0, 4, 1, 0.5)
    # Four images one after the other.
    several = records.StageSeconds.of("decode", 2.0, items=4, longest=1.5, ended=100.0)
    assert (several.started, several.items, several.calls, several.longest) == (98.0, 4, 4.0, 1.5)


def test_a_sum_of_times():
    first = records.StageSeconds.of("embed", 0.5, calls=0.25, device="CPU", ended=100.0)
    second = records.StageSeconds.of("embed", 1.0, calls=0.25, device="CPU", ended=103.0)
    total = first.merge(second)
    assert total == second.merge(first)
    assert total == records.StageSeconds("embed", "CPU", 2, 1.5, longest=1.0, calls=0.5, started=98.0, ended=103.0)
    assert total.merge(dataclasses.replace(first, device="GPU")).device == ""
    assert total.since(90.0) == dataclasses.replace(total, started=8.0, ended=13.0)
