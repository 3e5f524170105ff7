"""The claim to a run: a file `runs/<run_id>.unfinished` that one process holds from the start of a run to its end.

It shows which runs are unfinished, what they embed, and whether a process still works on them. A process that dies
leaves its claim, and the next attempt takes it over. A live process keeps its claim, and a second one is refused.

A process on this machine is alive as long as the system knows its id. A process on another machine is alive as long as
it rewrites its claim every few seconds. Another container, and the time before a restart, count as another machine. An
attempt that seemed dead may wake up: `attempt.py` says why it then does no harm.

The claim counts the attempts at a run. No machine's clock decides which of two attempts is earlier, or how old a claim
is. The storage sets the time of a file, and also the time that it is compared with.
"""

import contextlib
import dataclasses
import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.attempts import attempt as attempts
from pipeline.attempts import attempt_label, interruption
from pipeline.attempts.attempt import Attempt
from pipeline.flags.options import EmbedConfig
from pipeline.report.run_report import RunReport
from transforms.elements.one_line import one_line
from transforms.models.spec import ModelSpec
from transforms.output import layout
from transforms.storage import contested, files

_LOG = logging.getLogger(__name__)

# Cloud Storage allows one write per second and object.
_BEAT_SECONDS = 10.0
# A process that did not rewrite its claim for this long is dead.
_SILENT_SECONDS = 2.5 * _BEAT_SECONDS

# A run that was interrupted longer ago is abandoned.
_ABANDONED_SECONDS = 14 * 24 * 3600.0

_PROCESS_ID = re.compile("[0-9]{1,10}")


@dataclasses.dataclass(frozen=True)
class Claim:
    """The content of the file.

    Attributes:
      run_id, attempt: of the attempt that holds it.
      embeds: what the run embeds, with which model, and where it publishes.
      host, process: of the process that launched the attempt; `process` is "" once it has ended without finishing.
      beats: how often the process has rewritten the file.
      machine: on which `process` is an id, see `_machine`; "" in claims of earlier versions.
    """

    run_id: str
    attempt: str
    embeds: dict[str, Any]
    host: str
    process: str
    beats: int = 0
    machine: str = ""

    def to_bytes(self) -> bytes:
        return (json.dumps(dataclasses.asdict(self), indent=2) + "\n").encode()

    @classmethod
    def of_bytes(cls, content: bytes) -> "Claim | None":
        """Returns a claim, or None if the bytes are none."""
        try:
            fields = {"machine": ""} | json.loads(content)
            claim = cls(**{field.name: fields[field.name] for field in dataclasses.fields(cls)})
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        texts = (claim.run_id, claim.attempt, claim.host, claim.process, claim.machine)
        is_claim = all(isinstance(text, str) for text in texts) and isinstance(claim.embeds, dict)
        return claim if is_claim and isinstance(claim.beats, int) else None


class Held(ValueError):
    """Another process works on this run."""


