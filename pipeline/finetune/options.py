"""The flags of `python -m pipeline.finetune`: argv → `FinetuneConfig`. No Beam, no TensorFlow: help comes at once."""

import argparse
import dataclasses
import difflib
import math
from collections.abc import Sequence
from pathlib import Path

from pipeline import command, flags
from transforms.storage import locations

_EXAMPLES = """\
  python -m pipeline.finetune --train 'photos/*/*.jpg' --model models/module --output pets
      a softmax over what a module makes of each photograph; its class is the folder that it lies in
  python -m pipeline.finetune --train labels.csv --model models/module --trainable --augment --output pets
      the module too; a CSV with the columns uri and label says which class
  python -m pipeline.finetune --embeddings vectors --output pets
      a softmax over vectors that run_pipeline.py wrote into vectors/: no image is read, and it takes seconds
  python run_pipeline.py --model pets/feature_vector --input 'photos/**' --output vectors
      the vectors of the fine-tuned module

exit code: 0 done; 1 the training failed; 2 wrong flags or inputs, said before any training; 130 interrupted. Nothing
is written unless all is.
"""
# Of the softmax alone; and of all weights, of which a larger step would spoil those that were trained before.
_LEARNING_RATE, _LEARNING_RATE_TRAINABLE = 1e-3, 1e-4
# What is of no use, and so a mistake, where the images are not read.
_ONLY_WITH_MODEL = ("train", "trainable", "batch_norm_momentum", "augment", "image_size")


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
    """What was asked, checked as far as flags can tell; the help of each flag says what it means.

    `embeddings` is "" where there are `train` and `model`, and the other way round.
    """

    train: tuple[str, ...]
    model: str
    embeddings: str
    labels: str | None
    output: Path
    overwrite: bool
    trainable: bool
    batch_norm_momentum: float | None
    augment: bool
    image_size: tuple[int, int] | None
    epochs: int
    batch_size: int
    learning_rate: float
    validation_fraction: float
    patience: int
    seed: int
    verbose: bool


def parse(argv: Sequence[str]) -> FinetuneConfig:
    """Returns what was asked.

    Raises:
      ValueError: if a flag is wrong, in one line that says what was expected.
      SystemExit: after `--help`.
    """
    parser = _parser()
    given, unknown = parser.parse_known_args(argv)
    if unknown:
        raise ValueError(_unknown(unknown[0], [flag for action in parser._actions for flag in action.option_strings]))
    _check_source(given)
    if not locations.is_local(given.output):
        raise ValueError(f"--output {given.output!r}: expected a local directory; copy it to where it is needed then")
    if given.batch_norm_momentum is not None and not given.trainable:
        raise ValueError("--batch_norm_momentum has no effect on a frozen model: expected --trainable with it")
    learning_rate = given.learning_rate or (_LEARNING_RATE_TRAINABLE if given.trainable else _LEARNING_RATE)
    values = vars(given) | {
        "train": tuple(flags.pattern(pattern) for pattern in given.train or ()),
        "model": given.model or "",
        "embeddings": flags.absolute(given.embeddings or ""),
        "labels": given.labels and flags.absolute(given.labels),
        "output": Path(flags.absolute(given.output)),
        "learning_rate": learning_rate,
    }
    return FinetuneConfig(**values)


def _check_source(given: argparse.Namespace) -> None:
    if given.embeddings is None:
        if given.model is None:
            raise ValueError("nothing to train: expected --model HANDLE and --train PATTERN, or --embeddings DIR")
        if not given.train:
            raise ValueError("no images to train on: expected --train PATTERN, a folder a class, or a .csv of labels")
        if given.labels is not None:
            raise ValueError("--labels goes with --embeddings: expected the .csv as --train where there is --model")
        return
    if given.model is not None:
        raise ValueError("--model and --embeddings: expected one of them, embeddings have their model behind them")
    for name in _ONLY_WITH_MODEL:
        if getattr(given, name):
            raise ValueError(f"--{name} goes with --model: expected it without --embeddings, where no image is read")


