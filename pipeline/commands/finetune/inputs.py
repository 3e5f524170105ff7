"""The training data that the flags name: patterns, CSVs and directories of embeddings → labels and vectors."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline.known import vector_shards
from transforms.elements import keys
from transforms.elements.one_line import one_line
from transforms.elements.records import ImageRef
from transforms.encoding import vectors
from transforms.encoding.vectors import Vectors
from transforms.models.training import training_set
from transforms.storage import files
from transforms.storage.context import DEFAULT_STORAGE
from transforms.storage.read_image import read as read_one


class LabelledVectors(NamedTuple):
    """Vectors, and the labels of some of them.

    Attributes:
      vectors: all vectors in the directory, those without a label included.
      labels: key → label, for keys that have both a label and a vector of finite numbers.
      bad: key → the reason why its vector is left out, for keys with a label.
      unlabelled: number of keys with a vector but without a label.
      without_vector: number of labels without a vector.
    """

    vectors: Vectors
    labels: dict[bytes, str]
    bad: dict[bytes, str]
    unlabelled: int
    without_vector: int


def read_image(key: bytes) -> bytes:
    """Returns the bytes of an encoded image.

    Raises:
      OSError: if the file cannot be read.
      TooManyBytes: if it has more bytes than any photograph.
    """
    return read_one(DEFAULT_STORAGE, ImageRef(key)).encoded


def image_labels(patterns: Sequence[str]) -> dict[bytes, str]:
    """Returns key → label of the images that patterns match or CSVs name.

    Raises:
      ValueError: if a pattern matches nothing or cannot be listed, if a CSV is malformed or names an image in a shard,
        or if an image has two labels.
    """
    labels: dict[bytes, str] = {}
    for pattern in patterns:
        paths = _match(pattern)
        if pattern.lower().endswith(".csv"):
            labelled = [pair for path in paths for pair in _csv_labels(path, "--train").items()]
            if in_shard := next((image for image, _ in labelled if keys.is_in_shard(image)), None):
                raise ValueError(
                    f"--train {pattern!r}: {keys.uri(in_shard)!r} is in a tar or TFRecord file: expected files of one "
                    "image; give the vectors of a run by --embeddings, and this file by --labels"
                )
        else:
            labelled = [(image, training_set.folder_label(image)) for image in map(keys.of_uri, paths)]
        for image, label in labelled:
            if labels.setdefault(image, label) != label:
                raise ValueError(
                    f"--train {pattern!r}: {keys.uri(image)!r} is {label!r} here and {labels[image]!r} elsewhere: "
                    "expected one label"
                )
    return labels


def labelled_vectors(directory: str, labels_csv: str | None) -> LabelledVectors:
    """Returns the embeddings below a directory, with their labels.

    Args:
      directory: local or gs://, without a slash at its end.
      labels_csv: a CSV with the columns uri and label; None to take each image's folder as its label.

    Raises:
      ValueError: if there are no embeddings, if they cannot be read or come from several models, or if the CSV is
        malformed or labels none of them.
    """
    try:
        embeddings = vectors.read(vector_shards.paths(directory), files.open_stored)
    except OSError as error:
        raise ValueError(f"--embeddings {directory!r} cannot be read: {one_line(error)}") from error
    if labels_csv is None:
        labels = {key: training_set.folder_label(key) for key in embeddings.keys}
    else:
        labels = _csv_labels(labels_csv, "--labels")
    least, most = embeddings.matrix.min(axis=1), embeddings.matrix.max(axis=1)
    finite = np.isfinite(least) & np.isfinite(most)
    bad = {key: "NotFinite" for key, is_finite in zip(embeddings.keys, finite, strict=True) if not is_finite}
    usable = {key: labels[key] for key in embeddings.keys if key in labels and key not in bad}
    if not usable and not bad:
        example = keys.uri(embeddings.keys[0])
        raise ValueError(
            f"--labels {labels_csv!r} names none of the embeddings' images: expected URIs such as {example!r}"
        )
    with_vector = set(embeddings.keys)
    return LabelledVectors(
        embeddings,
        usable,
        {key: reason for key, reason in bad.items() if key in labels},
        unlabelled=len(with_vector - labels.keys()),
        without_vector=len(labels.keys() - with_vector),
    )


def _csv_labels(path: str, flag: str) -> dict[bytes, str]:
    try:
        # Excel begins a CSV with a byte order mark.
        text = files.read(path).decode("utf-8-sig", "surrogateescape")
    except (OSError, ValueError) as error:
        raise ValueError(f"{flag} {path!r} cannot be read: {one_line(error)}") from error
    return training_set.read_labels(io.StringIO(text, newline=""), path)


def _match(pattern: str) -> list[str]:
    try:
        paths = [metadata.path for metadata in files.match(pattern)]
    except (OSError, ValueError) as error:
        raise ValueError(f"--train {pattern!r} cannot be listed: {one_line(error)}") from error
    if not paths:
        raise ValueError(f"--train {pattern!r} matches nothing: expected at least one file")
    return paths
