"""From argv to exit code: flags → checks → graph → runner → report.

Importing Beam takes two seconds, so this module imports it only after the flags have been parsed.
"""

import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline import options
from pipeline.command import DONE, FAILED, INTERRUPTED, WRONG
from pipeline.console import Console, console, discard
from pipeline.options import EmbedConfig
from pipeline.parser import known_flags
from transforms.formats import SHARD_FORMATS
from transforms.models.spec import ModelSpec
from transforms.one_line import one_line

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.runner import PipelineResult

    from pipeline.report.run_report import RunReport
    from pipeline.warehouse.publish import Publication


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code. Results go to stdout, errors and progress to stderr."""
    try:
        config, beam_args = options.parse(sys.argv[1:] if argv is None else argv)
    except ValueError as error:
        return _refuse(error, sys.stderr.write)
    with console(config.verbose) as terminal:
        try:
            return _run(config, beam_args, terminal)
        except KeyboardInterrupt:
            terminal.screen.write(
                "\ninterrupted: a job in this process ends, with no file half-written; one on a cluster goes on\n"
            )
            terminal.screen.flush()
            os._exit(INTERRUPTED)  # an ordinary exit would wait for the worker threads


def _run(config: EmbedConfig, beam_args: Sequence[str], terminal: Console) -> int:
    from pipeline import check, precision, runners
    from pipeline.report import run_report
    from pipeline.report.summary import summary
    from pipeline.warehouse import publish

    try:
        beam_options = runners.beam_options(beam_args, known_flags(), config.runs_on)
        if config.runs_on.explain or config.dry_run:
            return _show(config, beam_args, beam_options, terminal)
        check.check_inputs(config)
        model = precision.resolved(config, runners.is_local(beam_options))
        runners.check_location(beam_options, model)
        runners.check(beam_options, config)
        publication = None
        if finished := check.finished(config, model):
            _add_missing_report(config, finished)
        else:
            temp_location = runners.temp_location(beam_options, config) if config.output_table else None
            check.check_output(config, model)
            if temp_location and config.output_table:
                check.check_temp_location(config, temp_location)
                publication = publish.prepare(config.output_table, model.digest, temp_location, config.make_latest)
    except (ValueError, OSError) as error:
        discard(terminal)
        return _refuse(error, terminal.screen.write)
    if finished:
        discard(terminal)
        print(f"the run {config.run_id!r} is complete, nothing was done:\n\n{summary(finished, config)}")
        return FAILED if finished.exceeds(config.max_failure_rate) else DONE
    try:
        _execute(config, model, publication, beam_options, terminal)
    except Exception as error:  # a runner may raise anything
        if _is_interruption(error):
            raise KeyboardInterrupt from error
        traceback.print_exc()
        finished = _report(config)
        message = finished and finished.exceeds(config.max_failure_rate)
        if finished and message:
            print(summary(finished, config))
            discard(terminal)
        else:
            log = f"; all that was logged: {terminal.log}" if terminal.log else ""
            message = f"the job failed: {one_line(error)}{log}"
        terminal.screen.write(f"run_pipeline.py: {message}\n")
        return FAILED
    if finished := _report(config):
        print(summary(finished, config))
    else:
        path = run_report.path(config.output, config.run_id) if config.output else f"in {config.output_table}_runs"
        print(f"the job was submitted; its report will be {path}")
    discard(terminal)
    return DONE


def _show(config: EmbedConfig, beam_args: Sequence[str], beam_options: "PipelineOptions", terminal: Console) -> int:
    """Prints the settings or the dry run of a job, and runs nothing."""
    if config.dry_run and not config.runs_on.explain:
        from pipeline.quote import dry_run

        text = dry_run.run(config, beam_options, config.dry_run)
    else:
        from pipeline import runners

        text = runners.explain(beam_args, config, beam_options)
    discard(terminal)
    print(text)
    return DONE


def _add_missing_report(config: EmbedConfig, published: "RunReport") -> None:
    """Writes the report file of a run that published its rows, and was killed before it wrote the file."""
    from pipeline.report import run_report

    if config.output and not run_report.read(config.output, config.run_id):
        run_report.write(config.output, published)


def _report(config: EmbedConfig) -> "RunReport | None":
    """Returns the report of this attempt at the run; None if there is none yet. An earlier attempt's does not count."""
    from pipeline import attempt
    from pipeline.report import run_report
    from pipeline.warehouse import publish

    if config.output:
        report = run_report.read(config.output, config.run_id)
    else:
        report = publish.published(config.output_table or "", config.run_id)
    return report if report and attempt.wrote(config, report) else None


def _execute(
    config: EmbedConfig,
    model: ModelSpec,
    publication: "Publication | None",
    beam_options: "PipelineOptions",
    terminal: Console,
) -> None:
    import apache_beam as beam

    from pipeline import graph, runners
    from pipeline.progress import Progress
    from transforms import counters

    counters.reset()
    result: PipelineResult | None = None

    def count() -> Mapping[str, int]:
        return counters.of_job(result) if result and not runners.is_local(beam_options) else counters.of_process()

    pipeline = beam.Pipeline(options=beam_options)
    accelerator = runners.accelerator(beam_options, config.runs_on)
    graph.build(
        pipeline,
        config,
        model,
        publication,
        share_model_across_processes=runners.shares_model_across_processes(beam_options),
        accelerator=accelerator.hint if accelerator else None,
    )
    with Progress(count, terminal.screen, total_is_listed=config.input_format not in SHARD_FORMATS):
        result = pipeline.run()
        state = result.wait_until_finish()
    if state not in ("DONE", None):
        raise RuntimeError(f"the runner says {state}")


def _is_interruption(error: BaseException | None) -> bool:
    """Returns whether an error is an interruption, which Beam wraps if it runs a bundle in this thread."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _refuse(error: Exception, write: Callable[[str], object]) -> int:
    write(f"run_pipeline.py: {one_line(error)}\n")
    return WRONG
