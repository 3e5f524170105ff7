"""Listing this machine's files: a pattern → everything that it matches, even if it is no file or cannot be read."""

import heapq
import os
import posixpath
from collections.abc import Iterator, Sequence

from transforms.elements import keys
from transforms.elements.records import ImageRef
from transforms.storage import globs, left_out, local
from transforms.storage.choice import Choice


def match(choice: Choice) -> Iterator[ImageRef]:
    """Yields a ref for each file that a choice takes.

    Links to directories are followed. Where the pattern matches the files of a directory under several paths, they are
    listed once: under the path without links below the front of the pattern if it matches that, else by the first link
    that leads to them.

    A ref has no version if it cannot be read as a file: pipes, sockets, devices, links to them, broken links, and each
    directory that may hold matches but cannot be listed. `local.described` raises the reason.
    """
    if _is_name(choice.pattern):
        return _described(choice.pattern)
    return _Walk(choice).files()


def is_there(pattern: str) -> bool:
    """Returns whether the file or directory at which a listing begins exists; raises OSError if that is unknown."""
    try:
        if _is_name(pattern):
            os.lstat(pattern)
        else:
            local.check_listable(root(pattern))
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def root(pattern: str) -> str:
    """Returns the directory at which the listing of a pattern begins."""
    return posixpath.dirname(globs.literal_prefix(pattern))


def _is_name(pattern: str) -> bool:
    return globs.literal_prefix(pattern) == pattern


def _described(path: str) -> Iterator[ImageRef]:
    try:
        yield ImageRef(keys.of_uri(path), *local.described(path))
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(path):  # noqa: PTH114 - a path is text, which need not be UTF-8
            yield _no_file(path)  # else it was deleted meanwhile
    except OSError:
        yield _no_file(path)


def _no_file(path: str) -> ImageRef:
    return ImageRef(keys.of_uri(path))


class _Walk:
    """The files in and below the directories that may hold matches. Files with links in their paths come last.

    A link is followed if the pattern may match something behind it that it does not match on an earlier path there. So
    loops end.
    """

    def __init__(self, choice: Choice):
        self._choice = choice
        self._holds = globs.may_hold(choice.pattern)
        self._root = root(choice.pattern)
        self._positions = globs.Positions(choice.pattern)
        self._matches = globs.matcher(choice.pattern)
        self._listed: dict[tuple[int, int], list[str]] = {}  # directory → its paths so far
        self._directories: list[str] = []
        self._links: list[str] = []

    def files(self) -> Iterator[ImageRef]:
        yield from self._tree(self._root, is_link=False)
        while self._links:
            yield from self._tree(heapq.heappop(self._links), is_link=True)

    def _tree(self, top: str, is_link: bool) -> Iterator[ImageRef]:
        """Yields the files below a directory, without those behind links. A link may lead to a known directory."""
        waiting = [top]
        while waiting:
            directory = waiting.pop()
            try:
                status = os.stat(posixpath.join(directory, "."))  # noqa: PTH116 - the dot asks whether it may be entered
                identity = status.st_dev, status.st_ino
                paths = self._listed.setdefault(identity, [])
                earlier = tuple(paths) if is_link else ()
                if earlier and self._positions.of(directory) <= self._reached(earlier):
                    continue
                paths.append(directory)
                with os.scandir(directory) as entries:
                    for entry in entries:
                        yield from self._entry(entry, posixpath.join(directory, entry.name), earlier)
            except OSError as error:
                # A directory that was deleted meanwhile is ignored, unless the listing begins there.
                is_gone = isinstance(error, FileNotFoundError) and not os.path.lexists(directory)
                if not is_gone or directory == self._root:
                    yield _no_file(directory)
            waiting += sorted(self._directories, reverse=True)
            self._directories.clear()

    def _reached(self, directories: Sequence[str]) -> frozenset[int]:
        return frozenset().union(*map(self._positions.of, directories))

    def _entry(self, entry: os.DirEntry[str], path: str, earlier: Sequence[str]) -> Iterator[ImageRef]:
        is_link, is_directory, is_broken = entry.is_symlink(), False, False
        try:
            is_directory = entry.is_dir()
            is_broken = is_link and not is_directory and not entry.stat()
        except OSError:
            is_broken = True
        if is_directory:
            if self._holds(path) and not self._choice.hides(path):
                if is_link:
                    heapq.heappush(self._links, path)
                else:
                    self._directories.append(path)
        elif is_broken and self._holds(path) and not left_out.is_file_name(path):
            if not self._choice.hides(path):
                yield _no_file(path)  # a broken link may have led to a directory
        elif any(self._matches(posixpath.join(other, entry.name)) for other in earlier):
            pass  # it is listed under that path
        elif self._choice.takes(path):
            yield from _described(path)