class Holder:
    """Holds the claim to a run, and shows every few seconds that its process is alive."""

    def __init__(self, path: str, claim: Claim, state: str):
        self._path = path
        self._claim = claim
        self._state = state
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="claim", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops showing that the process is alive. The claim stays as it is."""
        self._ended.set()

    def end(self) -> None:
        """Stops, and waits for a request under way. The last step of a run that is complete removes the claim."""
        self.stop()
        self._thread.join(_BEAT_SECONDS)  # a request may hang

    def leave(self) -> None:
        """Leaves the claim to the next attempt, because this one ends early. A second call does nothing."""
        if self._ended.is_set():
            return
        self.end()
        with contextlib.suppress(Exception):  # a dead process leaves its claim too
            contested.write(self._path, dataclasses.replace(self._claim, process="").to_bytes(), self._state)

    def withdraw(self) -> None:
        """Removes the claim, because there is nothing to do. If that fails, the next attempt takes it over."""
        self.end()
        with contextlib.suppress(Exception):  # as above
            contested.remove(self._path, self._state)

    @property
    def has_beaten(self) -> bool:
        """Whether the process has rewritten its claim."""
        return self._claim.beats > 0

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT_SECONDS):
            self._claim = dataclasses.replace(self._claim, beats=self._claim.beats + 1)
            try:
                self._state = contested.write(self._path, self._claim.to_bytes(), self._state)
            except contested.Lost:
                return  # the attempt will notice before it names a file
            except OSError:  # the next beat tries again
                continue


def look(attempt: Attempt, say: Callable[[str], object]) -> str | None:
    """Returns the state of the claim to a run for `held`, or None if there is no claim. Changes nothing.

    Raises:
      Held: if another process holds the claim.
    """
    place = layout.claim(attempt.place, attempt.run_id)
    present = contested.read(place)
    if present and _lives(place, present, say):
        raise _held(attempt.run_id, present)
    return present.state if present else None


def numbered(attempt: Attempt, published: RunReport | None) -> Attempt:
    """Returns an attempt with the number after those of all that have left a file or a row in the table."""
    present = contested.read(layout.claim(attempt.place, attempt.run_id))
    claim = Claim.of_bytes(present.content) if present else None
    newest = max(
        attempt.newest(),
        attempt_label.number(claim.attempt) if claim else 0,
        published.attempt if published else 0,
    )
    return dataclasses.replace(attempt, number=newest + 1)


def take(attempt: Attempt, config: EmbedConfig, model: ModelSpec, state: str | None) -> Holder:
    """Takes the claim to a run, in the state that `look` returned.

    Raises:
      Held: if another process was faster.
      OSError: if the claim cannot be written.
    """
    place = layout.claim(attempt.place, attempt.run_id)
    claim = _own(attempt.run_id, attempt, _embeds(config, model))
    try:
        return Holder(place, claim, contested.write(place, claim.to_bytes(), state))
    except contested.Lost:
        raise _held(attempt.run_id, contested.read(place)) from None


@contextlib.contextmanager
def held(attempt: Attempt, config: EmbedConfig, model: ModelSpec, state: str | None) -> Iterator[Holder]:
    """Takes the claim to a run as `take` does, and lets go of it when the block ends.

    The block itself ends the claim if the run is complete or continues on a cluster, and withdraws it if there is
    nothing to do. If the block ends in any other way, the next attempt gets the claim, if the storage answers in time.
    """
    holder = take(attempt, config, model, state)
    try:
        yield holder
    except KeyboardInterrupt:
        interruption.ignore_further()
        raise
    finally:
        interruption.store([holder.leave])


def _own(run_id: str, attempt: Attempt, embeds: dict[str, Any]) -> Claim:
    host, process = socket.gethostname(), _process(os.getpid())
    return Claim(run_id, attempt.label, embeds, host, process, machine=_machine())


def end(holder: Holder, attempt: Attempt, finished: RunReport | None) -> None:
    """Ends the holding of a claim after the job has ended well.

    Where the storage checks no states, the process may have rewritten its claim after the last step had removed it.
    Then this removes the claim again. If that fails, a warning is enough, because the run is complete.

    Args:
      holder, attempt: of the run.
      finished: its report; None if a cluster still works on it.
    """
    holder.end()
    if finished is None or not holder.has_beaten:
        return
    try:
        clean_up(attempt, finished)
    except OSError as error:
        _LOG.warning("the claim of the complete run in %s could not be removed: %s", attempt.place, one_line(error))


def clean_up(attempt: Attempt, finished: RunReport) -> bool:
    """Removes leftovers of a complete run that was killed between its report and its last step.

    The claim and the parts of a later attempt stay, such as one with --overwrite.

    Returns whether the run was killed there.
    """
    place = layout.claim(attempt.place, attempt.run_id)
    present = contested.read(place)
    claim = Claim.of_bytes(present.content) if present else None
    label = attempts.label_of(finished)
    if present is None or (claim and claim.attempt == label):
        attempt.remove_parts(after=label)
    if present and claim and claim.attempt == label:
        with contextlib.suppress(contested.Lost):
            contested.remove(place, present.state)
            return True
    return False


def remove_leftovers(attempt: Attempt, say: Callable[[str], object] = lambda text: None) -> None:
    """Removes the parts and the claims of abandoned runs in the same place, and claims that were being written.

    If that fails, a warning is enough, because they only take room. The attempt holds the claim to another run.
    """
    own = layout.claim(attempt.place, attempt.run_id)
    try:
        contested.remove_unfinished(own)
        old = files.described(own).changed - _ABANDONED_SECONDS
        silent = {
            metadata.path: present
            for metadata in files.match(layout.claim(attempt.place, "*"))
            if metadata.changed < old and (present := contested.read(metadata.path))
        }
        for claim_path in silent.keys() - _living(silent, say):
            _remove_abandoned(attempt, claim_path, silent[claim_path])
    except OSError as error:
        _LOG.warning("leftovers in %s could not be removed: %s", attempt.place, one_line(error))


def _remove_abandoned(attempt: Attempt, claim_path: str, present: contested.Content) -> None:
    """Takes the claim to a run, so that no other process continues it, and removes its parts and then the claim."""
    run_id = layout.run_id(claim_path)
    own = _own(run_id, attempt, {})
    with contextlib.suppress(contested.Lost):
        state = contested.write(claim_path, own.to_bytes(), present.state)
        dataclasses.replace(attempt, run_id=run_id).remove_parts()
        contested.remove(claim_path, state)


def unfinished(
    place: str,
    config: EmbedConfig,
    model: ModelSpec,
    say: Callable[[str], object],
    may_go_on: Callable[[str], bool] = lambda run_id: True,
) -> str | None:
    """Returns the name of the latest unfinished run that embeds the same as this one and has no live process.

    Args:
      place: where the claims lie.
      config, model: of this run.
      say: shows a line to the user.
      may_go_on: whether the run of this name may be continued.
    """
    embeds = _embeds(config, model)
    same = [
        (attempt_label.started_at(claim.attempt), claim.run_id, claim_path, present)
        for claim_path, present, claim in _claims(place)
        if claim.embeds == embeds and claim_path == layout.claim(place, claim.run_id)
    ]
    for _, run_id, claim_path, present in sorted(same, reverse=True):
        if may_go_on(run_id) and not _lives(claim_path, present, say):
            return run_id
    return None


def _claims(place: str) -> Iterator[tuple[str, contested.Content, Claim]]:
    for metadata in files.match(layout.claim(place, "*")):
        present = contested.read(metadata.path)
        claim = Claim.of_bytes(present.content) if present else None
        if present and claim:
            yield metadata.path, present, claim


def _embeds(config: EmbedConfig, model: ModelSpec) -> dict[str, Any]:
    return {
        "inputs": list(config.inputs),
        "input_format": config.input_format,
        "retry_failed": config.retry_failed,
        "reprocess": config.reprocess,
        "model_digest": model.digest,
        "output_table": config.output_table,
    }


def _lives(claim_path: str, present: contested.Content, say: Callable[[str], object]) -> bool:
    return bool(_living({claim_path: present}, say))


def _living(claims: Mapping[str, contested.Content], say: Callable[[str], object]) -> set[str]:
    """Returns the paths of the claims with live processes. Watches all claims of other machines at the same time."""
    living, elsewhere = set(), []
    for claim_path, present in claims.items():
        claim = Claim.of_bytes(present.content)
        if claim is None or not claim.process:
            continue
        if claim.host != socket.gethostname() or claim.machine not in ("", _machine()):
            elsewhere.append(claim_path)
            say(
                f"the run {claim.run_id!r} was begun on {claim.host}: "
                f"waiting {_SILENT_SECONDS:.0f} s for a sign of life\n"
            )
            continue
        process_id = claim.process.partition(" ")[0]
        if _PROCESS_ID.fullmatch(process_id) and claim.process == _process(int(process_id)):
            living.add(claim_path)
    if elsewhere:
        time.sleep(_SILENT_SECONDS)
    for claim_path in elsewhere:
        later = contested.read(claim_path)
        if later is not None and later.state != claims[claim_path].state:
            living.add(claim_path)
    return living


def _machine() -> str:
    """Returns the id of the machine's last start and the namespace of its process ids; "" where there are none.

    They distinguish two containers of one image, which may have the same host name.
    """
    parts: list[str] = []
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _process(process_id: int) -> str:
    """Returns the id of a process and its start, because a later process may get the same id; "" if it is dead."""
    try:
        status = Path(f"/proc/{process_id}/stat").read_text()
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return ""
        try:
            os.kill(process_id, 0)
        except ProcessLookupError:
            return ""
        except PermissionError:
            pass
        return str(process_id)
    state, *_, started = status.rpartition(")")[2].split()[:20]
    return "" if state in "ZX" else f"{process_id} {started}"


def _held(run_id: str, present: contested.Content | None) -> Held:
    claim = Claim.of_bytes(present.content) if present else None
    process = f"process {claim.process.partition(' ')[0]} on {claim.host}" if claim else "another process"
    return Held(f"--run_id {run_id!r}: {process} is at this run; wait for it, or give another --run_id")
