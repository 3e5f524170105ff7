"""Command lines that a person copies.

They call the program as the user did. Each is one line of printable characters, which bash and zsh parse into the same
arguments.
"""

import shlex
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from transforms.elements.one_line import is_seen

# Printable characters that are special between `$'` and `'`, or in the history of an interactive bash.
_SPECIAL = frozenset("'\\!")

_INSTALLED = ("embed-images",)
_MODULE = ("python", "-m", "pipeline")
_SCRIPT = ("python", "run_pipeline.py")


def program() -> tuple[str, ...]:
    """Returns the words by which a person called this process; those of `run_pipeline.py` if it is another program."""
    called = Path(sys.argv[0])
    if called.stem == _INSTALLED[0]:
        return _INSTALLED
    return _MODULE if called.parts[-2:] == ("pipeline", "__main__.py") else _SCRIPT


def as_called(text: str) -> str:
    """Returns a text about `python run_pipeline.py` and `python -m pipeline VERB` in the form of `program`."""
    called = " ".join(program())
    if program() != _SCRIPT:
        text = text.replace(" ".join(_SCRIPT), called)
    return text.replace(" ".join(_MODULE), called) if program() == _INSTALLED else text


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
