"""What can be known to go wrong before any worker starts: inputs that are not there, outputs that cannot be written."""

import posixpath
import uuid

from pipeline import report
from pipeline.options import EmbedConfig
from transforms import examples, failures, gcs, gcs_listing, storage, write_tfrecord
from transforms.models.spec import ModelSpec


def check_inputs(config: EmbedConfig) -> None:
    """Makes sure that there is something to read, and that a next run would not read what this one writes.

    Raises:
      ValueError: with what was expected.
    """
    mine = f"{config.output}/embeddings/{config.run_id}/part"
    for pattern in config.inputs:
        if storage.takes_in(pattern, mine):
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


def check_output(config: EmbedConfig, model: ModelSpec) -> None:
    """Makes sure that a run can write and be told apart from others; clears the way for one that overwrites.

    Raises:
      ValueError: with what was expected, and how to come by it.
    """
    _check_writable(config.output)
    _check_schema(config, model)
    _check_run_id(config)


def _check_writable(output: str) -> None:
    trial = posixpath.join(output, f".trial-{uuid.uuid4().hex}")
    try:
        storage.write(trial, b"")
        storage.remove_file(trial)
    except Exception as error:
        raise ValueError(f"--output {output!r} cannot be written: {storage.reason(error)}") from error


def _check_schema(config: EmbedConfig, model: ModelSpec) -> None:
    schema = f"{config.output}/{write_tfrecord.SCHEMA}"
    if not storage.match(schema):
        return
    there = examples.shapes(storage.read(schema).decode())
    own = examples.shapes(examples.schema_text(config.written(model)))
    if there != own:
        raise ValueError(
            f"--output {config.output!r} holds {there} and model {model.name!r} gives {own}: give each its own --output"
        )


def _check_run_id(config: EmbedConfig) -> None:
    run_report = report.path(config.output, config.run_id)
    directories = [
        write_tfrecord.directory(config.output, config.run_id),
        failures.directory(config.output, config.run_id),
    ]
    if not any(storage.match(place, limit=1) for place in (run_report, *(f"{d}/**" for d in directories))):
        return
    if not config.overwrite:
        raise ValueError(
            f"--run_id {config.run_id!r} exists in --output {config.output!r}: "
            "give another, or --overwrite to replace it"
        )
    # The report first: without it a run counts as unfinished.
    storage.remove_file(run_report)
    for directory in directories:
        storage.remove(directory)
