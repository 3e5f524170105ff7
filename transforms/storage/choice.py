"""Decides which of the files that a listing sees are taken, and counts those that are left out. No Beam."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from transforms.storage import globs, left_out

# The most kinds of names that are counted separately. All further kinds share one count.
MAX_KINDS = 50
FURTHER = "…"

_TAKEN = ("taken", "")

_Verdict = Callable[[str], tuple[str, str] | None]


class Choice:
    """What the listing of one pattern takes. A file that several listings see is counted by one of them.

    Attributes:
      pattern: the pattern.
      left_out: (HIDDEN, OTHER or BESIDE, kind of name) → files that were not taken, so far.
    """

    def __init__(
        self,
        patterns: Sequence[str],
        number: int = 0,
        *,
        include_hidden: bool = False,
        input_format: str = "images",
    ):
        """Chooses for `patterns[number]`; the other patterns are those of the same run. See `left_out.rule`."""
        self.pattern = patterns[number]
        self.left_out: Counter[tuple[str, str]] = Counter()
        self._rule = left_out.rule(patterns[number], include_hidden=include_hidden, input_format=input_format)
        verdicts = [_verdict(pattern, include_hidden, input_format) for pattern in patterns]
        self._own = verdicts[number]
        self._earlier, self._later = verdicts[:number], verdicts[number + 1 :]

    def takes(self, path: str) -> bool:
        """Returns whether a file is listed, and counts it if it is left out for its name."""
        verdict = self._own(path)
        if verdict == _TAKEN:
            return True
        if verdict:
            self._count(path, verdict)
        return False

    def hides(self, directory: str) -> bool:
        """Returns whether nothing below a directory is listed, because it is hidden, and counts it."""
        verdict = self._rule(directory)
        if not verdict or verdict[0] != left_out.HIDDEN:
            return False
        self._count(directory, (verdict[0], f"{verdict[1].rstrip('/')}/"))
        return True

    def _count(self, path: str, verdict: tuple[str, str]) -> None:
        others = [own(path) for own in self._earlier]
        if any(others) or any(own(path) == _TAKEN for own in self._later):
            return  # another pattern takes it, or has counted it
        count(self.left_out, verdict)


def count(left_out: Counter[tuple[str, str]], verdict: tuple[str, str]) -> None:
    """Adds a file to the counts of files that are left out: at most MAX_KINDS kinds, and all further kinds together."""
    if len(left_out) >= MAX_KINDS and verdict not in left_out:
        verdict = (verdict[0], FURTHER)
    left_out[verdict] += 1


def by_kind(counted: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    """Returns counts as a report has them: HIDDEN, OTHER or BESIDE → kind of name → files, the most files first."""
    kinds: dict[str, dict[str, int]] = {}
    for (why, name), files in sorted(counted.items(), key=lambda item: (item[0][0], -item[1], item[0][1])):
        kinds.setdefault(why, {})[name] = files
    return kinds


def _verdict(pattern: str, include_hidden: bool, input_format: str) -> _Verdict:
    """Returns a function: path → _TAKEN, why it is left out, or None if the pattern does not concern it."""
    matches = globs.matcher(pattern)
    why = left_out.rule(pattern, include_hidden=include_hidden, input_format=input_format)
    beside_pattern = left_out.beside(pattern) if input_format == "images" else None
    beside = globs.matcher(beside_pattern) if beside_pattern else None

    def verdict(path: str) -> tuple[str, str] | None:
        if path == pattern:
            return _TAKEN
        if matches(path):
            return why(path) or _TAKEN
        if not beside or not beside(path) or why(path):
            return None
        extension = left_out.extension(path)
        is_image = extension and left_out.is_image_extension(extension)
        return (left_out.BESIDE, f".{extension}") if is_image else None

    return verdict
