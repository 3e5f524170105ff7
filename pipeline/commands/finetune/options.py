"""The flags of `python -m pipeline finetune`: argv → `FinetuneConfig`. No Beam, no TensorFlow: help is quick."""

import argparse
import dataclasses
import difflib
import math
from collections.abc import Sequence
from pathlib import Path

from pipeline.commands import frame
from pipeline.flags import flag_types
from pipeline.flags.argument_parser import Parser
from transforms.storage import locations

_EXAMPLES = """\
  python -m pipeline finetune --train 'photos/*/*.jpg' --model models/module --output pets
      train a softmax on a module's vectors of photographs; the folder of a photograph is its class
  python -m pipeline finetune --train labels.csv --model models/module --trainable --augment --output pets
      train the module too; a CSV with the columns uri and label has the classes
  python -m pipeline finetune --embeddings vectors --output pets
      train a softmax on the vectors that a run wrote into vectors/; it reads no images and takes seconds
  python run_pipeline.py --model pets/feature_vector --input 'photos/**' --output vectors
      compute vectors with the fine-tuned module

exit code: 0 done; 1 the training failed; 2 wrong flags or inputs, reported before any training; 130 interrupted. The
output appears complete or not at all.
"""
# For the softmax alone, and for all weights. A larger step would spoil the weights that were trained before.
_LEARNING_RATE, _LEARNING_RATE_TRAINABLE = 1e-3, 1e-4
_STEP_SIZE = flag_types.number_that(lambda size: 0 < size < math.inf, "a number above 0, as in 0.001")
_FRACTION = flag_types.number_that(lambda fraction: 0 <= fraction < 1, "a number from 0 to less than 1")
# Flags that have no effect where no images are read. There, they are refused as a mistake.
_ONLY_WITH_MODEL = ("train", "trainable", "batch_norm_momentum", "augment", "image_size")


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
    """The values of the flags, checked without looking at any file. The help of each flag explains it.

    Either `train` and `model` are set, or `embeddings` is; the others are empty.
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
    """Returns the configuration that the arguments ask for.

    Raises:
      ValueError: if a flag is wrong; the message is one line and names the expected value.
      SystemExit: after `--help`.
    """
    parser = _parser()
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        raise ValueError(_unknown(unknown[0], [flag for action in parser._actions for flag in action.option_strings]))
    _check_source(args)
    if not locations.is_local(args.output):
        raise ValueError(f"--output {args.output!r}: expected a local directory; copy it elsewhere afterwards")
    if args.batch_norm_momentum is not None and not args.trainable:
        raise ValueError("--batch_norm_momentum has no effect on a frozen model: expected --trainable with it")
    learning_rate = args.learning_rate or (_LEARNING_RATE_TRAINABLE if args.trainable else _LEARNING_RATE)
    values = vars(args) | {
        "train": tuple(flag_types.pattern(pattern) for pattern in args.train or ()),
        "model": args.model or "",
        "embeddings": flag_types.absolute(args.embeddings or ""),
        "labels": args.labels and flag_types.absolute(args.labels),
        "output": Path(flag_types.absolute(args.output)),
        "learning_rate": learning_rate,
    }
    return FinetuneConfig(**values)


def _check_source(args: argparse.Namespace) -> None:
    if args.embeddings is None:
        if args.model is None:
            raise ValueError("nothing to train: expected --model HANDLE and --train PATTERN, or --embeddings DIR")
        if not args.train:
            raise ValueError("no images to train on: expected --train PATTERN, a folder per class, or a .csv of labels")
        if args.labels is not None:
            raise ValueError("--labels goes with --embeddings: with --model, expected the .csv as --train")
        return
    if args.model is not None:
        raise ValueError("--model and --embeddings: expected one of them, because embeddings come from a model already")
    for name in _ONLY_WITH_MODEL:
        if getattr(args, name):
            raise ValueError(f"--{name} goes with --model: expected it without --embeddings, which reads no images")


def _unknown(argument: str, known: Sequence[str]) -> str:
    if not argument.startswith("-"):
        return f"{argument!r} belongs to no flag: expected quotes around a pattern, or the shell expands it"
    similar = difflib.get_close_matches(argument.split("=")[0], known, n=1)
    return f"{argument!r} is no flag of this command; {f'did you mean {similar[0]}?' if similar else 'see --help'}"


def _parser() -> Parser:
    parser = frame.parser(
        "finetune",
        "Trains an image classifier: a softmax over a model's vectors and, with --trainable, the model too.",
        _EXAMPLES,
    )
    parser.usage = f"{parser.prog} (--train PATTERN --model HANDLE | --embeddings DIR) --output DIR [flags]"
    _add_data(parser.add_argument_group("training data and model"))
    _add_training(parser.add_argument_group("training"))
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        help="the local directory to create, with classifier/, report.json and, with --model, feature_vector/",
    )
    output.add_argument("--overwrite", action="store_true", help="replace the output of an earlier run")
    return parser


def _add_data(data: argparse._ArgumentGroup) -> None:
    data.add_argument(
        "--train",
        action="append",
        metavar="PATTERN",
        help="images, also in a bucket: a glob (** crosses directories) or a directory, and the folder of an image is "
        "its class; or a .csv with the columns uri and label; repeatable",
    )
    data.add_argument(
        "--model",
        metavar="HANDLE",
        help="a SavedModel in TF2 format, as --model of a run takes it: a directory, a name, a URL …",
    )
    data.add_argument(
        "--embeddings",
        metavar="DIR",
        help="in place of --train and --model: the --output DIR of a run, or one run below DIR/embeddings",
    )
    data.add_argument(
        "--labels",
        metavar="FILE",
        help="with --embeddings: a .csv with the columns uri and label (default: the folder of an image is its class)",
    )
    data.add_argument(
        "--validation_fraction",
        type=_FRACTION,
        default=0.2,
        metavar="RATE",
        help="the part of the images that is held out for validation; a hash of its URI decides for each image, so "
        "added images do not move others; 0 for none (default: %(default)s)",
    )


def _add_training(training: argparse._ArgumentGroup) -> None:
    training.add_argument("--trainable", action="store_true", help="train the model too (default: it stays frozen)")
    training.add_argument(
        "--batch_norm_momentum",
        type=_FRACTION,
        metavar="RATE",
        help="with --trainable: the part of the moving averages that each step keeps, as in 0.997; with few images, "
        "take less (default: the model's own)",
    )
    training.add_argument("--augment", action="store_true", help="flip and crop the training images at random")
    training.add_argument(
        "--image_size",
        type=flag_types.image_size,
        metavar="HxW",
        help="height and width of the images, in pixels, as in 299x299 (default: the model's own)",
    )
    training.add_argument(
        "--epochs",
        type=flag_types.positive,
        default=20,
        metavar="N",
        help="maximum number of passes over the images (default: %(default)s)",
    )
    training.add_argument(
        "--batch_size", type=flag_types.positive, default=32, metavar="N", help="images per step (default: %(default)s)"
    )
    training.add_argument(
        "--learning_rate",
        type=_STEP_SIZE,
        metavar="RATE",
        help=f"step size of Adam (default: {_LEARNING_RATE}, with --trainable {_LEARNING_RATE_TRAINABLE})",
    )
    training.add_argument(
        "--patience",
        type=flag_types.positive,
        default=3,
        metavar="N",
        help="end after N epochs without a lower validation loss; the best epoch is written (default: %(default)s)",
    )
    training.add_argument(
        "--seed", type=_seed, default=0, metavar="N", help="seed of all random numbers (default: %(default)s)"
    )


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 0 to {2**31 - 1}")
    return int(text)
