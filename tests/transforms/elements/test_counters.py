"""transforms.elements.counters: one count for the runner's pages and for the progress of this process."""

import threading

import apache_beam as beam
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline

from transforms.elements import counters


@pytest.fixture(autouse=True)
def forgotten():
    counters.reset()
    yield
    counters.reset()


def _count(number):
    counters.inc(counters.IMAGES_READ)
    counters.inc(counters.BYTES_READ, number)
    counters.observe(counters.DECODE_MICROSECONDS, number / 1e6)


def test_the_runner_and_this_process_count_the_same():
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        _ = pipeline | beam.Create([10, 20, 30]) | beam.Map(_count)
    expected = {counters.IMAGES_READ: 3, counters.BYTES_READ: 60}
    assert counters.of_job(pipeline.result) == counters.of_process() == expected
    named = MetricsFilter().with_namespace(counters.NAMESPACE).with_name(counters.DECODE_MICROSECONDS)
    (times,) = pipeline.result.metrics().query(named)["distributions"]
    assert (times.committed.count, times.committed.sum, times.committed.max) == (3, 60, 30)


def test_a_new_run_begins_at_nothing():
    counters.inc(counters.IMAGES_LISTED)
    counted = counters.of_process()
    counters.reset()
    assert counters.of_process() == {}
    assert counted == {counters.IMAGES_LISTED: 1}  # a copy: a reader's counts stay what they were


def test_threads_lose_no_count():
    def count():
        for _ in range(1000):
            counters.inc(counters.IMAGES_DECODED)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.of_process() == {counters.IMAGES_DECODED: 4000}


def test_failures_of_a_stage_have_a_name_of_their_own():
    assert counters.failed("decode") == "images_failed_decode"
