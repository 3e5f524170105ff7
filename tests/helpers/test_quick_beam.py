"""tests.helpers.quick_beam: pipelines and options are those that Beam makes."""

import inspect
import os

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.transforms import core, userstate

from tests.helpers import quick_beam

pytestmark = pytest.mark.skipif(quick_beam.PLAIN in os.environ, reason="Beam is to stay as it is")


class _Plain(beam.DoFn):
    def process(self, element, window=beam.DoFn.WindowParam):
        yield element, window


class _Other(_Plain):
    def process(self, element, key=beam.DoFn.KeyParam, extra=7):
        yield element, key, extra


def test_it_is_installed():
    assert core.get_function_args_defaults.__module__ == quick_beam.__name__


def test_beam_stays_as_it_is_if_the_variable_says_so(plain_beam, monkeypatch):
    monkeypatch.setattr(core, "get_function_args_defaults", inspect.signature)
    quick_beam.install()
    assert core.get_function_args_defaults is inspect.signature


@pytest.mark.parametrize(
    "function",
    [_Plain().process, _Plain.process, _Other().process, len, lambda a, *, b=1: a],
    ids=["method", "function", "method of another class", "builtin", "lambda"],
)
def test_arguments_and_defaults_are_those_of_the_signature(function):
    parameters = inspect.signature(function).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    expected = [p.name for p in positional], [p.default for p in positional if p.default is not p.empty]
    for _ in range(2):
        arguments = core.get_function_args_defaults(function)
        assert arguments == expected
        arguments[0].append("a caller's own")


def test_state_is_still_seen():
    state_param = beam.DoFn.StateParam(userstate.BagStateSpec("state", beam.coders.BytesCoder()))

    class Stateful(beam.DoFn):
        def process(self, element, state=state_param):
            yield element

    assert userstate.is_stateful_dofn(Stateful()) and not userstate.is_stateful_dofn(_Plain())


def test_options_and_their_errors(capsys):
    options = PipelineOptions(["--project=p", "--job_name=j"]).view_as(GoogleCloudOptions)
    assert (options.project, options.job_name, options.region) == ("p", "j", None)
    for _ in range(2):
        with pytest.raises(SystemExit):
            PipelineOptions(["--update", "--project"]).view_as(GoogleCloudOptions)
        assert capsys.readouterr().err.count("usage:") == 1
