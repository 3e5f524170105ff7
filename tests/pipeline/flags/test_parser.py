"""pipeline.flags.parser: the help of the command, and the flags that other modules read from the parser."""

import pytest

from pipeline.flags import options, parser
from pipeline.runners import presets
from transforms.models.engines.fixed_batches import BATCH_SIZE_DEFAULT


def test_help_names_units_defaults_and_examples(capsys):
    with pytest.raises(SystemExit) as raised:
        options.parse(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert raised.value.code == 0
    for flag in parser.known_flags():
        assert flag in text
    for expected in ("in pixels", "default: 32", "examples:", "gs://", "Beam's own flags", "exit code"):
        assert expected in text


def test_the_help_of_the_batch_size_follows_the_presets():
    (batch_size,) = [flag for flag in parser.flags_described() if flag.dest == "batch_size"]
    assert batch_size.help.endswith("(default: 32, or 64 with --preset dataflow-gpu)")
    assert {preset: presets.batch_size(preset) for preset in presets.PRESETS} == {
        "local": BATCH_SIZE_DEFAULT,
        "flink": BATCH_SIZE_DEFAULT,
        "dataflow": BATCH_SIZE_DEFAULT,
        "dataflow-gpu": 64,
    }


def test_flags_are_described_once_each():
    described = [name for flag in parser.flags_described() for name in flag.option_strings]
    assert sorted([*described, "-h", "--help"]) == sorted(parser.known_flags())
