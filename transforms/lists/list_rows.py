"""The rows of a list of images: lines of text, or cells of a table, where a quote may be plain text. No Beam."""

import codecs
import collections
import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO, cast

from transforms.storage import left_out

# The most characters of a row of a list. Names of objects have up to 1024 bytes, and a row may also have a caption.
MAX_ROW_CHARACTERS = 2**20

# The number of rows whose shape decides the format of a list, and the most characters of them.
_FRONT_ROWS = 20
_FRONT_CHARACTERS = 2**16

# The first bytes of files that people take for lists, or that lie beside lists: archives (as spreadsheets are),
# Parquet, zstd, and images.
_NO_TEXT = (
    *(b"PK\x03\x04", b"PAR1", b"\x28\xb5\x2f\xfd", b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*"),
)

# A quote that is plain text may make parts of a list be read again. This bounds how often, for the whole list.
_READINGS = 4


class NotAList(ValueError):
    """A file that names no images in any of the ways that are read."""


def lines_of(file: BinaryIO) -> Iterator[str]:
    """Yields the lines of a text file in UTF-8, or with a byte order mark in UTF-16, as spreadsheets write it.

    Bytes that are not UTF-8 become lone surrogates. No more of a line is read than a row may have, and one character.
    Lines end with \\r if there is no \\n, as in a CSV file "for Macintosh".

    Raises:
      NotAList: if it is no text.
    """
    reader = io.BufferedReader(cast(Any, file))
    front = reader.peek(2)
    is_utf16 = front[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) and front[:4] != codecs.BOM_UTF32_LE
    first = front.partition(b"\n")[0]
    # Every other byte is a zero in UTF-16, and three of four in UTF-32. A single zero in a name is an error of its row.
    if front.startswith(_NO_TEXT) or (not is_utf16 and first.count(b"\0") * 3 > len(first)):
        raise NotAList(
            f"a file that begins with {front[:8]!r}: expected text in UTF-8, or in UTF-16 with a byte order mark, "
            "such as CSV or JSON lines"
        )
    errors = "strict" if is_utf16 else "surrogateescape"
    newline = "\r" if b"\r" in front and b"\n" not in front else "\n"
    text = io.TextIOWrapper(reader, "utf-16" if is_utf16 else "utf-8-sig", errors, newline=newline)
    while line := text.readline(MAX_ROW_CHARACTERS + 1):
        yield line


class Rows:
    """The lines of a list without its comments. A quoted cell may make a row of several lines, which is bounded as one.

    A line is a comment only where a row may begin.
    """

    def __init__(self, lines: Iterable[str]):
        self._lines = iter(lines)
        self._ahead: collections.deque[str] = collections.deque()
        self._row: list[str] = []
        self._characters = self._read = self._read_again = 0

    def front(self) -> list[str]:
        """Returns the first lines that hold anything, which are still to come."""
        front: list[str] = []
        while len(front) < _FRONT_ROWS and sum(map(len, front)) < _FRONT_CHARACTERS:
            line = next(self._lines, None)
            if line is None:
                break
            front.append(line)
        self._ahead.extend(front)
        return [line for line in front if line.strip() and not line.startswith("#")]

    def pass_over(self, line: str) -> None:
        """Leaves out a line that `front` has returned."""
        self._ahead.remove(line)

    def __iter__(self) -> "Rows":
        return self

    def __next__(self) -> str:
        line = self._next()
        while not self._row and line.startswith("#"):
            line = self._next()
        self._row.append(line)
        self._characters += len(line)
        if self._characters > MAX_ROW_CHARACTERS:
            raise ValueError(f"a row of more than {MAX_ROW_CHARACTERS} characters: expected one URI per row")
        return line

    def _next(self) -> str:
        line = self._ahead.popleft() if self._ahead else next(self._lines)
        self._read += len(line)
        return line

    def row_ends(self) -> list[str]:
        """Returns the lines of the row."""
        row, self._row, self._characters = self._row, [], 0
        return row

    def put_back(self, lines: Sequence[str]) -> None:
        """Makes the last lines come again, as rows of their own."""
        self._ahead.extendleft(reversed(lines))
        self._read_again += sum(map(len, lines))
        if self._read_again * _READINGS > self._read * (_READINGS - 1) + MAX_ROW_CHARACTERS * _READINGS:
            raise ValueError("quotes in too many cells are not closed: expected a list with quotes in pairs")


def cells(rows: Rows, delimiter: str) -> Iterator[list[str]]:
    """Yields the cells of each row. A quoted cell may have several lines.

    A quote at the front of a cell is plain text if it is not closed, or not closed at the cell's end. Otherwise the
    cell would swallow all rows up to the next quote. It is also plain text if more than one of its lines is a row with
    an image, or, in a table with tabs, if its lines have tabs. Many captions begin with a quote.
    """
    reader = csv.reader(rows, delimiter=delimiter, skipinitialspace=True, strict=True)
    columns = 0
    while True:
        row: list[str] | None = None
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:  # raised again below if a quote is not its cause
            pass
        lines = rows.row_ends()
        if row is None or (columns and len(lines) > 1 and _are_rows(lines, delimiter, columns)):
            rows.put_back(lines[1:])
            row = _alone(lines[0], delimiter, columns)
        columns = columns or len(row)
        yield row


def _are_rows(lines: Sequence[str], delimiter: str, columns: int) -> bool:
    """Returns whether the lines of a cell in quotes look like rows of their own."""
    if delimiter == "\t" and sum(line.count(delimiter) for line in lines) != columns - 1:
        return True
    rows = (line.rstrip("\r\n").split(delimiter) for line in lines)
    return sum(len(row) == columns > 1 and any(map(names_image, row)) for row in rows) > 1


def names_image(cell: str) -> bool:
    """Returns whether a cell of a list is the name of an image, not of a column."""
    return "://" in cell or left_out.is_image_extension(left_out.extension(cell.strip()) or "")


def _alone(line: str, delimiter: str, columns: int) -> list[str]:
    """Returns the cells of a line whose quotes are malformed."""
    ways = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True)), line.rstrip("\r\n").split(delimiter)
    return next((cells for cells in ways if len(cells) == columns), ways[0])
