"""From argv to exit code: flags → checks → graph → runner → report.

Importing Beam takes two seconds, so this module imports it only after the flags have been parsed.
"""

import dataclasses
import datetime
import gc
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.attempts import interruption
from pipeline.commands.frame import DONE, FAILED, WRONG
from pipeline.flags import command_lines, options
from pipeline.flags.options import EmbedConfig
from pipeline.flags.parser import known_flags
from pipeline.runners.console import Console, console, discard, open_streams, say, unwritable, write_line
from transforms.concurrent import import_path
from transforms.elements.one_line import one_line
from transforms.models.spec import ModelSpec
from transforms.storage import account

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.runner import PipelineResult

    from pipeline.attempts.begin import Begun
    from pipeline.attempts.complete_run import CompleteRun
    from pipeline.attempts.end import Ended


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
            terminal.screen.write(f"\n{command_lines.name()}: interrupted before any work started\n")
            terminal.screen.flush()
            return interruption.leave(interruption.exit_code(error))


def _import_job() -> None:
    """Imports Beam and the job, and excludes the imported objects from garbage collection.

    None of it is ever garbage. Scanning these objects again and again takes a tenth of the time of a short run.
    """
    if "apache_beam" in sys.modules or not gc.isenabled():
        return
    gc.disable()
    try:
        import pipeline.graph
        import pipeline.runners.job_checks  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()


def _run(config: EmbedConfig, argv: Sequence[str], beam_args: Sequence[str], terminal: Console) -> int:
    """Checks a job, begins an attempt at its run, executes it, and concludes with an exit code."""
    _import_job()
    from pipeline import check
    from pipeline.attempts import begin, complete_run
    from pipeline.runners import pipeline_options, traits

    try:
        beam_options = pipeline_options.beam_options(beam_args, known_flags(), config.runs_on)
        if config.runs_on.explain or config.dry_run:
            return _show(config, beam_args, beam_options, terminal)
        model = _check(config, beam_options, terminal)
        temp_location = traits.temp_location(beam_options, config)
        complete = complete_run.find(config, model) if config.is_named else None
        if complete and complete.is_whole:
            complete_run.clean_up(config, complete, temp_location)
        else:
            check.check_output(config, model)
            check.check_temp_location(config, temp_location)
            with begin.begun(config, model, temp_location, terminal.screen.write) as begun:
                config, complete = begun.config, begun.complete
                if not complete:
                    ended = _execute(begun, model, beam_options, terminal)
    except (ValueError, OSError) as error:
        discard(terminal)
        return _refuse(error, terminal.screen.write)
    if complete:
        return _conclude_complete(complete, config, terminal)
    if isinstance(ended.error, KeyboardInterrupt):
        return _conclude_interrupted(begun, ended.error, argv, beam_options, terminal)
    return _conclude(ended, config, beam_options, terminal)


def _check(config: EmbedConfig, beam_options: "PipelineOptions", terminal: Console) -> ModelSpec:
    """Returns the model of a job that can run. Warns if the model seems to get other pixels than it expects.

    Raises:
      ValueError: if the job cannot run; see `pipeline.check`.
    """
    from pipeline import check
    from pipeline.model_checks import precision, similarity
    from pipeline.runners import job_checks, traits

    check.check_inputs(config)
    model = precision.resolved(config, traits.is_local(beam_options))
    measured = similarity.finding(model)
    if text := similarity.warning(model, measured):
        terminal.screen.write(f"{text}\n")
    model = dataclasses.replace(model, spread=measured.similarity if measured else None)
    job_checks.check_location(beam_options, model)
    job_checks.check(beam_options, config)
    return model


def _execute(begun: "Begun", model: ModelSpec, beam_options: "PipelineOptions", terminal: Console) -> "Ended":
    """Runs the job, and returns how the attempt has ended. Whatever the runner raises is a way to end."""
    from pipeline.attempts import end
    from pipeline.runners import traits

    is_on_this_machine = traits.is_on_this_machine(beam_options)
    try:
        _run_job(begun, model, beam_options, terminal)
        return end.done(begun)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - a runner may raise anything
        if interrupted := interruption.of(error):
            return end.interrupted(begun, interrupted, is_on_this_machine=is_on_this_machine)
        traceback.print_exc()
        return end.failed(begun, error, is_on_this_machine=is_on_this_machine)


