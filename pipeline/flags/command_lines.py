"""Command lines that a person copies.

They call the program as the user did. Each is one line of printable characters, which bash and zsh parse into the same
arguments.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from transforms.elements.one_line import is_seen

# Printable characters that are special between `$'` and `'`, or in the history of an interactive bash.
_SPECIAL = frozenset("'\\!")

_INSTALLED = "embed-images"
_MODULE = "python -m pipeline"
_SCRIPT = "python run_pipeline.py"


def program() -> tuple[str, ...]:
    """Returns the words by which a person called this process; those of `run_pipeline.py` if it is another program."""
    return _called() or tuple(_SCRIPT.split())


def name() -> str:
    """Returns the name of the program in its messages: `embed-images`, `run_pipeline.py` or `pipeline`."""
    return Path(program()[-1]).name


def as_called(text: str) -> str:
    """Returns a text about `python run_pipeline.py` and `python -m pipeline` in the form of the call."""
    if called := _called():
        text = text.replace(_SCRIPT, join(called)).replace(_MODULE, join(called))
    return text


def advice_as_called(error: str) -> str:
    """Returns an error that may advise a verb between backticks, in the form of the call. Other parts are a user's."""
    return error.replace(f"`{_MODULE} ", f"`{join(_called() or _MODULE.split())} ")


def _called() -> tuple[str, ...] | None:
    words = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]
    last = words[-1] if words else ""
    if Path(last).name == _INSTALLED:  # the system runs it as an argument of its Python
        on_path = shutil.which(_INSTALLED)
        return (_INSTALLED if on_path and os.path.realpath(on_path) == os.path.realpath(last) else last,)
    is_this = words[-2:] == ["-m", "pipeline"] or Path(last).name == "run_pipeline.py"
    return tuple(words) if is_this else None


def join(argv: Iterable[str]) -> str:
    r"""Returns a command line whose words are these arguments, in one line of printable characters.

    It is that of `shlex.join`, but a word with any other character is written as `$'…'`, with `\xNN` for each of its
    bytes: for line breaks, characters without width, those that change the order of others, and bytes that are not
    UTF-8.

    >>> print(join(["ls", "a b", "caf\udce9\n.jpg"]))
    ls 'a b' $'caf\xe9\x0a.jpg'

    Args:
      argv: as the system gives it, so bytes that are not UTF-8 are lone surrogates (PEP 383).
    """
    return " ".join(map(_word, argv))


def without(argv: Iterable[str], names: Collection[str], take_values: Collection[str] = ()) -> Iterator[str]:
    """Yields the arguments without the flags of these names. Those in `take_values` have a value, the others none.

    >>> print(join(without(["--input", "a", "--prune", "false", "--run_id=r"], {"--prune", "--run_id"}, {"--run_id"})))
    --input a
    """
    left_out = ""
    for argument in argv:
        is_value = left_out in take_values or (left_out and argument.lower() in ("true", "false"))
        left_out = ""
        if is_value:
            continue
        name, equals, _ = argument.partition("=")
        if name not in names:
            yield argument
        elif not equals:
            left_out = name


def _word(argument: str) -> str:
    if is_seen(argument):
        return shlex.quote(argument)
    return f"$'{''.join(map(_escaped, argument))}'"


def _escaped(character: str) -> str:
    if is_seen(character) and character not in _SPECIAL:
        return character
    is_byte = "\udc80" <= character <= "\udcff"
    content = character.encode("utf-8", "surrogateescape" if is_byte else "surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in content)
