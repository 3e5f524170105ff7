"""From argv to exit code: flags → checks → graph → runner → report.

Importing Beam takes two seconds, so this module imports it only after the flags have been parsed.
"""

import dataclasses
import datetime
import functools
import gc
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline import warehouse
from pipeline.attempts import interruption
from pipeline.commands.frame import DONE, FAILED, WRONG
from pipeline.flags import command_lines, options
from pipeline.flags.options import EmbedConfig
from pipeline.flags.parser import known_flags
from pipeline.runners import import_path
from pipeline.runners.console import Console, console, discard, open_streams, say, unwritable, write_line
from transforms.elements.formats import SHARD_FORMATS
from transforms.elements.one_line import one_line
from transforms.models.spec import ModelSpec
from transforms.storage import account

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.runner import PipelineResult

    from pipeline.attempts.attempt import Attempt
    from pipeline.attempts.claim import Holder
    from pipeline.report.run_report import RunReport
    from pipeline.warehouse.publish import Publication

# After a job that failed, for the storage to say whether it had written its report.
_PATIENCE_SECONDS = 30.0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code. Results go to stdout, errors and progress to stderr."""
    open_streams()
    argv = sys.argv[1:] if argv is None else argv
    account.complete()
    try:
        config, beam_args = options.parse(argv)
    except ValueError as error:
        return _refuse(error, say)
    with console(config.verbose) as terminal, interruption.by_signals(), import_path.for_children():
        try:
            return _run(config, argv, beam_args, terminal)
        except KeyboardInterrupt as error:
            interruption.ignore_further()
            terminal.screen.write(f"\n{_name()}: interrupted before any work started\n")
            terminal.screen.flush()
            return interruption.leave(interruption.exit_code(error))


def _import_job() -> None:
    """Imports Beam and the job, and tells the garbage collector to pass over what the imports have made.

    None of it is ever garbage. Going through these objects again and again takes a tenth of a short run.
    """
    if "apache_beam" in sys.modules or not gc.isenabled():
        return
    gc.disable()
    try:
        import pipeline.graph
        import pipeline.runners.pipeline_options  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()


def _run(config: EmbedConfig, argv: Sequence[str], beam_args: Sequence[str], terminal: Console) -> int:
    _import_job()
    from pipeline import check
    from pipeline.attempts import attempt as attempts
    from pipeline.attempts import claim
    from pipeline.model_checks import precision
    from pipeline.report.summary import summary
    from pipeline.runners import pipeline_options
    from transforms.output import layout
    from transforms.storage import contested

    try:
        beam_options = pipeline_options.beam_options(beam_args, known_flags(), config.runs_on)
        if config.runs_on.explain or config.dry_run:
            return _show(config, beam_args, beam_options, terminal)
        check.check_inputs(config)
        model = precision.resolved(config, pipeline_options.is_local(beam_options))
        model = _tried(model, terminal)
        pipeline_options.check_location(beam_options, model)
        pipeline_options.check(beam_options, config)
        finished, done = None, ""
        complete = check.finished(config, model) if config.is_named else None
        if complete and _is_whole(config, complete):
            finished, done = _finish(config, complete, _temp_location(config, beam_options))
        else:
            temp_location = pipeline_options.temp_location(beam_options, config) if config.output_table else None
            check.check_output(config, model)
            if temp_location:
                check.check_temp_location(config, temp_location)
            config = _of_unfinished_run(config, model, temp_location, terminal)
            attempt = attempts.of(config, temp_location)
            publication, claim_state = None, claim.look(attempt, terminal.screen.write)
            if temp_location and config.output_table:
                publication = warehouse.publish.prepare(
                    config.output_table,
                    config.run_id,
                    model.digest,
                    temp_location,
                    config.make_latest,
                    config.max_pruned,
                )
            attempt, holder = _begin(attempt, config, model, claim_state, terminal)
            if config.is_named:
                finished, done = _finished_meanwhile(attempt, holder, config, model)
            if not finished:
                attempt = _prepared(attempt, holder, publication, config, terminal)
    except (ValueError, OSError) as error:
        discard(terminal)
        return _refuse(error, terminal.screen.write)
    if finished:
        discard(terminal)
        _print(f"the run {config.run_id!r} is complete, {done}:\n\n{summary(finished, config)}", terminal)
        return FAILED if finished.exceeds(config.max_failure_rate) else DONE
    try:
        _execute(config, model, publication, attempt, beam_options, terminal)
        finished = _report(config)
        claim.end(holder, attempt, finished)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - a runner may raise anything
        if interrupted := interruption.of(error):
            interruption.ignore_further()
            return _interrupted(interrupted, config, argv, attempt, holder, publication, beam_options, terminal)
        traceback.print_exc()
        if publication and pipeline_options.is_on_this_machine(beam_options):  # a job on a cluster may live on
            interruption.store([functools.partial(warehouse.publish.discard, publication)], _PATIENCE_SECONDS)
        finished, reason = _after_failure(config, attempt, holder)
        message = finished and finished.exceeds(config.max_failure_rate)
        if finished and message:
            _print(summary(finished, config, _seconds_since_start(config)), terminal)
            discard(terminal)
        else:
            log = f"; all that was logged: {terminal.log}" if terminal.log else ""
            # Such an error says so itself.
            reason = "" if isinstance(error, contested.Lost) else reason
            message = f"the job failed: {reason}{one_line(error)}{log}"
        terminal.screen.write(f"{_name()}: {message}\n")
        return FAILED
    if finished:
        _print(summary(finished, config, _seconds_since_start(config)), terminal)
    else:
        path = layout.report(config.output, config.run_id) if config.output else f"in {config.output_table}_runs"
        if pipeline_options.is_on_this_machine(beam_options) and _stored_report(config):
            text = f"the run {config.run_id!r} was completed, and another process has replaced it since: {path}"
        else:
            text = f"the job was submitted; its report will be {path}"
        _print(text, terminal)
    discard(terminal)
    return DONE


def _seconds_since_start(config: EmbedConfig) -> float:
    return max(0.0, (datetime.datetime.now(datetime.UTC) - config.started_at).total_seconds())


def _tried(model: ModelSpec, terminal: Console) -> ModelSpec:
    """Returns a model with the spread of its vectors, and warns if it seems to get other pixels than it expects."""
    from pipeline.model_checks import spread

    measured = spread.finding(model)
    if text := spread.warning(model, measured):
        terminal.screen.write(f"{text}\n")
    return dataclasses.replace(model, spread=measured.spread if measured else None)


def _of_unfinished_run(
    config: EmbedConfig, model: ModelSpec, temp_location: str | None, terminal: Console
) -> EmbedConfig:
    """Returns the configuration with the name of an interrupted run to go on with, if the user named none."""
    from pipeline import check
    from pipeline.attempts import attempt, claim

    if config.is_named or not config.resume:
        return config

    def may_go_on(run_id: str) -> bool:  # an unfinished --overwrite of a complete run goes on by --overwrite alone
        return config.overwrite or check.complete(dataclasses.replace(config, run_id=run_id)) is None

    place = attempt.of(config, temp_location).place
    run_id = claim.unfinished(place, config, model, terminal.screen.write, may_go_on)
    if run_id is None:
        return config
    terminal.screen.write(f"going on with the interrupted run {run_id!r}; --no_resume would begin another\n")
    return dataclasses.replace(config, run_id=run_id, is_named=True)


def _begin(
    attempt: "Attempt", config: EmbedConfig, model: ModelSpec, claim_state: str | None, terminal: Console
) -> "tuple[Attempt, Holder]":
    """Takes the claim to the run, and what earlier attempts have left. From here on, the run is begun.

    Leftovers of other runs are removed here and not at the end, which the launcher of a job on a cluster does not see.
    """
    from pipeline.attempts import claim, leftovers
    from transforms.output import layout

    published = None
    if config.is_named and config.output_table:
        with warehouse.tables.explained(config.output_table):
            published = warehouse.publish.published(config.output_table, config.run_id)
    attempt = claim.numbered(attempt, published) if config.is_named else dataclasses.replace(attempt, number=1)
    holder = claim.take(attempt, config, model, claim_state)
    attempt = dataclasses.replace(attempt, claim=layout.claim(attempt.place, attempt.run_id))
    try:
        if config.is_named:  # nobody else has a name that was drawn
            attempt.take_over()
        claim.remove_leftovers(attempt, terminal.screen.write)
        leftovers.remove(attempt)
    except OSError:
        interruption.store([holder.leave])
        raise
    return attempt, holder


def _finished_meanwhile(
    attempt: "Attempt", holder: "Holder", config: EmbedConfig, model: ModelSpec
) -> "tuple[RunReport | None, str]":
    """Returns what `_finish` does if another process has completed the run since it was looked at without the claim.

    Raises:
      ValueError: if this one was to replace the run, and that process has done so; or see `check.finished`.
    """
    from pipeline import check
    from pipeline.attempts import claim

    try:
        complete = check.finished(config, model)
        if not complete and attempt.newest() >= attempt.number:
            raise claim.Held(f"--run_id {attempt.run_id!r}: another process has done this run just now")
        finished = _finish(config, complete, None, attempt.check_claim) if complete else None
    except (ValueError, OSError, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt):
            interruption.ignore_further()
        holder.withdraw()
        raise
    if not finished:
        return None, ""
    attempt.remove_parts()
    holder.withdraw()
    return finished


def _with_what_is_left(attempt: "Attempt", config: EmbedConfig, terminal: Console) -> "Attempt":
    """Returns an attempt that knows what earlier ones have left."""
    from transforms.decoders import journal
    from transforms.elements import keys

    if not config.resume:
        attempt.remove_parts()
    attempt.remove_repetitions()
    deaths = attempt.deaths()
    for image, times in deaths.items():
        left_out = "it is left out now, and becomes a failure, unless it has changed"
        outcome = left_out if times > 1 else "if that happens again, it is left out"
        key = keys.name(journal.key(image))
        terminal.screen.write(f"an earlier attempt died while it decoded '{key}': {outcome}\n")
    quarantine = {image: times for image, times in deaths.items() if times > 1}
    return dataclasses.replace(attempt, continues=any(attempt.earlier_parts()), quarantine=quarantine)


def _prepared(
    attempt: "Attempt", holder: "Holder", publication: "Publication | None", config: EmbedConfig, terminal: Console
) -> "Attempt":
    """Returns an attempt that knows what earlier ones have left, and makes the staging tables under the claim."""
    try:
        attempt = _with_what_is_left(attempt, config, terminal)
        if publication:
            warehouse.publish.stage(publication)
    except (ValueError, OSError):
        interruption.store([holder.leave])
        raise
    return attempt


def _interrupted(
    interrupted: KeyboardInterrupt,
    config: EmbedConfig,
    argv: Sequence[str],
    attempt: "Attempt",
    holder: "Holder",
    publication: "Publication | None",
    beam_options: "PipelineOptions",
    terminal: Console,
) -> int:
    from pipeline.runners import pipeline_options
    from transforms.elements import counters
    from transforms.output import parts

    go_on = f"to go on: {interruption.command_to_go_on(argv, config.run_id)}"
    if pipeline_options.is_on_this_machine(beam_options):
        steps = [parts.save_all, attempt.remove_journals, holder.leave]
        if publication:
            steps.append(functools.partial(warehouse.publish.discard, publication))
        interruption.store(steps)
        embedded = counters.of_process().get(counters.IMAGES_EMBEDDED, 0)
        stored = max(parts.saved(f".{output_format}") for output_format in config.output_formats)
        work = f"{embedded} images embedded, {stored} vectors" if embedded else "all vectors so far are"
        if not pipeline_options.is_local(beam_options):  # they count for themselves
            work = "what the worker processes have written is"
        work = f"{work} stored in {attempt.vectors}; "
        text = f"interrupted: {work}{go_on}"
    else:
        text = f"interrupted: a job on a cluster goes on; if it does not, {go_on}"
    terminal.screen.write(f"\n{_name()}: {text}\n")
    terminal.screen.flush()
    return interruption.leave(interruption.exit_code(interrupted))


def _show(config: EmbedConfig, beam_args: Sequence[str], beam_options: "PipelineOptions", terminal: Console) -> int:
    """Prints the settings or the dry run of a job, and runs nothing."""
    if config.dry_run and not config.runs_on.explain:
        from pipeline.commands.quote import dry_run

        text = dry_run.run(config, beam_options, config.dry_run)
    else:
        from pipeline.runners import pipeline_options

        text = pipeline_options.explain(beam_args, config, beam_options)
    discard(terminal)
    return DONE if _print(text, terminal) else FAILED


def _print(text: str, terminal: Console) -> bool:
    """Prints a result, and returns whether stdout took it. If nobody reads stdout any more, that is no fault."""
    try:
        write_line(sys.stdout, text)
    except OSError as error:
        terminal.screen.write(f"{_name()}: {unwritable(error)}\n")
        return False
    return True


def _temp_location(config: EmbedConfig, beam_options: "PipelineOptions") -> str | None:
    """Returns --temp_location, if the run has a table and the flags tell; a run that is complete needs none."""
    from pipeline.runners import pipeline_options

    try:
        return pipeline_options.temp_location(beam_options, config) if config.output_table else None
    except ValueError:
        return None


def _is_whole(config: EmbedConfig, complete: "RunReport") -> bool:
    """Returns whether a complete run has its report and its page. What is missing is written under the claim alone."""
    from pipeline.report import run_report

    if not config.output:
        return True
    written = run_report.read(config.output, config.run_id)
    return written is not None and not (config.writes_page and run_report.lacks_page(config.output, written))


def _finish(
    config: EmbedConfig,
    complete: "RunReport",
    temp_location: str | None,
    check_claim: Callable[[], object] | None = None,
) -> "tuple[RunReport, str]":
    """Does what is left of the last steps of a run. Returns its report, and what was done in words.

    Args:
      config, complete: of the run.
      temp_location: of the parts of a run without --output; None if it is not known.
      check_claim: raises an error if this process has lost the claim to the run. None if the run is whole.
    """
    from pipeline.attempts import attempt, claim
    from pipeline.report import run_report
    from transforms.output import layout
    from transforms.storage import contested

    if not config.output:
        if temp_location and claim.clean_up(attempt.of(config, temp_location), complete):
            warehouse.publish.remove_loads(config.output_table or "", config.run_id, temp_location)
        return complete, "nothing was done"
    stored = contested.read(layout.report(config.output, config.run_id))
    written = run_report.read(config.output, config.run_id)
    finished = written or complete
    if config.writes_page and (not written or run_report.lacks_page(config.output, written)):
        from pipeline.report import write_page

        finished = write_page.with_page_of_last_attempt(config, finished, check_claim)
    if finished != written:
        run_report.replace(config.output, finished, stored.state if stored else None)
    claim.clean_up(attempt.of(config), finished)
    return finished, "its page was made" if written and finished.files != written.files else "nothing was done"


def _report(config: EmbedConfig) -> "RunReport | None":
    """Returns the report of this attempt at the run; None if there is none yet. An earlier attempt's does not count."""
    from pipeline.attempts import attempt

    report = _stored_report(config)
    return report if report and attempt.wrote(config, report) else None


