"""The start of an attempt at a run: which run it continues, its claim, and what earlier attempts have left."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pipeline import warehouse
from pipeline.attempts import attempt as attempts
from pipeline.attempts import claim, complete_run, interruption, leftovers
from pipeline.attempts.attempt import Attempt
from pipeline.attempts.claim import Holder
from pipeline.attempts.complete_run import CompleteRun
from pipeline.flags.options import EmbedConfig
from transforms.decoders import journal
from transforms.elements import keys
from transforms.models.spec import ModelSpec
from transforms.output import layout

if TYPE_CHECKING:  # it imports Google's clients
    from pipeline.warehouse.publish import Publication


@dataclasses.dataclass(frozen=True)
class Begun:
    """An attempt that has begun.

    Attributes:
      config: the configuration, with the name of the run that the attempt continues.
      attempt: the attempt, which knows what earlier ones have left.
      holder: of the claim to the run.
      publication: the tables to publish to, with their staging tables; None without --output_table.
      complete: the run if another process has completed it just now. Then nothing is left to do.
    """

    config: EmbedConfig
    attempt: Attempt
    holder: Holder
    publication: "Publication | None"
    complete: CompleteRun | None


@contextlib.contextmanager
def begun(
    config: EmbedConfig, model: ModelSpec, temp_location: str | None, say: Callable[[str], object]
) -> Iterator[Begun]:
    """Begins an attempt, and holds the claim to its run until the block ends; see `claim.held`.

    Leftovers of other runs are removed here and not at the end, which the launcher of a job on a cluster does not see.

    Args:
      config, model: of the run.
      temp_location: a gs:// directory for the files that BigQuery loads, and for the parts of a run without --output.
      say: shows a line to the user.

    Raises:
      ValueError: if another process works on the run or has just completed it, or if a table cannot take its rows.
      OSError: if the output cannot be read or written.
    """
    config = _of_unfinished_run(config, model, temp_location, say)
    attempt = attempts.of(config, temp_location)
    claim_state = claim.look(attempt, say)
    publication = _publication(config, model, temp_location)
    attempt = _numbered(attempt, config)
    with claim.held(attempt, config, model, claim_state) as holder:
        attempt = dataclasses.replace(attempt, claim=layout.claim(attempt.place, attempt.run_id))
        if config.is_named:  # a random name is unique
            attempt.take_over()
        claim.remove_leftovers(attempt, say)
        leftovers.remove(attempt)
        complete = _completed_meanwhile(attempt, holder, config, model) if config.is_named else None
        if not complete:
            attempt = _with_what_is_left(attempt, config, say)
            if publication:
                warehouse.publish.stage(publication)
        yield Begun(config, attempt, holder, publication, complete)


def _of_unfinished_run(
    config: EmbedConfig, model: ModelSpec, temp_location: str | None, say: Callable[[str], object]
) -> EmbedConfig:
    """Returns the configuration with the name of an interrupted run to continue, if the user named none."""
    if config.is_named or not config.resume:
        return config

    def may_go_on(run_id: str) -> bool:  # only --overwrite continues an --overwrite of a complete run
        return config.overwrite or not complete_run.exists(dataclasses.replace(config, run_id=run_id))

    place = attempts.of(config, temp_location).place
    run_id = claim.unfinished(place, config, model, say, may_go_on)
    if run_id is None:
        return config
    say(f"going on with the interrupted run {run_id!r}; --no_resume would begin another\n")
    return dataclasses.replace(config, run_id=run_id, is_named=True)


def _publication(config: EmbedConfig, model: ModelSpec, temp_location: str | None) -> "Publication | None":
    if not config.output_table or not temp_location:
        return None
    return warehouse.publish.prepare(
        config.output_table, config.run_id, model.digest, temp_location, config.make_latest, config.max_pruned
    )


def _numbered(attempt: Attempt, config: EmbedConfig) -> Attempt:
    if not config.is_named:
        return dataclasses.replace(attempt, number=1)
    published = None
    if config.output_table:
        with warehouse.tables.explained(config.output_table):
            published = warehouse.publish.published(config.output_table, config.run_id)
    return claim.numbered(attempt, published)


def _completed_meanwhile(attempt: Attempt, holder: Holder, config: EmbedConfig, model: ModelSpec) -> CompleteRun | None:
    """Finishes and returns the run if another process completed it after it was checked without the claim.

    Raises:
      ValueError: if this process was to replace the run, and the other one already has; or see `complete_run.find`.
    """
    try:
        complete = complete_run.find(config, model)
        if not complete and attempt.newest() >= attempt.number:
            raise claim.Held(f"--run_id {attempt.run_id!r}: another process has done this run just now")
        if complete and not complete.is_whole:
            complete = complete_run.finish(config, complete, attempt.check_claim)
        if complete:
            attempt.remove_parts()
            holder.withdraw()
    except (ValueError, OSError, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt):
            interruption.ignore_further()
        holder.withdraw()
        raise
    return complete


def _with_what_is_left(attempt: Attempt, config: EmbedConfig, say: Callable[[str], object]) -> Attempt:
    """Returns an attempt that knows what earlier ones have left."""
    if not config.resume:
        attempt.remove_parts()
    attempt.remove_repetitions()
    deaths = attempt.deaths()
    for image, times in deaths.items():
        left_out = "it is left out now, and becomes a failure, unless it has changed"
        outcome = left_out if times > 1 else "if that happens again, it is left out"
        say(f"an earlier attempt died while it decoded '{keys.name(journal.key(image))}': {outcome}\n")
    quarantine = {image: times for image, times in deaths.items() if times > 1}
    return dataclasses.replace(attempt, continues=any(attempt.earlier_parts()), quarantine=quarantine)
