"""transforms.concurrent.do_in_flight: many elements at once, each with its own window and timestamp."""

import pickle
import threading

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from transforms.concurrent.do_in_flight import DoInFlight
from transforms.elements.stage import SECONDS

EVEN = "even"
FOUR_AT_ONCE = threading.Barrier(4)


class Double(DoInFlight):
    """Doubles; what four divides is tagged."""

    def call(self, element):
        if element == 0:
            raise KeyError("none")
        return 2 * element

    def size(self, element):
        return 0

    def outputs(self, results):
        (result,) = results
        yield beam.pvalue.TaggedOutput(EVEN, result) if result % 4 == 0 else result


class DoubleTogether(Double):
    """Waits until four are in flight."""

    def call(self, element):
        FOUR_AT_ONCE.wait(10)
        return super().call(element)


def test_elements_keep_window_and_timestamp_and_wait_together():
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        elements = (
            pipeline
            | beam.Create([TimestampedValue(i, i) for i in range(1, 9)], reshuffle=False)
            | beam.WindowInto(FixedWindows(4))
        )
        done = elements | beam.ParDo(DoubleTogether("s", 8)).with_outputs(EVEN, SECONDS, main="odd")
        place = beam.Map(lambda n, time=beam.DoFn.TimestampParam, window=beam.DoFn.WindowParam: (n, time, window.start))
        assert_that(done.odd | "Odd" >> place, equal_to([(2 * i, i, i // 4 * 4) for i in (1, 3, 5, 7)]), label="odd")
        assert_that(done[EVEN] | place, equal_to([(2 * i, i, i // 4 * 4) for i in (2, 4, 6, 8)]), label="even")
        stages = done[SECONDS] | beam.Map(lambda busy: busy.stage)
        assert_that(stages, equal_to(["s"] * 8), label="seconds")


def test_an_error_fails_the_bundle():
    with pytest.raises(Exception, match="none"), TestPipeline(runner=FnApiRunner()) as pipeline:
        pipeline | beam.Create([0]) | beam.ParDo(Double("s", 8)).with_outputs(EVEN, SECONDS, main="odd")


def test_what_a_failed_bundle_left_is_not_of_the_next():
    double = pickle.loads(pickle.dumps(Double("s", 8)))  # noqa: S301 - as Beam ships it
    double.setup()
    double.start_bundle()
    assert list(double.process(3, 0, beam.window.GlobalWindow())) == []
    double.start_bundle()
    for element in (5, 7, 9):
        assert list(double.process(element, 0, beam.window.GlobalWindow())) == []
    results = [output.value for output in double.finish_bundle() if not isinstance(output, beam.pvalue.TaggedOutput)]
    assert results == [10, 14, 18]
