"""Checks before any worker starts: inputs exist, and outputs can be written.

A check changes nothing.
"""

import contextlib
import csv
import itertools
import os
import posixpath
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.flags import command_lines
from pipeline.flags.options import EmbedConfig
from pipeline.report import unlisted
from transforms.elements import keys
from transforms.elements.one_line import one_line
from transforms.elements.records import ImageRef
from transforms.lists import uri_lists
from transforms.lists.list_rows import NotAList
from transforms.models.spec import ModelSpec
from transforms.output import layout, schema
from transforms.storage import (
    files,
    globs,
    listing,
    local_listing,
    locations,
    object_listing,
    reachable,
    stores,
    versioned,
)
from transforms.storage.choice import Choice, by_kind
from transforms.storage.context import DEFAULT_STORAGE, Storage

# Lists whose headers are looked at.
_LISTS = 20

# Names of files in formats other than images.
_SUFFIXES = {
    "list": (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".jsonlines", ".json"),
    "tar": (".tar", ".tgz", ".tbz2", ".txz"),
    "tfrecord": (".tfrecord", ".tfrecords"),
}

# Suffixes of compressed ones.
_PACKED = re.compile(r"\.(?:gz|bz2|xz)\Z")

# Files that hold images but are not read → what to use instead.
_NOT_READ = {
    (".zip", ".7z", ".rar"): "unpack it, or pack its files as a tar file for --input_format tar",
    (".parquet", ".xlsx", ".xls", ".ods"): "write its column of URIs as CSV for --input_format list",
}


def check_inputs(config: EmbedConfig) -> None:
    """Makes sure that every input matches something, and that a later run would not read this run's output as images.

    Raises:
      ValueError: if not; the message says what was expected.
    """
    for pattern in config.inputs:
        if config.output and _takes_in(pattern, f"{layout.vectors(config.output, config.run_id)}/part"):
            raise ValueError(f"--output {config.output!r} lies within --input {pattern!r}: a next run would read it")
        _check_format(pattern, config.input_format)
        choice = Choice([pattern], include_hidden=config.include_hidden, input_format=config.input_format)
        try:
            reachable.check(config.storage, pattern)
            matches = _matches(config.storage, choice, _LISTS if config.input_format == "list" else 1)
        except (OSError, ValueError) as error:
            raise ValueError(f"--input {pattern!r} cannot be listed: {one_line(error)}") from error
        if not matches:
            hints = [
                *unlisted.lines(by_kind(choice.left_out), [pattern], config.input_format),
                *_braces(pattern),
                *_below(choice, config),
            ]
            expected = "; ".join(["expected at least one file", *hints])
            raise ValueError(f"--input {pattern!r} matches nothing: {expected}")
        if config.input_format == "list":
            names_images = [_names_images(ref, config) for ref in matches]
            if not any(names_images) and len(matches) < _LISTS:  # else there may be more
                raise ValueError(f"--input {pattern!r} names no images: expected a list with at least one")


def _check_format(pattern: str, input_format: str) -> None:
    """Raises ValueError if a pattern names files that are not read, or of another format, which would all fail."""
    name = _PACKED.sub("", pattern.lower())
    for suffixes, instead in _NOT_READ.items():
        if name.endswith(suffixes):
            raise ValueError(f"--input {pattern!r} names no files that are read: {instead}")
    other = next((other for other, suffixes in _SUFFIXES.items() if name.endswith(suffixes)), None)
    if name.endswith(".txt") and not globs.has_wildcards(pattern):
        other = "list"
    if input_format == "images" and other:
        raise ValueError(f"--input {pattern!r} names no images: give --input_format {other} too")


def _names_images(ref: ImageRef, config: EmbedConfig) -> bool:
    """Returns whether a list names an image, or cannot be read, which fails in the run.

    Raises:
      ValueError: if it names none in a way that is read.
    """
    try:
        with versioned.opened(config.storage, ref) as file:
            return next(uri_lists.keys_in(file, keys.uri(ref.key), config.uri_column), None) is not None
    except NotAList as error:
        raise ValueError(f"--input {keys.text(ref.key)!r}: {one_line(error)}") from error
    except (OSError, ValueError, MemoryError, csv.Error):  # failures in the run too
        return True