def _stored_report(config: EmbedConfig) -> "RunReport | None":
    """Returns the report of the run, whichever attempt wrote it; None if there is none."""
    from pipeline.report import run_report

    if config.output:
        return run_report.read(config.output, config.run_id)
    return warehouse.publish.published(config.output_table or "", config.run_id)


def _after_failure(config: EmbedConfig, attempt: "Attempt", holder: "Holder") -> "tuple[RunReport | None, str]":
    """Returns the report that the job wrote before it failed, if it did, and lets go of the claim.

    Returns also what to say before the error, which may be anything if another process has the run meanwhile.

    If the storage is gone, the job has waited for it long enough. So this takes seconds, and then there is no report.
    """
    from pipeline.attempts import claim
    from transforms.output import parts

    written: list[RunReport] = []
    reason = ""

    def look() -> None:
        if report := _report(config):
            written.append(report)
            claim.end(holder, attempt, report)

    def let_go() -> None:
        nonlocal reason
        if written:
            return
        holder.leave()
        if attempt.is_lost():  # another goes on with the run, so what is open here is taken back
            reason = "the run was taken over or its output was removed: "
            parts.take_back_all()
            attempt.remove_journals()

    interruption.store([look, let_go], _PATIENCE_SECONDS)
    return (written[0] if written else None), reason


