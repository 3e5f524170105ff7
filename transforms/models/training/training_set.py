"""Labelled keys: the class of each image, and its side of the training and validation split. No TensorFlow, no Beam."""

import csv
import dataclasses
import hashlib
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from transforms.elements import keys
from transforms.storage import locations

# The key of an image in a shard is `<URI of the shard>#<member>`. The folder of the member counts.
_SHARD_AND_FOLDER = re.compile(r".*\.(?:tar|tar\.gz|tgz)#(.+)")


class Labelled(NamedTuple):
    """The key of an image, which is its URI in bytes, and the name of its class."""

    key: bytes
    label: str


@dataclasses.dataclass(frozen=True)
class Split:
    """The two sides of a split, each sorted by key. `classes` has the order of the model's outputs."""

    classes: tuple[str, ...]
    training: tuple[Labelled, ...]
    validation: tuple[Labelled, ...]


def folder_label(key: bytes) -> str:
    """Returns the name of an image's folder, with escapes for bytes that are not UTF-8.

    Raises:
      ValueError: if the image has no folder.
    """
    folder = posixpath.basename(posixpath.dirname(keys.text(key)))
    in_shard = _SHARD_AND_FOLDER.fullmatch(folder)
    label = in_shard[1] if in_shard else folder
    if not label:
        raise ValueError(f"key={keys.text(key)!r}: expected a folder whose name is the class")
    return _check_one_line(label, f"key={keys.text(key)!r}")


def read_labels(lines: Iterable[str], csv_uri: str) -> dict[bytes, str]:
    """Returns key → label from a CSV with the columns `uri` and `label`. Other columns are ignored.

    Args:
      lines: the lines of the CSV, the header first.
      csv_uri: the absolute URI or path of the CSV. Relative URIs in it are relative to its directory.

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
            uri = _absolute(uri, csv_uri)
            key = keys.of_uri(uri)
            label = _check_one_line(keys.text(keys.of_uri(label)), place)
            if labels.setdefault(key, label) != label:
                raise ValueError(f"{place}: {uri!r} is {label!r} here and {labels[key]!r} above: expected one label")
    except csv.Error as error:
        raise ValueError(f"{csv_uri!r}, line {rows.line_num}: not a CSV: {error}") from error
    return labels


def _absolute(uri: str, csv_uri: str) -> str:
    """Returns a URI of the CSV as an absolute one, without `..` if it is a path. In a bucket, `..` is a name."""
    if locations.is_local(uri):
        uri = posixpath.join(posixpath.dirname(csv_uri), uri)
    return posixpath.normpath(uri) if locations.is_local(uri) else uri


def is_validation(key: bytes, fraction: float) -> bool:
    """Returns whether an image is for validation. About a `fraction` of all images is.

    The result depends only on the key and the fraction. The split is therefore the same in every run, and images that
    are added later do not change it. A larger fraction only adds images to validation.
    """
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") < fraction * 2**64


def split(labels: Mapping[bytes, str], fraction: float) -> Split:
    """Splits labelled images into training and validation images.

    Args:
      labels: key → label.
      fraction: the share of validation images, from 0 to less than 1. With 0 there is no validation.

    Raises:
      ValueError: if there are fewer than two classes, a class has no training image, or a positive fraction yields no
        validation image.
    """
    classes = sorted(set(labels.values()))
    if len(classes) < 2:
        present = f"only {classes[0]!r}" if classes else "none"
        raise ValueError(f"expected images of at least two classes, found {present}")
    training: list[Labelled] = []
    validation: list[Labelled] = []
    for key in sorted(labels):
        side = validation if is_validation(key, fraction) else training
        side.append(Labelled(key, labels[key]))
    training_labels = {image.label for image in training}
    for label in classes:
        if label not in training_labels:
            count = Counter(labels.values())[label]
            raise ValueError(
                f"class {label!r}: nothing to train on, the split puts its {count} of {count} images into validation; "
                f"expected more images, or validation_fraction below {fraction}"
            )
    if fraction and not validation:
        raise ValueError(
            f"none of the {len(training)} images is for validation: expected more images, validation_fraction above "
            f"{fraction}, or 0 for no validation"
        )
    return Split(tuple(classes), tuple(training), tuple(validation))


def _check_one_line(label: str, place: str) -> str:
    if len(label.splitlines()) > 1:  # labels.txt has one label per line
        raise ValueError(f"{place}: {label!r}: expected a label of one line")
    return label