def _braces(pattern: str) -> Iterator[str]:
    if re.search(r"\{.*,.*\}", pattern):
        yield "braces are no wildcards, so give --input for each alternative"


def _below(choice: Choice, config: EmbedConfig) -> Iterator[str]:
    """Yields a hint if no file matches, but directories with files do."""
    below = f"{choice.pattern.rstrip('/')}/**"
    if not globs.has_wildcards(choice.pattern) or choice.left_out:
        return
    with contextlib.suppress(OSError, ValueError):
        whole = Choice([below], include_hidden=config.include_hidden, input_format=config.input_format)
        if _matches(config.storage, whole, 1):
            yield f"directories match, and --input {command_lines.join([below])} takes what is in them"


def _takes_in(pattern: str, path: str) -> bool:
    """Returns whether a glob matches a path, also through symbolic links in either of them."""
    if globs.takes_in(pattern, path):
        return True
    if not (locations.is_local(pattern) and locations.is_local(path)):
        return False
    root = local_listing.root(pattern)
    below_root = f"{os.path.realpath(root).rstrip('/')}/"
    names = path.split("/")
    for depth in range(len(names), 1, -1):
        front = f"{os.path.realpath('/'.join(names[:depth]))}/"
        if front.startswith(below_root):
            return globs.takes_in(pattern, posixpath.join(root, front.removeprefix(below_root), *names[depth:]))
    return False


def _matches(storage: Storage, choice: Choice, limit: int) -> list[ImageRef]:
    """Returns the first matches of a choice."""
    if stores.is_bucket(choice.pattern):
        object_listing.check_brackets(storage, choice.pattern)
    elif locations.is_local(choice.pattern) and not local_listing.is_there(choice.pattern):
        return []
    return list(itertools.islice(listing.refs(storage, choice), limit))


def check_output(config: EmbedConfig, model: ModelSpec) -> None:
    """Makes sure that a run can write to --output, and that the vectors there have the same form.

    Raises:
      ValueError: if not; the message says what was expected, and how to fix it.
    """
    if not config.output:
        return
    _check_writable("--output", config.output)
    _check_schema(config.output, config, model)


def check_temp_location(config: EmbedConfig, temp_location: str | None) -> None:
    """Makes sure that a run can write the files that BigQuery loads, and that no run would read them as images.

    Raises:
      ValueError: if not; the message says what was expected.
    """
    if not config.output_table:
        return
    if not temp_location:
        raise ValueError(
            f"--output_table {config.output_table!r}: BigQuery loads rows from files in Cloud Storage: "
            "give --temp_location gs://BUCKET/DIRECTORY"
        )
    for pattern in config.inputs:
        if globs.takes_in(pattern, f"{temp_location}/table/file"):
            raise ValueError(f"--temp_location {temp_location!r} lies within --input {pattern!r}: a run would read it")
    _check_writable("--temp_location", temp_location)


def _check_writable(flag: str, directory: str) -> None:
    missing: list[Path] = []
    try:
        reachable.check(DEFAULT_STORAGE, directory)
        if locations.is_local(directory):
            missing = [path for path in (Path(directory), *Path(directory).parents) if not path.exists()]
            Path(directory).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=directory):  # it has no name, so a kill leaves nothing
                pass
        else:
            # Always the same name, so that the next trial removes what a kill leaves.
            trial = posixpath.join(directory, ".trial")
            with files.create(trial):
                pass
            files.remove_file(trial)
    except (OSError, ValueError) as error:
        raise ValueError(f"{flag} {directory!r} cannot be written: {one_line(error)}") from error
    finally:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()


def _check_schema(output: str, config: EmbedConfig, model: ModelSpec) -> None:
    path = layout.schema(output)
    if files.match(path):
        schema.check(output, files.read(path), model.fields(config.top_classes), config.record_type)
