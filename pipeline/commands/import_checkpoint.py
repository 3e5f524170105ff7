"""The command that turns a TF-Slim checkpoint into a SavedModel; its `--help` has examples."""

import argparse
from collections.abc import Sequence

from pipeline.commands import frame
from pipeline.flags import command_lines
from pipeline.flags.argument_parser import Parser
from transforms.elements.one_line import name
from transforms.models.slim import checkpoint as checkpoints

_EXAMPLES = """\
  # the checkpoint as released in 2016; the model returns vectors of 1536 numbers
  tar -xzf inception_resnet_v2_2016_08_30.tar.gz
  python -m pipeline import-checkpoint --network inception_resnet_v2 \\
      --checkpoint inception_resnet_v2_2016_08_30.ckpt --output models/inception_resnet_v2

  # a checkpoint of your own (model.ckpt-5000.index, .data-00000-of-00001); the model returns logits
  python -m pipeline import-checkpoint --network inception_v2 --head classification \\
      --checkpoint train/model.ckpt-5000 --output models/inception_v2_classes --overwrite
"""
_NEXT = ("--input", "*.jpg", "--output", "out", "--model")

# Variable names in an error message; `CheckpointMismatchError` itself has all of them.
_MAX_NAMES = 20


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    return frame.run(_parser(), argv, _import)


def _parser() -> Parser:
    parser = frame.parser(
        "import-checkpoint",
        "Turns a TF-Slim checkpoint into a TensorFlow 2 SavedModel, for --model or hub.KerasLayer.",
        _EXAMPLES,
    )
    parser.add_argument("--network", required=True, choices=sorted(checkpoints.NETWORKS), help="the network in it")
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="FILE",
        help="a .ckpt file (V1 format, as of 2016), or the common prefix of .index and .data files (V2 format)",
    )
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="the local directory to create, complete or not at all"
    )
    parser.add_argument(
        "--head",
        choices=checkpoints.HEADS,
        default=checkpoints.FEATURE_VECTOR,
        help="the output for an image: its feature vector, or the logits of the classes (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a SavedModel in --output (default: refuse)")
    return parser


def _import(flags: argparse.Namespace) -> str:
    try:
        report = checkpoints.import_checkpoint(
            flags.network, flags.checkpoint, flags.output, flags.head, flags.overwrite
        )
    except checkpoints.CheckpointMismatchError as error:
        raise ValueError(error.describe(limit=_MAX_NAMES)) from error
    return _summary(report)


def _summary(report: checkpoints.ImportReport) -> str:
    ignored = ", ".join(f"{kind} {len(names)}" for kind, names in report.ignored.items())
    lines = {
        "network": report.network,
        "head": f"{report.head}, {report.dimension} numbers an image",
        "parameters": f"{report.parameters:,}",
        "ignored": f"variables: {ignored}" if ignored else "no variable",
        "output": name(str(report.output)),
        "next": command_lines.join([*command_lines.program(), *_NEXT, str(report.output)]),
    }
    return "\n".join(f"{fact:<11}{value}" for fact, value in lines.items())
