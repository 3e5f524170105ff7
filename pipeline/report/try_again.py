"""The command lines that a page offers: the same again, and another try of what failed."""

from collections.abc import Collection, Iterable, Sequence

from pipeline import shell_words
from pipeline.options import EmbedConfig
from pipeline.report.page.facts import FailedImage
from transforms.formats import SHARD_FORMATS

_COMMAND = "python", "run_pipeline.py"
_INPUTS = "--input", "--input_format"
_NAME = "--run_id"
_TAKE_VALUES = {*_INPUTS, _NAME}


def same_again(config: EmbedConfig) -> str:
    """Returns the command line of a run, without a name for it that is taken: such a run would do nothing."""
    argv = config.argv if config.overwrite else _without(config.argv, {_NAME})
    return shell_words.join([*_COMMAND, *argv])


def retry(config: EmbedConfig, failed: Sequence[FailedImage]) -> str:
    """Returns the command line that tries the images again that another try may help; "" if there is none."""
    if not any(image.retryable for image in failed):
        return ""
    names = {_NAME, "--reprocess", "--overwrite"}
    if config.input_format in SHARD_FORMATS:
        return shell_words.join([*_COMMAND, *_without(config.argv, names)])
    names |= {*_INPUTS, "--retry_failed", "--prune"}
    return shell_words.join([*_COMMAND, "--retry_failed", *_without(config.argv, names)])


def _without(argv: Sequence[str], names: Collection[str]) -> Iterable[str]:
    """Yields the arguments without the flags of these names, which are switches except those in _TAKE_VALUES."""
    left_out = ""
    for argument in argv:
        is_value = left_out in _TAKE_VALUES or (left_out and argument.lower() in ("true", "false"))
        left_out = ""
        if is_value:
            continue
        name, equals, _ = argument.partition("=")
        if name not in names:
            yield argument
        elif not equals:
            left_out = name
