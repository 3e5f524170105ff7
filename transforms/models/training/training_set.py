"""Labelled keys: which class an image has, and on which side of the split it falls. No TensorFlow, no Beam."""

import csv
import dataclasses
import hashlib
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

# Of an image inside a shard the key is `<URI of the shard>#<member>`: the member's own folder counts.
_SHARD_AND_FOLDER = re.compile(r".*\.(?:tar|tar\.gz|tgz)#(.+)")


class Labelled(NamedTuple):
    """An image by its key, the bytes of its URI, and the name of its class."""

    key: bytes
    label: str


@dataclasses.dataclass(frozen=True)
class Split:
    """Labelled images, split, each side in the order of keys; `classes` in the order of the model's outputs."""

    classes: tuple[str, ...]
    training: tuple[Labelled, ...]
    validation: tuple[Labelled, ...]


def folder_label(key: bytes) -> str:
    """Returns the name of the folder that an image lies in, with escapes for what is not UTF-8.

    Raises:
      ValueError: if it lies in none.
    """
    folder = posixpath.basename(posixpath.dirname(_printable(key)))
    inside = _SHARD_AND_FOLDER.fullmatch(folder)
    label = inside[1] if inside else folder
    if not label:
        raise ValueError(f"key={_printable(key)!r}: expected a folder whose name is the class")
    return _checked(label, f"key={_printable(key)!r}")


def read_labels(lines: Iterable[str], csv_uri: str) -> dict[bytes, str]:
    """Returns key → label, as a CSV with the columns `uri` and `label` has them; it may have others.

    Args:
      lines: of the CSV, its header first.
      csv_uri: the absolute URI or path of the CSV; what it names relatively is relative to its directory.

    Raises:
      ValueError: if a column is missing, a row lacks a value, or a URI has two labels.
    """
    rows = csv.reader(lines)
    try:
        header = [cell.strip().lower() for cell in next(rows, [])]
        if not {"uri", "label"} <= set(header):
            raise ValueError(f"{csv_uri!r}: expected a header with the columns uri and label, found {header!r}")
        columns = header.index("uri"), header.index("label")
        labels: dict[bytes, str] = {}
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            place = f"{csv_uri!r}, line {rows.line_num}"
            uri, label = (row[column].strip() if column < len(row) else "" for column in columns)
            if not uri or not label:
                raise ValueError(f"{place}: expected a uri and a label, found {row!r}")
            if "://" not in uri:
                uri = posixpath.join(posixpath.dirname(csv_uri), uri)
            if "://" not in uri:  # a bucket takes `..` for a name
                uri = posixpath.normpath(uri)
            key = uri.encode("utf-8", "surrogateescape")
            label = _checked(_printable(label.encode("utf-8", "surrogateescape")), place)
            if labels.setdefault(key, label) != label:
                raise ValueError(f"{place}: {uri!r} is {label!r} here and {labels[key]!r} above: expected one label")
    except csv.Error as error:
        raise ValueError(f"{csv_uri!r}, line {rows.line_num}: not a CSV: {error}") from error
    return labels


def is_validation(key: bytes, fraction: float) -> bool:
    """Returns whether an image is for validation, as the fraction `fraction` of all images is.

    It depends on nothing but the key: the split stays as it is when images are added, and from run to run; a larger
    fraction adds to what is for validation.
    """
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") < fraction * 2**64


def split(labels: Mapping[bytes, str], fraction: float) -> Split:
    """Splits labelled images into those to train on and those to validate with.

    Args:
      labels: key → label.
      fraction: of the images for validation, from 0 to less than 1; 0 is for no validation.

    Raises:
      ValueError: if there are fewer than two classes, a class has nothing to train on, or there is nothing to validate
        with and should be.
    """
    classes = sorted(set(labels.values()))
    if len(classes) < 2:
        found = f"only {classes[0]!r}" if classes else "none"
        raise ValueError(f"expected images of at least two classes, found {found}")
    training: list[Labelled] = []
    validation: list[Labelled] = []
    for key in sorted(labels):
        side = validation if is_validation(key, fraction) else training
        side.append(Labelled(key, labels[key]))
    trained = {image.label for image in training}
    for label in classes:
        if label not in trained:
            count = Counter(labels.values())[label]
            raise ValueError(
                f"class {label!r}: nothing to train on, the split puts its {count} of {count} images into validation; "
                f"expected more images, or validation_fraction below {fraction}"
            )
    if fraction and not validation:
        raise ValueError(
            f"none of the {len(training)} images is for validation: expected more images, validation_fraction above "
            f"{fraction}, or 0 to do without"
        )
    return Split(tuple(classes), tuple(training), tuple(validation))


def _checked(label: str, place: str) -> str:
    if len(label.splitlines()) > 1:  # labels.txt has one a line
        raise ValueError(f"{place}: {label!r}: expected a label of one line")
    return label


def _printable(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
