"""Lists of images: text, CSV, TSV or JSON lines, compressed or not → the URIs that they name. No Beam."""

import csv
import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from transforms.elements import keys
from transforms.encoding import compressed
from transforms.lists.list_rows import NotAList, Rows, cells, lines_of, names_image
from transforms.storage import locations

# Names of the column of URIs, however they are spelled: `File Name` is `file_name`. The first one in a header counts.
URI_COLUMNS = (
    *("uri", "key", "path", "gcs_uri", "gcs_path", "image_uri", "image_path", "file_path", "file_name", "file"),
    *("image", "image_file", "image_name", "img_path", "img", "url", "image_url", "img_url"),
)

# The part of a URL between its scheme and its path has a user, maybe with a password.
_WITH_USER = re.compile(r"https?://[^/?#]*@", re.I)

_SCHEME = re.compile(r"([a-zA-Z][-a-zA-Z0-9+.]*)://")

_PACKED = re.compile(r"\.(?:gz|bz2|xz)\Z")
_DELIMITED = {".csv": ",;\t|", ".tsv": "\t", ".tab": "\t"}
_JSON = (".jsonl", ".ndjson", ".jsonlines", ".json")

# A cell that names a file: a URI, a path with an extension, or one with directories, but not `n/a`.
_NAMES_FILE = re.compile(r"[a-z][-a-z0-9+.]*://.+|.*\S\.[a-z][a-z0-9]{1,4}|\.{0,2}/.+|.*[^/]{2}/[^/]{2}.*", re.I | re.S)


# A delimiter for lists of one column. It occurs in no text.
_NO_MARK = "\x1f"

_QUOTED_LINE = re.compile(r'\s*".*"\s*', re.S)

# A first line that Excel writes, which names the delimiter.
_SEPARATOR_LINE = re.compile(r'"?sep=.?"?\s*')


class NoUriColumn(NotAList):
    """A list with a header, none of whose columns has the URIs."""


class LocalPathInRemoteList(ValueError):
    """A list in a bucket names a file of the worker. People who write to the bucket must not read that file."""


class CredentialsInUrl(ValueError):
    """A URL with a user or a password. Keys are written into records and reports, so it cannot become one."""


def keys_in(file: BinaryIO, list_uri: str, uri_column: str | None = None) -> Iterator[bytes | ValueError]:
    """Yields the key of each image that a list names, or what is wrong with its row. See `uris_in`."""
    for uri in uris_in(lines_of(compressed.expanded(file)), list_uri, uri_column):
        try:
            yield _key(uri, list_uri)
        except ValueError as error:
            yield error


def _key(uri: str, list_uri: str) -> bytes:
    if not uri:
        raise ValueError("expected a URI in this row")
    if _WITH_USER.match(uri):
        raise CredentialsInUrl("a URL with a user or password in this row: expected https://HOST/PATH")
    scheme = _SCHEME.match(uri)
    if not (locations.is_local(list_uri) or (scheme and scheme[1].lower() != "file")):
        raise LocalPathInRemoteList(
            f"{uri!r}: a list that is not local names objects, not files of the worker: expected gs://BUCKET/NAME, "
            "or a name relative to the list"
        )
    return keys.of_uri(uri)