def _unknown(argument: str, known: Sequence[str]) -> str:
    if not argument.startswith("-"):
        return f"{argument!r} belongs to no flag: expected quotes around a pattern, or the shell takes it apart"
    near = difflib.get_close_matches(argument.split("=")[0], known, n=1)
    return f"{argument!r} is no flag of this command; {f'did you mean {near[0]}?' if near else 'see --help'}"


def _parser() -> command.Parser:
    parser = command.parser(
        "finetune",
        "Trains a classifier of images: a softmax over a model's vectors, and the model too where asked.",
        _EXAMPLES,
    )
    parser.usage = (
        "python -m pipeline.finetune (--train PATTERN --model HANDLE | --embeddings DIR) --output DIR [flags]"
    )
    what = parser.add_argument_group("what to train on")
    what.add_argument(
        "--train",
        action="append",
        metavar="PATTERN",
        help="images, local or gs://: a glob (** crosses directories) or a directory, the folder of an image is its "
        "class; or a .csv with the columns uri and label; repeatable",
    )
    what.add_argument(
        "--model",
        metavar="HANDLE",
        help="what run_pipeline.py takes as --model, if it is a SavedModel in TF2 format: a directory, a name, a URL …",
    )
    what.add_argument(
        "--embeddings",
        metavar="DIR",
        help="instead of both: what run_pipeline.py wrote as --output DIR, or one run below DIR/embeddings",
    )
    what.add_argument(
        "--labels",
        metavar="FILE",
        help="with --embeddings: a .csv with the columns uri and label (default: the folder of an image is its class)",
    )
    what.add_argument(
        "--validation_fraction",
        type=_fraction,
        default=0.2,
        metavar="RATE",
        help="the part of the images that is not trained on, by a hash of their URIs, so that it stays the same when "
        "images are added; 0 for none (default: %(default)s)",
    )
    how = parser.add_argument_group("how")
    how.add_argument("--trainable", action="store_true", help="train the model too (default: it stays frozen)")
    how.add_argument(
        "--batch_norm_momentum",
        type=_fraction,
        metavar="RATE",
        help="with --trainable: the part of the moving averages that a step keeps, as in 0.997; less for few images "
        "(default: the model's own)",
    )
    how.add_argument("--augment", action="store_true", help="flip and crop the images to train on at random")
    how.add_argument(
        "--image_size",
        type=flags.image_size,
        metavar="HxW",
        help="height and width of the images, in pixels, as in 299x299 (default: the model's own)",
    )
    how.add_argument(
        "--epochs",
        type=flags.positive,
        default=20,
        metavar="N",
        help="times over the images, at most (default: %(default)s)",
    )
    how.add_argument(
        "--batch_size", type=flags.positive, default=32, metavar="N", help="images a step (default: %(default)s)"
    )
    how.add_argument(
        "--learning_rate",
        type=_learning_rate,
        metavar="RATE",
        help=f"Adam's, per step (default: {_LEARNING_RATE}, with --trainable {_LEARNING_RATE_TRAINABLE})",
    )
    how.add_argument(
        "--patience",
        type=flags.positive,
        default=3,
        metavar="N",
        help="end after so many epochs without a lower validation loss; the best epoch is kept (default: %(default)s)",
    )
    how.add_argument(
        "--seed", type=_seed, default=0, metavar="N", help="of everything that is random (default: %(default)s)"
    )
    where = parser.add_argument_group("where to")
    where.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        help="a local directory to make: classifier/, report.json and, with --model, feature_vector/",
    )
    where.add_argument("--overwrite", action="store_true", help="replace what an earlier run wrote there")
    return parser


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 0 to {2**31 - 1}")
    return int(text)


def _fraction(text: str) -> float:
    number = flags.number(text)
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 to less than 1")
    return number


def _learning_rate(text: str) -> float:
    number = flags.number(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number above 0, as in 0.001")
    return number
