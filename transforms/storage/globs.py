"""Globs: which paths a pattern matches, wherever the files are. No Beam.

- `*` matches any characters of one name, `?` one of them, `[abc]` one of these, `[!abc]` one other.
- `**` crosses directories. As a whole name it stands for any number of them: in `a/**/b` also for none.
- A pattern in a bucket without wildcards also matches all that lies below it: a bucket has no directories to ask.

The time of a match is at most quadratic in the length of the path. Text between two wildcards is matched at the first
possible place only, because the wildcard after it matches whatever is left.
"""

import os
import posixpath
import re
from collections.abc import Callable

from transforms.storage import locations

_ACROSS = re.compile(r"((?:^|(?<=/))(?:\*\*+/)+|\*\*+)")
_SYMBOL = re.compile(r"\[!?+\]?+[^\]]*\]|.", re.DOTALL)
_LITERAL = re.compile(r"(?:[^*?\[]|\[\[\])*", re.DOTALL)


def takes_in(pattern: str, path: str) -> bool:
    """Returns whether a glob matches a path, or is its name."""
    return path == pattern or matcher(pattern)(path)


def matcher(pattern: str) -> Callable[[str], bool]:
    """Returns a function that tells whether a glob matches a path, compiled once for many paths.

    Raises ValueError if a range of characters ends before it begins.
    """
    literal = literal_prefix(pattern) if locations.is_local(pattern) else ""
    translated = _translated(pattern.removeprefix(literal))
    if is_object_or_directory(pattern):
        translated += ".*" if pattern.endswith("/") else "(?:/.*)?"
    matches = _compiled(translated, pattern).match
    return lambda path: path.startswith(literal) and matches(path, len(literal)) is not None


def may_hold(pattern: str) -> Callable[[str], bool]:
    """Returns a function that tells whether a local glob may match files below a directory below the glob's front."""
    literal = literal_prefix(pattern)
    head, *across = _ACROSS.split(pattern.removeprefix(literal), maxsplit=1)
    *directories, last = _names(head)
    if across:
        directories.append([*last, "*"])  # what stands before `**` in its name
    matchers = [_compiled(_name(symbols, is_whole=True), pattern).match for symbols in directories]

    def holds(directory: str) -> bool:
        names = directory[len(literal) :].split("/")
        is_not_too_deep = bool(across) or len(names) <= len(matchers)
        return is_not_too_deep and all(match(name) for match, name in zip(matchers, names, strict=False))

    return holds


class Positions:
    """How far the path of a directory gets into a local glob. Only that decides what the glob matches below it."""

    def __init__(self, pattern: str):
        self._literal = literal_prefix(pattern)
        front, fronts = "", [("", False)]
        for part in _ACROSS.split(pattern.removeprefix(self._literal)):
            is_across = _ACROSS.fullmatch(part) is not None
            for symbol in (part,) if is_across else _SYMBOL.findall(part):
                front += symbol
                if is_across or symbol == "/":
                    fronts.append((front, is_across))
        self._matchers = [_compiled(_translated(front), pattern).match for front, _ in fronts]
        self._across = {number for number, (_, is_across) in enumerate(fronts) if is_across}

    def of(self, directory: str) -> frozenset[int]:
        """Returns the positions that a directory has reached, at the front of the glob or below."""
        path = posixpath.join(directory, "")
        reached = {number for number, match in enumerate(self._matchers) if match(path, len(self._literal))}
        # A path that matches from a position before `**` also matches from the position after it.
        first = max(reached & self._across, default=0)
        return frozenset(number for number in reached if number >= first)


def literal_prefix(pattern: str) -> str:
    """Returns the front of a local pattern that has no wildcards: whole names, each with the slashes after it.

    Brackets in a name are no wildcards if a file or directory of exactly this name exists.
    """
    literal = ""
    for name in re.findall("[^/]*/*", pattern):
        if "*" in name or "?" in name or ("[" in name and not os.path.lexists(literal + name)):
            break
        literal += name
    return literal


def literal_directories(pattern: str) -> str:
    """Returns the directories at the front of a pattern that have no wildcards, with the slash after the last."""
    literal = literal_prefix(pattern) if locations.is_local(pattern) else literal_front(pattern)
    return literal[: literal.rfind("/") + 1]


def literal_front(pattern: str) -> str:
    """Returns the front of a pattern that has no wildcards, as spelled: `[[]` stands for a bracket."""
    literal = _LITERAL.match(pattern)
    return literal[0] if literal else ""


def is_object_or_directory(pattern: str) -> bool:
    """Returns whether a pattern is the name of an object in a bucket, or of what would be a directory there."""
    return not locations.is_local(pattern) and not has_wildcards(pattern)


def has_wildcards(pattern: str) -> bool:
    """Returns whether a pattern has wildcards. Brackets count, except those that stand for a bracket."""
    return literal_front(pattern) != pattern


def _translated(pattern: str) -> str:
    """Returns the regular expression of a glob."""
    first, *rest = _ACROSS.split(pattern)
    groups = list(zip(rest[::2], rest[1::2], strict=True))
    translated = _text(first, is_last=not groups)
    for number, (across, text) in enumerate(groups):
        is_last = number == len(groups) - 1
        lazy = "" if is_last else "?"
        front = f"(?:.*{lazy}/)?{lazy}" if across.endswith("/") else f".*{lazy}"
        group = front + _text(text, is_last)
        translated += group if is_last else f"(?>{group})"
    return translated


def _text(text: str, is_last: bool) -> str:
    """Returns the regular expression of a part of a glob without `**`; a wildcard follows it unless it is last."""
    *directories, last = _names(text)
    names = [_name(symbols, is_whole=True) for symbols in directories]
    return "/".join([*names, _name(last, is_whole=is_last)])


def _names(text: str) -> list[list[str]]:
    """Returns the symbols of each name in a part of a glob: a character, a wildcard or a bracket expression each."""
    names: list[list[str]] = [[]]
    for symbol in _SYMBOL.findall(text):
        if symbol == "/":
            names.append([])
        else:
            names[-1].append(symbol)
    return names


def _name(symbols: list[str], is_whole: bool) -> str:
    """Returns the regular expression of one name, or of its front if it is not whole."""
    chunks = [""]
    for symbol in symbols:
        if symbol == "*":
            chunks.append("")
        else:
            chunks[-1] += _character(symbol)
    first, *others = chunks
    early = len(others) - is_whole
    return first + "".join(
        f"(?>[^/]*?{chunk})" if number < early else f"[^/]*{chunk}" for number, chunk in enumerate(others)
    )


def _character(symbol: str) -> str:
    if symbol == "?":
        return "[^/]"
    if len(symbol) == 1:
        return re.escape(symbol)
    characters = re.sub(r"([\\\[\]&~|^])", r"\\\1", symbol[1:-1])
    return f"(?!/)[^{characters[1:]}]" if characters.startswith("!") else f"(?!/)[{characters}]"


def _compiled(translated: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(rf"(?s:{translated})\Z")
    except re.error as error:
        raise ValueError(f"pattern={pattern!r}: expected a glob ({error})") from error
