"""What can be known to go wrong before any worker starts: inputs that are not there, outputs that cannot be written."""

import posixpath
import uuid

from pipeline import publish, report, warehouse
from pipeline.options import EmbedConfig
from pipeline.report import RunReport
from transforms import examples, failures, gcs, gcs_listing, storage, write_tfrecord
from transforms.models.spec import ModelSpec


def check_inputs(config: EmbedConfig) -> None:
    """Makes sure that there is something to read, and that a next run would not read what this one writes.

    Raises:
      ValueError: with what was expected.
    """
    mine = f"{config.output}/embeddings/{config.run_id}/part"
    for pattern in config.inputs:
        if config.output and storage.takes_in(pattern, mine):
            raise ValueError(f"--output {config.output!r} lies within --input {pattern!r}: a next run would read it")
        try:
            found = _matches_something(pattern, config.billing_project)
        except Exception as error:
            raise ValueError(f"--input {pattern!r} cannot be listed: {storage.reason(error)}") from error
        if not found:
            raise ValueError(f"--input {pattern!r} matches nothing: expected at least one file")


def _matches_something(pattern: str, billing_project: str | None) -> bool:
    if gcs.holds(pattern):
        return next(gcs_listing.match(pattern, billing_project), None) is not None
    return bool(storage.match(pattern, limit=1))


def finished(config: EmbedConfig, model: ModelSpec) -> RunReport | None:
    """Returns the report of a run that is complete already, in all places that it writes to; else None.

    Raises:
      ValueError: if it is another run of the same name.
    """
    if config.overwrite:
        return None
    found = report.read(config.output, config.run_id) if config.output else None
    if config.output_table:
        with warehouse.explained(config.output_table):
            published = publish.published(config.output_table, config.run_id)
        if published and config.output and not found:
            report.write(config.output, published)  # it was killed between the one and the other
        found = published
    if found and (found.inputs != list(config.inputs) or found.model["digest"] != model.digest):
        raise ValueError(
            f"--run_id {config.run_id!r} is of a complete run with other inputs or another model: "
            "give another, or --overwrite to replace it"
        )
    return found


def check_output(config: EmbedConfig, model: ModelSpec) -> None:
    """Makes sure that a run can write files; removes those of a run of the same name that is to be replaced.

    Raises:
      ValueError: with what was expected, and how to come by it.
    """
    if not config.output:
        return
    _check_writable("--output", config.output)
    _check_schema(config.output, config, model)
    _clear(config.output, config.run_id)


def check_temp_location(config: EmbedConfig, temp_location: str) -> None:
    """Makes sure that files can be written for the loads, and are not taken for images by the next run.

    Raises:
      ValueError: with what was expected.
    """
    for pattern in config.inputs:
        if storage.takes_in(pattern, f"{temp_location}/table/file"):
            raise ValueError(f"--temp_location {temp_location!r} lies within --input {pattern!r}: a run would read it")
    _check_writable("--temp_location", temp_location)


def _check_writable(flag: str, directory: str) -> None:
    trial = posixpath.join(directory, f".trial-{uuid.uuid4().hex}")
    try:
        storage.write(trial, b"")
        storage.remove_file(trial)
    except Exception as error:
        raise ValueError(f"{flag} {directory!r} cannot be written: {storage.reason(error)}") from error


def _check_schema(output: str, config: EmbedConfig, model: ModelSpec) -> None:
    schema = f"{output}/{write_tfrecord.SCHEMA}"
    if not storage.match(schema):
        return
    there = examples.shapes(storage.read(schema).decode())
    own = examples.shapes(examples.schema_text(config.written(model)))
    if there != own:
        raise ValueError(
            f"--output {output!r} holds {there} and model {model.name!r} gives {own}: give each its own --output"
        )


def _clear(output: str, run_id: str) -> None:
    # The report first: without it a run counts as unfinished.
    storage.remove_file(report.path(output, run_id))
    for directory in (write_tfrecord.directory(output, run_id), failures.directory(output, run_id)):
        if storage.match(f"{directory}/**", limit=1):
            storage.remove(directory)
