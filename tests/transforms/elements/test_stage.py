"""transforms.elements.stage: what a stage gives, by name, and the types that Beam checks at its ends."""

import logging

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.typehints.decorators import TypeCheckError

from transforms.elements.records import Failure, StageSeconds
from transforms.elements.stage import FAILURES, SECONDS, Stage, StageOutput, with_stage_outputs


def _odd(number):
    return Failure.of(b"%d" % number, "halve", ValueError("odd"))


class _Halve(beam.DoFn):
    """Even numbers go on as their halves; odd ones are failures; each takes a second."""

    def process(self, number):
        yield beam.pvalue.TaggedOutput(SECONDS, StageSeconds.of("halve", 1.0, ended=7.0))
        if number % 2:
            yield beam.pvalue.TaggedOutput(FAILURES, _odd(number))
        else:
            yield number // 2


class _Halves(Stage):
    def expand(self, numbers: beam.PCollection[int]) -> StageOutput[int]:
        return StageOutput.of(numbers | with_stage_outputs(_Halve(), int))


class _Doubled(Stage):
    def expand(self, numbers: beam.PCollection[int]) -> beam.PCollection[int]:
        return numbers | beam.Map(lambda number: 2 * number)


class _Joined(Stage):
    def expand(self, inputs: dict[str, beam.PCollection]) -> beam.PCollection[int]:
        return tuple(inputs.values()) | beam.Flatten()


def test_each_output_of_a_stage_has_its_name():
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        outputs = pipeline | beam.Create([3, 4, 6]) | _Halves()
        assert_that(outputs.main, equal_to([2, 3]), label="main")
        assert_that(outputs.failures, equal_to([_odd(3)]), label="failures")
        assert_that(outputs.seconds, equal_to([StageSeconds.of("halve", 1.0, ended=7.0)] * 3), label="seconds")


def test_types_of_single_collections_are_checked():
    pipeline = beam.Pipeline()
    with pytest.raises(TypeCheckError, match="_Halves: expected <class 'int'>, got .*Failure"):
        _ = pipeline | beam.Create([Failure(b"k", "read", "E", "", False)]) | _Halves()
    doubled = pipeline | "Numbers" >> beam.Create([1]) | _Doubled()
    assert doubled.element_type is int


def test_several_inputs_or_outputs_are_no_types_and_no_warnings(caplog):
    with caplog.at_level(logging.WARNING):
        halves, joined, doubled = (stage.get_type_hints() for stage in (_Halves(), _Joined(), _Doubled()))
    assert (halves.input_types, halves.output_types) == (((int,), {}), None)
    assert (joined.input_types, joined.output_types) == (None, ((int,), {}))
    assert (doubled.input_types, doubled.output_types) == (((int,), {}), ((int,), {}))
    assert caplog.text == ""


def test_type_hints_of_a_decorator_come_first():
    @beam.typehints.with_output_types(float)
    class Halved(_Doubled):
        pass

    hints = Halved().get_type_hints()
    assert (hints.input_types, hints.output_types) == (((int,), {}), ((float,), {}))