def _execute(
    config: EmbedConfig,
    model: ModelSpec,
    publication: "Publication | None",
    attempt: "Attempt",
    beam_options: "PipelineOptions",
    terminal: Console,
) -> None:
    import apache_beam as beam

    from pipeline import graph
    from pipeline.known import ledger
    from pipeline.runners import pipeline_options
    from pipeline.runners.progress import Progress
    from transforms.elements import counters
    from transforms.output import parts

    counters.reset()
    parts.reset()
    result: PipelineResult | None = None

    def count() -> Mapping[str, int]:
        is_elsewhere = result and not pipeline_options.is_local(beam_options)
        return counters.of_job(result) if is_elsewhere else counters.of_process()

    pipeline = beam.Pipeline(options=beam_options)
    accelerator = pipeline_options.accelerator(beam_options, config.runs_on)
    graph.build(
        pipeline,
        config,
        model,
        publication,
        share_model_across_processes=pipeline_options.shares_model_across_processes(beam_options),
        accelerator=accelerator.hint if accelerator else None,
        attempt=attempt,
        has_ledger=config.reads_ledger and ledger.may_have_records(config.output_table, config.output, config.run_id),
        in_packs=pipeline_options.is_local(beam_options),
    )
    with Progress(count, terminal.screen, total_is_listed=config.input_format not in SHARD_FORMATS):
        result = pipeline.run()
        state = result.wait_until_finish()
    if state not in ("DONE", None):
        raise RuntimeError(f"the runner says {state}")


def _refuse(error: Exception, write: Callable[[str], object]) -> int:
    write(f"{_name()}: {command_lines.as_called(one_line(error))}\n")
    return WRONG


def _name() -> str:
    """Returns the name of the program in its messages."""
    return command_lines.program()[-1]
