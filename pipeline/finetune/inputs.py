"""What to train on, as the flags name it: patterns, CSVs and directories of embeddings → labels and vectors."""

import io
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from transforms.encoding import vectors
from transforms.encoding.vectors import Vectors
from transforms.models.training import training_set
from transforms.read import MAX_ENCODED_BYTES, TooManyBytes
from transforms.records import key, uri
from transforms.storage import files

# A file under its final name is complete; what a run has not finished lies in directories that begin with a dot.
_SHARD = re.compile(r"(?!.*/\.).*/part-\d{5}-of-\d{5}\.tfrecord")


class LabelledVectors(NamedTuple):
    """Vectors, and the labels of some of them.

    Attributes:
      vectors: as read.
      labels: key → label, for keys that have both a label and a vector of finite numbers.
      bad: key → why its vector is left out.
      unlabelled: keys with a vector and without a label.
      without_vector: labels without a vector.
    """

    vectors: Vectors
    labels: dict[bytes, str]
    bad: dict[bytes, str]
    unlabelled: int
    without_vector: int


def read_image(key: bytes) -> bytes:
    """Returns the bytes of an image; raises OSError, and TooManyBytes for what is far above any photograph."""
    with files.open_stored(uri(key)) as file:
        content = file.read(MAX_ENCODED_BYTES + 1)
    if len(content) > MAX_ENCODED_BYTES:
        raise TooManyBytes(f"expected an image of at most {MAX_ENCODED_BYTES} bytes")
    return content


def image_labels(patterns: Sequence[str]) -> dict[bytes, str]:
    """Returns key → label of the images that patterns match and CSVs name.

    Raises:
      ValueError: if a pattern matches nothing or cannot be listed, or a CSV is not as expected.
    """
    labels: dict[bytes, str] = {}
    for pattern in patterns:
        paths = _match(pattern, "--train")
        if pattern.lower().endswith(".csv"):
            found = [pair for path in paths for pair in _csv_labels(path, "--train").items()]
        else:
            found = [(image, training_set.folder_label(image)) for image in map(key, paths)]
        for image, label in found:
            if labels.setdefault(image, label) != label:
                raise ValueError(
                    f"--train {pattern!r}: {uri(image)!r} is {label!r} here and {labels[image]!r} elsewhere: expected "
                    "one label"
                )
    return labels


def labelled_vectors(directory: str, labels_csv: str | None) -> LabelledVectors:
    """Returns the embeddings in a directory with their labels, which are the images' folders unless a CSV has them.

    Raises:
      ValueError: if there are none, they are of several models, or no label fits.
    """
    paths = [
        path for path in _match(f"{directory}/**", "--embeddings") if _SHARD.fullmatch(path.removeprefix(directory))
    ]
    if not paths:
        raise ValueError(f"--embeddings {directory!r}: no part-SSSSS-of-NNNNN.tfrecord below it: expected at least one")
    try:
        read = vectors.read(sorted(paths), files.open_stored)
    except OSError as error:
        raise ValueError(f"--embeddings {directory!r} cannot be read: {files.reason(error)}") from error
    if labels_csv is None:
        labels = {key: training_set.folder_label(key) for key in read.keys}
    else:
        labels = _csv_labels(labels_csv, "--labels")
    least, most = read.matrix.min(axis=1), read.matrix.max(axis=1)
    finite = np.isfinite(least) & np.isfinite(most)
    bad = {key: "NotFinite" for key, is_finite in zip(read.keys, finite, strict=True) if not is_finite}
    usable = {key: labels[key] for key in read.keys if key in labels and key not in bad}
    if not usable and not bad:
        example = uri(read.keys[0])
        raise ValueError(f"--labels {labels_csv!r} names none of the embeddings' images: expected such as {example!r}")
    known = set(read.keys)
    return LabelledVectors(
        read,
        usable,
        {key: why for key, why in bad.items() if key in labels},
        unlabelled=len(known - labels.keys()),
        without_vector=len(labels.keys() - known),
    )


def _csv_labels(path: str, flag: str) -> dict[bytes, str]:
    try:
        # A byte order mark is how Excel begins a CSV.
        text = files.read(path).decode("utf-8-sig", "surrogateescape")
    except Exception as error:
        raise ValueError(f"{flag} {path!r} cannot be read: {files.reason(error)}") from error
    return training_set.read_labels(io.StringIO(text, newline=""), path)


def _match(pattern: str, flag: str) -> list[str]:
    try:
        found = [metadata.path for metadata in files.match(pattern)]
    except Exception as error:
        raise ValueError(f"{flag} {pattern!r} cannot be listed: {files.reason(error)}") from error
    if not found:
        raise ValueError(f"{flag} {pattern!r} matches nothing: expected at least one file")
    return found
