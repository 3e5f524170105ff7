"""Checks before any worker starts: inputs exist, outputs can be written, and a run of this name is not complete.

A check changes nothing.
"""

import contextlib
import os
import posixpath
import uuid
from pathlib import Path

from pipeline import warehouse
from pipeline.options import EmbedConfig
from pipeline.report import run_report
from pipeline.report.run_report import RunReport
from transforms import shards, storage, vector_files
from transforms.models.spec import ModelSpec
from transforms.one_line import one_line
from transforms.storage import files, local_listing, locations


def check_inputs(config: EmbedConfig) -> None:
    """Makes sure that every input matches something, and that a later run would not read this run's output as images.

    Raises:
      ValueError: if not; the message says what was expected.
    """
    for pattern in config.inputs:
        if config.output and _takes_in(pattern, f"{config.output}/embeddings/{config.run_id}/part"):
            raise ValueError(f"--output {config.output!r} lies within --input {pattern!r}: a next run would read it")
        try:
            _check_reachable(pattern, config.billing_project)
            matches = _matches_something(pattern, config.billing_project)
        except Exception as error:
            raise ValueError(f"--input {pattern!r} cannot be listed: {one_line(error)}") from error
        if not matches:
            raise ValueError(f"--input {pattern!r} matches nothing: expected at least one file")


def _takes_in(pattern: str, path: str) -> bool:
    """Returns whether a glob matches a path, also by another name that links give it. A listing follows no links."""
    if files.takes_in(pattern, path):
        return True
    if not (locations.is_local(pattern) and locations.is_local(path)):
        return False
    root = posixpath.dirname(files.literal_prefix(pattern))
    real_root, real_path = (os.path.realpath(each) for each in (root, path))
    below = real_path.removeprefix(real_root.rstrip("/") + "/")
    return below != real_path and files.takes_in(pattern, posixpath.join(root, below))


def _matches_something(pattern: str, billing_project: str | None) -> bool:
    if locations.is_gcs(pattern):
        storage.gcs_listing.check_brackets(pattern, billing_project)
        return next(storage.gcs_listing.match(pattern, billing_project), None) is not None
    if locations.is_local(pattern):
        return next(local_listing.match(pattern), None) is not None
    return bool(files.match(pattern, limit=1))


def _check_reachable(path: str, billing_project: str | None) -> None:
    """Raises an error if the server does not answer within seconds. Later requests are patient, as workers' are."""
    if locations.is_gcs(path):
        storage.gcs_reachable.check(path, billing_project)


def finished(config: EmbedConfig, model: ModelSpec) -> RunReport | None:
    """Returns the report of this run if it is complete already, in its directory and its table; else None.

    Raises:
      ValueError: if the complete run of this name has other inputs, another model or other files.
    """
    report = None if config.overwrite else complete(config)
    if report and (report.inputs != list(config.inputs) or report.model["digest"] != model.digest):
        raise ValueError(
            f"--run_id {config.run_id!r} is of a complete run with other inputs or another model: "
            "give another, or --overwrite to replace it"
        )
    files_of = (report.output_formats, report.vector_type) if report else None
    if config.output and files_of and files_of != (list(config.output_formats), config.vector_type):
        raise ValueError(
            f"--run_id {config.run_id!r} is of a complete run with --output_format {','.join(files_of[0])} "
            f"--vector_type {files_of[1]}: give another, or --overwrite to replace it"
        )
    return report


def complete(config: EmbedConfig) -> RunReport | None:
    """Returns the report of the complete run of this name, whatever it embedded; None if there is none.

    Raises:
      ValueError: if it cannot be read.
    """
    if config.output_table:
        with warehouse.tables.explained(config.output_table):
            report = warehouse.publish.published(config.output_table, config.run_id)
        if report and config.output and not _has_files_of(config.output, report):
            report = None
    else:
        output = config.output or ""
        try:
            _check_reachable(output, config.billing_project)
        except OSError as error:
            raise ValueError(f"--output {output!r} cannot be read: {error}") from error
        report = run_report.read(output, config.run_id)
    return report


def _has_files_of(output: str, published: RunReport) -> bool:
    """Returns whether all files of a published run are in place. The report may be missing, because it comes last.

    Files are missing if a later attempt was killed while it replaced them.
    """
    if run_report.read(output, published.run_id):
        return True
    return shards.are_all(vector_files.directory(output, published.run_id), published.shards)


def check_output(config: EmbedConfig, model: ModelSpec) -> None:
    """Makes sure that a run can write to --output, and that the vectors there have the same form.

    Raises:
      ValueError: if not; the message says what was expected, and how to fix it.
    """
    if not config.output:
        return
    _check_writable("--output", config.output)
    _check_schema(config.output, config, model)


def check_temp_location(config: EmbedConfig, temp_location: str) -> None:
    """Makes sure that a run can write its load files, and that a later run would not read them as images.

    Raises:
      ValueError: if not; the message says what was expected.
    """
    for pattern in config.inputs:
        if files.takes_in(pattern, f"{temp_location}/table/file"):
            raise ValueError(f"--temp_location {temp_location!r} lies within --input {pattern!r}: a run would read it")
    _check_writable("--temp_location", temp_location)


def _check_writable(flag: str, directory: str) -> None:
    trial = posixpath.join(directory, f".trial-{uuid.uuid4().hex}")
    missing: list[Path] = []
    try:
        _check_reachable(directory, None)
        if locations.is_local(directory):
            missing = [path for path in (Path(directory), *Path(directory).parents) if not path.exists()]
        files.write(trial, b"")
        files.remove_file(trial)
    except Exception as error:
        raise ValueError(f"{flag} {directory!r} cannot be written: {one_line(error)}") from error
    finally:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()


def _check_schema(output: str, config: EmbedConfig, model: ModelSpec) -> None:
    schema = f"{output}/{vector_files.SCHEMA}"
    if files.match(schema):
        fields = model.fields(config.top_classes)
        vector_files.check_schema(output, files.read(schema), fields, config.record_type)