def uris_in(lines: Iterable[str], list_uri: str, uri_column: str | None = None) -> Iterator[str]:
    """Yields the URIs that a list names. Relative ones are resolved against the directory of the list.

    A `.csv`, `.tsv` or `.tab` has them in the column that URI_COLUMNS names first, or without a header in its first
    column. Cells of a `.csv` are separated by commas, semicolons, tabs or bars. JSON lines are strings, or objects with
    such a name. Any other file has one URI per line, unless its first line is a header with several columns, or its
    lines are in quotes. Empty lines are ignored, and so are lines whose first character is #. A row without a URI
    yields "".

    Local paths are normalized, so that one file has one key. Names of objects stay as they are.

    >>> list(uris_in(["# holidays", "beach.jpg", "gs://bucket/peak.jpg"], "photos/list.txt"))
    ['photos/beach.jpg', 'gs://bucket/peak.jpg']
    >>> list(uris_in(["label;file_name", "dog;../dogs/1.jpg"], "/photos/lists/all.csv"))
    ['/photos/dogs/1.jpg']

    Args:
      lines: of the list.
      list_uri: its URI or path.
      uri_column: the name of the column, or of the field of JSON objects; by default one of URI_COLUMNS.

    Raises:
      NoUriColumn: if a header, or the first JSON object, has no such column.
      NotAList: if it is JSON, and its first line is neither a string nor an object.
      ValueError: if a row has more than a million characters, as a file without line ends has.
      csv.Error: if it is no CSV file.
    """
    rows = Rows(lines)
    suffix = posixpath.splitext(_PACKED.sub("", list_uri.lower()))[1]
    front = rows.front()
    if front and _SEPARATOR_LINE.fullmatch(front[0]):
        rows.pass_over(front.pop(0))
    if suffix in _JSON or _is_json_object(front):
        uris = _in_json(rows, uri_column)
    elif delimiter := _delimiter(front, suffix, uri_column):
        uris = _in_table(rows, delimiter, _table(front, delimiter), uri_column)
    else:
        if front and _has_header([[line.strip()] for line in front]) and _column(front[:1], uri_column) is not None:
            rows.pass_over(front[0])
        uris = _in_text(rows)
    return (_absolute(uri, list_uri) for uri in uris)


def _absolute(uri: str, list_uri: str) -> str:
    if not uri or not locations.is_local(uri):
        return uri
    path = uri if uri.startswith("/") else posixpath.join(posixpath.dirname(list_uri), uri)
    if not locations.is_local(list_uri):
        return path
    normal = posixpath.normpath(path)
    return f"/{normal.lstrip('/')}" if normal.startswith("/") else normal


def _in_text(rows: Rows) -> Iterator[str]:
    for line in rows:
        rows.row_ends()
        if uri := line.strip():
            yield uri


def _in_json(rows: Rows, uri_column: str | None) -> Iterator[str]:
    is_first = True
    for line in rows:
        rows.row_ends()
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if is_first and not isinstance(value, dict | str):
            what = "a JSON array" if line.lstrip().startswith("[") else "a first line that is no JSON of its own"
            expected = "JSON lines, one string or object per line, as jq -c '.[]' writes an array"
            raise NotAList(f"{what}: expected {expected}")
        if isinstance(value, dict):
            names = list(value)
            column = _column(names, uri_column, [list(value.values())])
            if column is None and is_first:
                raise _no_column(names, uri_column)
            value = None if column is None else value[names[column]]
        is_first = False
        yield value if isinstance(value, str) else ""


def _in_table(rows: Rows, delimiter: str, front: Sequence[Sequence[str]], uri_column: str | None) -> Iterator[str]:
    column = None
    for found in cells(rows, delimiter):
        row = [cell.strip() for cell in found]
        if not any(row):
            continue
        if column is None:
            column = _column(row, uri_column, front[1:])
            if column is not None:
                continue
            if _has_header(front) or uri_column:
                raise _no_column(row, uri_column)
            column = _column_of_files(front)
        yield row[column] if column < len(row) else ""


def _column_of_files(rows: Sequence[Sequence[str]]) -> int:
    """Returns the number of the first column in which each row names a file; the first of all if there is none."""
    return next((number for number, cells in enumerate(zip(*rows, strict=False)) if _are_files(cells)), 0)


def _are_files(cells: Iterable[str]) -> bool:
    return all(map(_NAMES_FILE.fullmatch, cells))


def _column(names: Sequence[str], uri_column: str | None, rows: Sequence[Sequence[object]] = ()) -> int | None:
    """Returns the number of the column of URIs in a header, however it is spelled; None if there is none.

    If there are several, it is the first in which rows name files, because one may have numbers and another URIs. What
    a bucket or this machine has comes before URLs of the web.
    """
    if not uri_column and any(map(names_image, names)):
        return None  # a row, in which `image` is a label
    normal = [_normal(name) for name in names]
    wanted = map(_normal, (uri_column,) if uri_column else URI_COLUMNS)
    columns = [normal.index(name) for name in wanted if name in normal]
    of_files = [number for number in columns if _names_files(rows, number)]
    elsewhere = [number for number in of_files if not any(map(_is_url, _cells(rows, number)))]
    return next(iter([*elsewhere, *of_files, *columns]), None)


