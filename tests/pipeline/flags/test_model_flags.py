"""pipeline.flags.model_flags: the flags of a model's preprocessing, for all commands that take a model."""

import pytest

from pipeline.flags import model_flags
from pipeline.flags.argument_parser import Parser
from transforms.models.preprocessing import NO_CHOICES, Choices, of_range


def choices(*argv):
    parser = Parser()
    model_flags.add(parser)
    return model_flags.choices(parser.parse_args(argv))


@pytest.mark.parametrize(
    ("argv", "chosen"),
    [
        ([], NO_CHOICES),
        (["--pixel_range", "-1..1"], of_range("-1..1")),
        (["--pixel_range=0..255"], of_range("0..255")),
        (["--pixel_mean", "-0.5,0,.25", "--pixel_std", "1,2,3"], Choices(mean=(-0.5, 0, 0.25), std=(1, 2, 3))),
        (["--channels=bgr", "--image_size=9x8"], Choices(channels="bgr", image_size=(9, 8))),
        (
            ["--resize_mode=crop", "--interpolation=bicubic", "--crop_fraction=0.875"],
            Choices(resize_mode="crop", interpolation="bicubic", crop_fraction=0.875),
        ),
    ],
    ids=str,
)
def test_choices(argv, chosen):
    assert choices(*argv) == chosen


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--pixel_range 0..1 --pixel_mean 0,0,0 --pixel_std 1,1,1", "--pixel_range and --pixel_mean: expected one"),
        ("--pixel_mean 0,0,0", "--pixel_mean and --pixel_std come together: expected both"),
        ("--pixel_std 1,1,1", "--pixel_mean and --pixel_std come together: expected both"),
        ("--pixel_std 1,1", "argument --pixel_std: '1,1': expected three numbers, as in 0.485,0.456,0.406"),
        ("--pixel_mean 0,0,0 --pixel_std 1,1,0", "expected three numbers above 0"),
        ("--pixel_range 0-1", "argument --pixel_range: invalid choice: '0-1'"),
        ("--pixel_range", "argument --pixel_range: expected one argument"),
        ("--crop_fraction 1.1", "argument --crop_fraction: '1.1': expected a number above 0, at most 1, as in 0.875"),
        ("--crop_fraction 0.9 --resize_mode pad", "expected 1 with resize_mode='pad', which cuts nothing"),
        ("--interpolation cubic", "argument --interpolation: invalid choice: 'cubic'"),
    ],
)
def test_wrong_flags_are_one_line(argv, message):
    with pytest.raises(ValueError, match=r"expected|invalid") as raised:
        choices(*argv.split())
    assert message in str(raised.value) and "\n" not in str(raised.value)
