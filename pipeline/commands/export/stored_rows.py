"""The rows in files of vectors."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from pipeline.commands.export.target import Model, Place, Row
from transforms.elements.one_line import one_line
from transforms.encoding import record_files
from transforms.encoding.stored_embeddings import Identity, StoredEmbedding
from transforms.storage import files

_PLACES_AT_ONCE = 256


def identities(path: str) -> Iterator[tuple[int, Identity]]:
    """Yields the place and the identity of each embedding of a file. Raises ValueError if the file cannot be read."""
    try:
        with files.open_stored(path) as file:
            yield from record_files.identities(path, file, vector_type="float16")
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: {one_line(error)}; move it away to export the others") from error


def rows(shards: Sequence[str], places: Iterable[Place], model: Model) -> Iterator[Row]:
    """Yields the rows at some places, given in the order of the files, and ascending in each of them.

    Raises:
      ValueError: if a record can no longer be read, or its vector is not the expected one.
    """
    for number, of_file in itertools.groupby(places, lambda place: place.file):
        path = shards[number]
        try:
            with files.open_stored(path) as file:
                while batch := list(itertools.islice(of_file, _PLACES_AT_ONCE)):
                    stored = record_files.embeddings(path, file, [place.offset for place in batch])
                    for place, record in zip(batch, stored, strict=True):
                        yield _row(place, record, model)
        except (ValueError, OSError) as error:
            raise ValueError(f"{path}: {one_line(error)}") from error


def dimension(path: str, place: int) -> int:
    """Returns the number of components of the vector at a place of a file. Raises ValueError if it cannot be read."""
    with files.open_stored(path) as file:
        (stored,) = record_files.embeddings(path, file, [place])
    if not isinstance(stored, Exception):
        return len(stored.embedding.vector)
    raise ValueError(f"{path}: {one_line(stored)}") from stored


def _row(place: Place, stored: StoredEmbedding | Exception, model: Model) -> Row:
    if isinstance(stored, Exception):
        raise stored
    embedding = stored.embedding
    if stored.model_digest != model.digest or len(embedding.vector) != model.dimension:
        raise ValueError(
            f"the vector of {place.key!r} has {len(embedding.vector)} dimensions and model digest "
            f"{stored.model_digest}: expected {model.dimension} and {model.digest}; was the file replaced meanwhile?"
        )
    return Row(place.key, embedding.info, np.asarray(embedding.vector, np.float32))
