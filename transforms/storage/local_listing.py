"""Listing this machine's files: a pattern → everything that it matches, also what is no file and cannot be read."""

import os
import posixpath
from collections.abc import Iterator

from apache_beam.io.filesystem import FileMetadata

from transforms.storage import files


def match(pattern: str) -> Iterator[tuple[str, FileMetadata | None]]:
    """Yields the path and the metadata of each file that a glob matches, as in Beam: `**` crosses directories.

    The metadata are None for what cannot be read as a file: pipes, sockets, devices, links to them, to directories or
    to nothing, and directories that may not be listed. `files.metadata` raises the reason.
    """
    literal = files.literal_prefix(pattern)
    if literal == pattern:
        paths = iter([pattern] if os.path.lexists(pattern) else [])
    else:
        paths = _below(posixpath.dirname(literal), pattern)
    for path in paths:
        try:
            yield path, files.metadata(path)
        except FileNotFoundError:
            if os.path.islink(path):  # noqa: PTH114 - a path is text, which need not be UTF-8
                yield path, None  # else it was deleted meanwhile
        except OSError:
            yield path, None


def _below(root: str, pattern: str) -> Iterator[str]:
    matches = files.matcher(pattern)
    unlisted: list[OSError] = []
    for directory, subdirectories, names in os.walk(root, onerror=unlisted.append):
        for name in names:
            path = posixpath.join(directory, name)
            if matches(path):
                yield path
        for name in subdirectories:
            path = posixpath.join(directory, name)
            if matches(path) and os.path.islink(path):  # noqa: PTH114 - as above; os.walk does not follow links
                yield path
    for error in unlisted:
        is_above_a_match = "**" in pattern or str(error.filename).count("/") < pattern.count("/")
        if is_above_a_match and not isinstance(error, FileNotFoundError):
            yield str(error.filename)