def _run_job(begun: "Begun", model: ModelSpec, beam_options: "PipelineOptions", terminal: Console) -> None:
    import apache_beam as beam

    from pipeline import graph
    from pipeline.known import ledger
    from pipeline.runners import traits
    from pipeline.runners.progress import Progress
    from transforms.elements import counters
    from transforms.output import parts

    config = begun.config
    counters.reset()
    parts.reset()
    result: PipelineResult | None = None

    def count() -> Mapping[str, int]:
        is_elsewhere = result and not traits.is_local(beam_options)
        return counters.of_job(result) if is_elsewhere else counters.of_process()

    has_ledger = config.reads_ledger and ledger.may_have_records(config.output_table, config.output, config.run_id)
    pipeline = beam.Pipeline(options=beam_options)
    job = graph.Job(config, model, begun.attempt, begun.publication, has_ledger)
    graph.build(pipeline, job, traits.of(beam_options, config.runs_on))
    with Progress(count, terminal.screen, total_is_listed=not job.reads_shards):
        result = pipeline.run()
        state = result.wait_until_finish()
    if state not in ("DONE", None):
        raise RuntimeError(f"the runner says {state}")


def _conclude_complete(complete: "CompleteRun", config: EmbedConfig, terminal: Console) -> int:
    from pipeline.report.summary import summary

    report = complete.report
    discard(terminal)
    _print(f"the run {config.run_id!r} is complete, {complete.done}:\n\n{summary(report, config)}", terminal)
    return FAILED if report.exceeds(config.max_failure_rate) else DONE


def _conclude_interrupted(
    begun: "Begun",
    interrupted: KeyboardInterrupt,
    argv: Sequence[str],
    beam_options: "PipelineOptions",
    terminal: Console,
) -> int:
    from pipeline.runners import traits
    from transforms.elements import counters
    from transforms.output import parts

    go_on = f"to go on: {interruption.command_to_go_on(argv, begun.config.run_id)}"
    if traits.is_on_this_machine(beam_options):
        embedded = counters.of_process().get(counters.IMAGES_EMBEDDED, 0)
        stored = max(parts.saved(f".{output_format}") for output_format in begun.config.output_formats)
        work = f"{embedded} images embedded, {stored} vectors" if embedded else "all vectors so far are"
        if not traits.is_local(beam_options):  # each worker process has its own counters
            work = "what the worker processes have written is"
        text = f"interrupted: {work} stored in {begun.attempt.vectors}; {go_on}"
    else:
        text = f"interrupted: a job on a cluster goes on; if it does not, {go_on}"
    terminal.screen.write(f"\n{command_lines.name()}: {text}\n")
    terminal.screen.flush()
    return interruption.leave(interruption.exit_code(interrupted))


def _conclude(ended: "Ended", config: EmbedConfig, beam_options: "PipelineOptions", terminal: Console) -> int:
    """Says what became of a job, and returns the exit code. The log of a job that failed stays."""
    from pipeline.report.summary import summary
    from transforms.storage import contested

    report, error = ended.report, ended.error
    excess = report.exceeds(config.max_failure_rate) if report and error else None
    if error and not excess:
        log = f"; all that was logged: {terminal.log}" if terminal.log else ""
        # A lost claim says so itself.
        is_told = not ended.has_lost_claim or isinstance(error, contested.Lost)
        reason = "" if is_told else "the run was taken over or its output was removed: "
        terminal.screen.write(f"{command_lines.name()}: the job failed: {reason}{one_line(error)}{log}\n")
        return FAILED
    if report:
        seconds = max(0.0, (datetime.datetime.now(datetime.UTC) - config.started_at).total_seconds())
        _print(summary(report, config, seconds), terminal)
    else:
        _print(_submitted(config, beam_options), terminal)
    discard(terminal)
    if excess:
        terminal.screen.write(f"{command_lines.name()}: {excess}\n")
    return FAILED if excess else DONE


def _submitted(config: EmbedConfig, beam_options: "PipelineOptions") -> str:
    """Returns the message for a job that is done without a report of its own."""
    from pipeline.attempts import end
    from pipeline.runners import traits
    from transforms.output import layout

    path = layout.report(config.output, config.run_id) if config.output else f"in {config.output_table}_runs"
    if traits.is_on_this_machine(beam_options) and end.stored_report(config):
        return f"the run {config.run_id!r} was completed, and another process has replaced it since: {path}"
    return f"the job was submitted; its report will be {path}"


def _show(config: EmbedConfig, beam_args: Sequence[str], beam_options: "PipelineOptions", terminal: Console) -> int:
    """Prints the settings or the dry run of a job, and runs nothing."""
    if config.dry_run and not config.runs_on.explain:
        from pipeline.commands.quote import dry_run

        text = dry_run.run(config, beam_options, config.dry_run)
    else:
        from pipeline.runners import explain

        text = explain.settings(beam_args, config, beam_options)
    discard(terminal)
    return DONE if _print(text, terminal) else FAILED


def _print(text: str, terminal: Console) -> bool:
    """Prints a result, and returns whether stdout took it. A closed pipe is no error."""
    try:
        write_line(sys.stdout, text)
    except OSError as error:
        terminal.screen.write(f"{command_lines.name()}: {unwritable(error)}\n")
        return False
    return True


def _refuse(error: Exception, write: Callable[[str], object]) -> int:
    write(f"{command_lines.name()}: {command_lines.advice_as_called(one_line(error))}\n")
    return WRONG
