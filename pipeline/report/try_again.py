"""The command lines that a page offers: the same again, and another try of what failed."""

from collections.abc import Sequence

from pipeline.flags import command_lines
from pipeline.flags.options import EmbedConfig
from pipeline.report.page.facts import FailedImage
from transforms.elements.formats import SHARD_FORMATS

_INPUTS = "--input", "--input_format"
_NAME = "--run_id"
_TAKE_VALUES = {*_INPUTS, _NAME}


def same_again(config: EmbedConfig) -> str:
    """Returns the command line of a run, without its name unless it overwrites: a taken name would do nothing."""
    argv = config.argv if config.overwrite else command_lines.without(config.argv, {_NAME}, _TAKE_VALUES)
    return command_lines.join([*config.program, *argv])


def make_page(config: EmbedConfig) -> str:
    """Returns the command line that makes the page of a complete run which has none: the same, under the run's name."""
    argv = command_lines.without(config.argv, {_NAME, "--overwrite", "--no_resume"}, _TAKE_VALUES)
    return command_lines.join([*config.program, *argv, _NAME, config.run_id])


def retry(config: EmbedConfig, failed: Sequence[FailedImage]) -> str:
    """Returns the command line that tries images again where that may help; "" if there is none."""
    if not any(image.retryable for image in failed):
        return ""
    names = {_NAME, "--reprocess", "--overwrite"}
    if config.input_format in SHARD_FORMATS:
        return command_lines.join([*config.program, *command_lines.without(config.argv, names, _TAKE_VALUES)])
    names |= {*_INPUTS, "--retry_failed", "--prune"}
    return command_lines.join(
        [*config.program, "--retry_failed", *command_lines.without(config.argv, names, _TAKE_VALUES)]
    )
