"""The files of vectors below a directory, those of an earlier run first."""

import datetime
import re
from collections.abc import Collection, Iterator, Sequence

from pipeline.report import run_report
from transforms.elements.formats import one_of_each_run
from transforms.elements.one_line import one_line
from transforms.encoding import record_files
from transforms.encoding.stored_embeddings import StoredVectors
from transforms.output import layout
from transforms.storage import files

# A file under its final name is complete. Unfinished files lie in directories whose names begin with a dot.
_SHARD = re.compile(r"(?!.*/\.).*/part-\d{5,9}-of-\d{5,9}\.(tfrecord|parquet)")


def paths(directory: str) -> list[str]:
    """Returns the files of vectors below a directory, local or gs://, those of an earlier run first.

    A run's report states when it began. Without a report, the time of the file counts.

    Raises:
      ValueError: if there is no file, or the directory cannot be listed.
    """
    try:
        listed = files.match(f"{directory}/**")
    except (OSError, ValueError) as error:
        raise ValueError(f"--embeddings {directory!r} cannot be listed: {one_line(error)}") from error
    changed = {
        metadata.path: metadata.changed
        for metadata in listed
        if _SHARD.fullmatch(metadata.path.removeprefix(directory))
    }
    if not changed:
        raise ValueError(
            f"--embeddings {directory!r}: no part-SSSSS-of-NNNNN.tfrecord or .parquet below it: expected at least one"
        )
    shards = one_of_each_run(list(changed))
    began = {run: _began(run) for run in {_run(path) for path in shards}}
    return sorted(shards, key=lambda path: (began[_run(path)] or changed[path], path))


def digest(shards: Sequence[str]) -> str:
    """Returns the digest of the model of the last vectors. Raises ValueError if there is no vector."""
    for path in reversed(shards):
        for found, _ in _blocks(path):
            return found
    raise ValueError(f"{shards[-1]}: no vector in this file and those before it: expected at least one")


def blocks(shards: Sequence[str], digest: str) -> Iterator[StoredVectors]:
    """Yields the vectors of files, in order and in bounded memory.

    Args:
      shards: as `paths` returns them.
      digest: of the model that all must have.

    Raises:
      ValueError: if a file cannot be read, or has vectors of another model.
    """
    for path in shards:
        for found, block in _blocks(path):
            if found != digest:
                raise ValueError(
                    f"{path}: vectors with the model digest {found}, where those of the last run have {digest}, "
                    "and the two cannot be compared: give --embeddings the directory of one run, below embeddings/"
                )
            yield block


def files_among(shards: Sequence[str], digest: str, wanted: Collection[bytes]) -> set[bytes]:
    """Returns the wanted keys whose last record says that the image was listed as a file; see `blocks`."""
    found: dict[bytes, bool] = {}
    for block in blocks(shards, digest):
        found.update((key, is_file) for key, is_file in zip(block.keys, block.are_files, strict=True) if key in wanted)
    return {key for key, is_file in found.items() if is_file}


def _blocks(path: str) -> Iterator[tuple[str, StoredVectors]]:
    """Yields the vectors of a file, with the digest of their model."""
    try:
        with files.open_stored(path) as file:
            yield from ((vectors.digest(), vectors) for vectors in record_files.vectors(path, file))
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: {one_line(error)}") from error


def run_of(path: str) -> tuple[str, str]:
    """Returns the output directory and the run_id of a file; ("", "") if it does not lie as a run puts it."""
    return layout.run_of_vectors(_run(path))


def _run(path: str) -> str:
    return path.rpartition("/")[0]


def _began(run: str) -> float | None:
    """Returns when a run began, in seconds since 1970, from its report; None if there is no usable one."""
    output, run_id = run_of(f"{run}/")
    try:
        report = run_report.read(output, run_id)
        return datetime.datetime.fromisoformat(report.started_at).timestamp() if report else None
    except (OSError, ValueError):  # then the file's own time counts
        return None
