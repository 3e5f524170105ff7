"""The files of vectors below a directory, in the order of their runs, and the rows in them."""

import datetime
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from pipeline.export import tfrecord_files as record_files
from pipeline.export.target import Model, Place, Row
from transforms.encoding.examples import Identity
from transforms.one_line import one_line
from transforms.storage import files

# A file under its final name is complete. Unfinished files lie in directories whose names begin with a dot.
_SHARD = re.compile(r"(?!.*/\.).*/part-\d{5}-of-\d{5}\.(tfrecord|parquet)")
_PLACES_AT_ONCE = 256


def paths(directory: str) -> list[str]:
    """Returns the files of vectors below a directory, local or gs://, those of an earlier run first.

    A run's report tells when it began. Without a report, the time of the file counts, as it does for the ledger.

    Raises:
      ValueError: if there is no file, or the directory cannot be listed.
    """
    try:
        listed = files.match(f"{directory}/**")
    except Exception as error:  # each storage client has its own errors
        raise ValueError(f"--embeddings {directory!r} cannot be listed: {one_line(error)}") from error
    shards = [metadata for metadata in listed if _SHARD.fullmatch(metadata.path.removeprefix(directory))]
    if not shards:
        raise ValueError(f"--embeddings {directory!r}: no part-SSSSS-of-NNNNN.tfrecord below it: expected at least one")
    began = {run: _began(run) for run in {metadata.path.rpartition("/")[0] for metadata in shards}}
    ordered = sorted(
        (began[metadata.path.rpartition("/")[0]] or metadata.last_updated_in_seconds, metadata.path)
        for metadata in shards
    )
    return [path for _, path in ordered]


def identities(path: str) -> Iterator[tuple[int, Identity]]:
    """Yields the place and the identity of each embedding of a file. Raises ValueError if the file cannot be read."""
    try:
        with files.open_stored(path) as file:
            yield from record_files.identities(path, file)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: {one_line(error)}; move it away to export the others") from error


def rows(shards: Sequence[str], places: Iterable[Place], model: Model) -> Iterator[Row]:
    """Yields the rows at some places.

    Args:
      shards: as `paths` returns them.
      places: in the order of the files, and ascending in each of them.
      model: of the vectors.

    Raises:
      ValueError: if a record cannot be read any more, or its vector is another than expected.
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


def _row(place: Place, stored: record_files.Stored | Exception, model: Model) -> Row:
    if isinstance(stored, Exception):
        raise stored
    embedding = stored.embedding
    if stored.model_digest != model.digest or len(embedding.vector) != model.dimension:
        raise ValueError(
            f"the vector of {place.key!r} has {len(embedding.vector)} dimensions and model digest "
            f"{stored.model_digest}: expected {model.dimension} and {model.digest}; was the file replaced meanwhile?"
        )
    return Row(place.key, embedding.info, np.asarray(embedding.vector, np.float32))


def _began(run: str) -> float | None:
    """Returns when a run began, in seconds since 1970, from its report; None if there is no usable one."""
    output, _, run_id = run.rpartition("/embeddings/")
    if not output or "/" in run_id:
        return None
    try:
        report = json.loads(files.read(f"{output}/runs/{run_id}.json"))
        return datetime.datetime.fromisoformat(report["started_at"]).timestamp()
    except Exception:  # noqa: BLE001 - each storage client has its own errors; then the file's own time counts
        return None
