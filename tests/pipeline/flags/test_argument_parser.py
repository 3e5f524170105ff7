"""pipeline.flags.argument_parser: a wrong flag is an error, and negative numbers are values."""

import pytest

from pipeline.flags.argument_parser import Parser


def test_a_wrong_flag_raises_an_error_and_prints_nothing(capfd):
    with pytest.raises(ValueError, match="unrecognized arguments: --b"):
        Parser(allow_abbrev=False).parse_args(["--b"])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("value", ["-1", "-1..1", "-1,0,1", "-.5"])
def test_a_negative_number_is_a_value(value):
    parser = Parser()
    parser.add_argument("--range")
    assert parser.parse_args(["--range", value]).range == value