def _names_files(rows: Sequence[Sequence[object]], number: int) -> bool:
    """Returns whether a column of rows names files, and nothing else except empty cells."""
    cells = _cells(rows, number)
    return bool(cells) and all(isinstance(cell, str) and _NAMES_FILE.fullmatch(cell) for cell in cells)


def _cells(rows: Sequence[Sequence[object]], number: int) -> list[object]:
    return [row[number] for row in rows if number < len(row) and row[number]]


def _is_url(cell: object) -> bool:
    return isinstance(cell, str) and locations.is_http(cell)


def _normal(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def _no_column(names: Sequence[str], uri_column: str | None) -> NoUriColumn:
    found = ", ".join(map(repr, names[:20])) + (", …" if len(names) > 20 else "")
    expected = f"a column {uri_column!r}" if uri_column else f"a column with one of the names {', '.join(URI_COLUMNS)}"
    what = f"columns {found}" if names else "a JSON object without names"
    return NoUriColumn(f"{what}: expected {expected}; --uri_column NAME says which has the URIs")


def _is_json_object(front: Sequence[str]) -> bool:
    return bool(front) and re.match(r'\s*(\[\s*)?\{\s*"', front[0]) is not None


def _delimiter(front: Sequence[str], suffix: str, uri_column: str | None) -> str | None:
    """Returns what separates the cells of a list, by its first lines; None for a list of one URI per line.

    The first line decides if it is a header that can be read. Otherwise the lines have to agree.
    """
    candidates = _DELIMITED.get(suffix, ",;\t|")
    is_table = suffix in _DELIMITED or (bool(front) and all(map(_QUOTED_LINE.fullmatch, front)))
    for delimiter in candidates:
        header = next(iter(_table(front, delimiter)), [])
        if (len(header) > 1 or uri_column) and _column(header, uri_column) is not None:
            return delimiter
    if not is_table:
        return "\t" if any("\t" in line.strip() for line in front[:1]) else candidates[0] if uri_column else None
    if _is_one_column(_table(front, candidates[0]), uri_column):
        return _NO_MARK
    return next((delimiter for delimiter in candidates if _agree(_table(front, delimiter))), candidates[0])


def _is_one_column(rows: Sequence[Sequence[str]], uri_column: str | None) -> bool:
    """Returns whether a header has a single name, and the delimiter is a part of some names below it."""
    has_one = bool(rows) and len(rows[0]) == 1 and _column(rows[0], uri_column) is not None
    return has_one and len({len(row) for row in rows[1:]}) > 1


def _agree(rows: Sequence[Sequence[str]]) -> bool:
    """Returns whether rows have the same number of cells, more than one, and the first names a file under any header.

    Without a header, it may also be a label of a file that comes later.
    """
    if len({len(row) for row in rows}) != 1 or len(rows[0]) < 2:
        return False
    if _has_labels(rows):
        return True
    first, *others = rows[1] if _has_header(rows) else rows[0]
    return _has_header(rows) or bool(
        _NAMES_FILE.fullmatch(first)
        and (posixpath.splitext(first)[1] or not any(_NAMES_FILE.fullmatch(cell) for cell in others))
    )


def _has_labels(rows: Sequence[Sequence[str]]) -> bool:
    """Returns whether the cells before those of files are labels, and not parts of names such as `a;b.jpg`."""
    first, *later = zip(*rows, strict=True)
    files = next(filter(_are_files, later), None)
    if files is None or any(map(_NAMES_FILE.fullmatch, first)):
        return False
    are_numbers = all(cell.isdecimal() for cell in first)
    return are_numbers or len(set(first)) < len(first) or all(cell.startswith("/") or "://" in cell for cell in files)


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Returns whether the first row names no file, and another does."""
    named = [any(_NAMES_FILE.fullmatch(cell) for cell in row) for row in rows]
    return any(named) and not named[0]


def _table(front: Sequence[str], delimiter: str) -> list[list[str]]:
    try:
        rows = csv.reader(front, delimiter=delimiter, skipinitialspace=True)
        return [[cell.strip() for cell in row] for row in rows]
    except csv.Error:
        return []
