"""pipeline.commands.finetune.options: flags, defaults, and each wrong flag in one plain line."""

import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.commands.finetune import options

IMAGES = ["--train", "x", "--model", "m", "--output", "o"]


def test_flags_that_are_left_out_have_their_defaults():
    config = options.parse(["--train", "p/*/*.jpg", "--model", "m", "--output", "o"])
    assert dataclasses.asdict(config) == {
        "train": (str(Path.cwd() / "p/*/*.jpg"),),
        "model": "m",
        "embeddings": "",
        "labels": None,
        "output": Path.cwd() / "o",
        "overwrite": False,
        "trainable": False,
        "batch_norm_momentum": None,
        "augment": False,
        "image_size": None,
        "epochs": 20,
        "batch_size": 32,
        "learning_rate": 0.001,
        "validation_fraction": 0.2,
        "patience": 3,
        "seed": 0,
        "verbose": False,
    }
    assert options.parse([*IMAGES, "--trainable"]).learning_rate == 0.0001


def test_every_flag(tmp_path):
    config = options.parse(
        f"--train {tmp_path} --train gs://b/l.csv --model m --trainable --batch_norm_momentum 0.997 --augment "
        "--image_size 300x200 --epochs 5 --batch_size 8 --learning_rate 1e-2 --validation_fraction 0 --patience 1 "
        "--seed 7 --overwrite --verbose --output /out/".split()
    )
    assert config.train == (f"{tmp_path}/**", "gs://b/l.csv")
    assert (config.trainable, config.batch_norm_momentum, config.augment, config.image_size) == (
        True,
        0.997,
        True,
        (300, 200),
    )
    assert (config.epochs, config.batch_size, config.learning_rate, config.validation_fraction) == (5, 8, 0.01, 0.0)
    assert (config.patience, config.seed, config.overwrite, config.verbose) == (1, 7, True, True)
    assert config.output == Path("/out")


def test_embeddings_instead():
    config = options.parse(["--embeddings", "gs://b/vectors/", "--labels", "l.csv", "--output", "o"])
    assert (config.embeddings, config.labels) == ("gs://b/vectors", str(Path.cwd() / "l.csv"))
    assert (config.train, config.model) == ((), "")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--output o", "nothing to train: expected --model HANDLE and --train PATTERN, or --embeddings DIR"),
        ("--train x --output o", "nothing to train: expected --model HANDLE"),
        ("--model m --output o", "no images to train on: expected --train PATTERN"),
        ("--train x --model m", "the following arguments are required: --output"),
        ("--train x --model m --labels l --output o", "--labels goes with --embeddings"),
        ("--model m --embeddings e --output o", "--model and --embeddings: expected one of them"),
        ("--train x --embeddings e --output o", "--train goes with --model"),
        ("--embeddings e --trainable --output o", "--trainable goes with --model"),
        ("--embeddings e --augment --output o", "--augment goes with --model"),
        ("--embeddings e --image_size 9x9 --output o", "--image_size goes with --model"),
        ("{} --batch_norm_momentum 0.9", "--batch_norm_momentum has no effect on a frozen model: expected --trainable"),
        ("{} --batch_norm_momentum 1", "argument --batch_norm_momentum: '1': expected a number from 0 to less than 1"),
        ("--train x --model m --output gs://b/o", "--output 'gs://b/o': expected a local directory"),
        ("{} y.jpg z.jpg", "'y.jpg' belongs to no flag: expected quotes around a pattern"),
        ("{} --epoch 3", "'--epoch' is no flag of this command; did you mean --epochs?"),
        ("{} --zzz", "'--zzz' is no flag of this command; see --help"),
        ("{} --epochs 0", "argument --epochs: '0': expected a whole number from 1"),
        ("{} --batch_size x", "argument --batch_size: 'x': expected a whole number from 1"),
        ("{} --patience -1", "argument --patience: '-1': expected a whole number from 1"),
        ("{} --seed -1", "argument --seed: '-1': expected a whole number from 0"),
        ("{} --learning_rate 0", "argument --learning_rate: '0': expected a number above 0, as in 0.001"),
        ("{} --learning_rate inf", "expected a number above 0"),
        ("{} --learning_rate fast", "expected a number above 0"),
        ("{} --validation_fraction 1", "argument --validation_fraction: '1': expected a number from 0 to less than 1"),
        ("{} --validation_fraction nan", "expected a number from 0 to less than 1"),
        ("{} --image_size 224", "argument --image_size: '224': expected HEIGHTxWIDTH in pixels, as in 224x224"),
    ],
)
def test_a_wrong_flag_is_reported_in_one_line(argv, message):
    with pytest.raises(ValueError, match="expected|required|flag") as raised:
        options.parse(argv.format(" ".join(IMAGES)).split())
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_help_is_quick_and_names_units_defaults_and_examples():
    start = time.monotonic()
    command = [sys.executable, "-m", "pipeline", "finetune", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert time.monotonic() - start < 2
    text = " ".join(done.stdout.split())
    for action in options._parser()._actions:
        assert action.option_strings[-1] in text
    for expected in ("in pixels", "default: 32", "examples:", "in a bucket", "exit code", "uri and label", "0.997"):
        assert expected in text


def test_flags_need_neither_beam_nor_tensorflow():
    unneeded = {"tensorflow", "apache_beam", "numpy"}
    code = f"import sys, pipeline.commands.finetune.run; sys.exit(bool({unneeded} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "flag", [f"--seed={2**31}", "--batch_norm_momentum=0", "--validation_fraction=1", "--learning_rate=0"]
)
def test_values_at_the_border_are_refused(flag):
    with pytest.raises(ValueError, match=flag.split("=")[0]):
        options.parse(["--train", "x", "--model", "m", "--output", "/o", flag])
    options.parse(["--train", "x", "--model", "m", "--output", "/o", f"--seed={2**31 - 1}", "--validation_fraction=0"])
