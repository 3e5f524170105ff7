"""Complete runs: finds one by its name, and takes the last steps that it lacks if it was killed before them."""

from collections.abc import Callable
from typing import NamedTuple

from pipeline import warehouse
from pipeline.attempts import attempt as attempts
from pipeline.attempts import claim
from pipeline.flags.options import EmbedConfig
from pipeline.report import run_report
from pipeline.report.run_report import RunReport
from transforms.models.spec import ModelSpec
from transforms.output import layout, shards
from transforms.storage import contested, reachable


class CompleteRun(NamedTuple):
    """A complete run.

    Attributes:
      report: the stored one, or if that is missing the one in the table.
      is_whole: whether the output has its report and its page. Missing files are written only under the claim.
      done: what this process did for it, in words.
    """

    report: RunReport
    is_whole: bool = True
    done: str = "nothing was done"


def exists(config: EmbedConfig) -> bool:
    """Returns whether the run of this name is complete, whatever it embedded. Raises ValueError, see `find`."""
    return _reports(config) is not None


def find(config: EmbedConfig, model: ModelSpec) -> CompleteRun | None:
    """Returns the run of this name if it is complete, in its directory and its table; None if --overwrite replaces it.

    Raises:
      ValueError: if it has other inputs, another model or other files, or if its report cannot be read.
    """
    if config.overwrite or not (reports := _reports(config)):
        return None
    report, stored = reports
    if report.inputs != list(config.inputs) or report.model["digest"] != model.digest:
        raise ValueError(
            f"--run_id {config.run_id!r} is of a complete run with other inputs or another model: "
            "give another, or --overwrite to replace it"
        )
    if config.output and (report.output_formats, report.vector_type) != (
        list(config.output_formats),
        config.vector_type,
    ):
        raise ValueError(
            f"--run_id {config.run_id!r} is of a complete run with --output_format {','.join(report.output_formats)} "
            f"--vector_type {report.vector_type}: give another, or --overwrite to replace it"
        )
    return CompleteRun(stored or report, _is_whole(config, stored))


def _reports(config: EmbedConfig) -> tuple[RunReport, RunReport | None] | None:
    """Returns the report that completes the run, from its table if it has one, and the report in its output.

    Returns None if the run is not complete.
    """
    output = config.output or ""
    if not config.output_table:
        try:
            reachable.check(config.storage, output)
        except OSError as error:
            raise ValueError(f"--output {output!r} cannot be read: {error}") from error
        stored = run_report.read(output, config.run_id)
        return (stored, stored) if stored else None
    with warehouse.tables.explained(config.output_table):
        published = warehouse.publish.published(config.output_table, config.run_id)
    if not published:
        return None
    stored = run_report.read(output, config.run_id) if output else None
    # The report comes last. Parts are missing if a later attempt was killed while it replaced them.
    if output and not stored and not shards.are_all(layout.vectors(output, config.run_id), published.shards):
        return None
    return published, stored


def _is_whole(config: EmbedConfig, stored: RunReport | None) -> bool:
    if not config.output:
        return True
    return stored is not None and not (config.writes_page and run_report.lacks_page(config.output, stored))


def finish(config: EmbedConfig, complete: CompleteRun, check_claim: Callable[[], object]) -> CompleteRun:
    """Writes the page and the report that a run lacks. Call it under the claim.

    Args:
      config, complete: of the run.
      check_claim: raises an error if this process has lost the claim.

    Raises:
      OSError: if the page cannot be read, or `check_claim` raises one.
    """
    output = str(config.output)
    before = contested.read(layout.report(output, config.run_id))  # before its content is read
    stored = run_report.read(output, config.run_id)
    report = stored or complete.report
    if config.writes_page and not _is_whole(config, stored):
        from pipeline.report import write_page

        report = write_page.with_page_of_last_attempt(config, report, check_claim)
    if report != stored:
        run_report.replace(output, report, before.state if before else None)
    made_page = stored is not None and report.files != stored.files
    return CompleteRun(report, done="its page was made" if made_page else complete.done)


def clean_up(config: EmbedConfig, complete: CompleteRun, temp_location: str | None) -> None:
    """Removes what a whole run left behind when it was killed just before its end.

    Args:
      config, complete: of the run.
      temp_location: of the parts of a run without --output; None if it is not known.
    """
    if not config.output and not temp_location:
        return
    was_killed = claim.clean_up(attempts.of(config, temp_location), complete.report)
    if was_killed and temp_location and not config.output:
        warehouse.publish.remove_loads(config.output_table or "", config.run_id, temp_location)
