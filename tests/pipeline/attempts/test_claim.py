"""pipeline.attempts.claim: one process at a run, and a run that a dead one has left goes on."""

import contextlib
import dataclasses
import datetime
import json
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from pipeline.attempts import attempt, claim
from pipeline.flags import options
from pipeline.report import run_report
from tests.helpers.running import ROOT
from transforms.storage import contested

FLAGS = "--input=/photos/*.jpg", "--run_id=r"


@pytest.fixture
def config(tmp_path):
    return options.parse([*FLAGS, f"--output={tmp_path}"])[0]


@pytest.fixture
def own(config):
    return attempt.of(config)


@pytest.fixture
def dead():
    """A process that has ended, as a claim names it."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = claim._process(process.pid)
    process.communicate()
    assert name.startswith(f"{process.pid} ")
    return name


def path(own):
    return Path(claim.path(own.place, own.run_id))


def read(own):
    return claim.Claim.of_bytes(path(own).read_bytes())


def rewrite(own, **fields):
    """Changes fields of a claim that is there, as another process would have written it."""
    path(own).write_bytes(dataclasses.replace(read(own), **fields).to_bytes())


def wait_until(is_so):
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def silent(text):
    raise AssertionError(f"said {text!r}")


@pytest.fixture
def held(own, config, model):
    """A claim that was taken and is not kept up any more."""
    holder = claim.take(own, config, model, claim.look(own, silent))
    holder.end()
    return holder


def test_a_claim_says_who_is_at_which_run(own, config, model):
    assert claim.look(own, silent) is None and not path(own).parent.exists()  # to look changes nothing
    holder = claim.take(own, config, model, None)
    holder.end()
    stored = read(own)
    assert (stored.run_id, stored.attempt, stored.host) == ("r", own.label, socket.gethostname())
    assert stored.process == claim._process(os.getpid()) and stored.process.startswith(f"{os.getpid()} ")
    assert stored.embeds["inputs"] == ["/photos/*.jpg"] and stored.embeds["model_digest"] == model.digest
    assert claim.Claim.of_bytes(stored.to_bytes()) == stored


def test_a_claim_of_an_earlier_version_tells_no_machine(held, own, dead):
    fields = json.loads(path(own).read_text())
    assert fields.pop("machine") == claim._machine()
    for process, is_held in ((fields["process"], True), (dead, False)):
        path(own).write_text(json.dumps(fields | {"process": process}))
        assert read(own).machine == ""
        with pytest.raises(claim.Held) if is_held else contextlib.nullcontext():
            claim.look(own, silent)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"null", b'{"run_id": "r"}', b"\xff", b"[" * 10**5])
def test_garbage_is_no_claim_and_is_taken_over(own, config, model, content):
    assert claim.Claim.of_bytes(content) is None
    path(own).parent.mkdir(parents=True)
    path(own).write_bytes(content)
    assert claim.unfinished(own.place, config, model, silent) is None
    claim.take(own, config, model, claim.look(own, silent)).end()
    assert read(own).attempt == own.label


def test_a_process_that_lives_keeps_its_claim(held, own):
    message = rf"^--run_id 'r': process {os.getpid()} on .* is at this run; wait for it, or give another --run_id$"
    with pytest.raises(claim.Held, match=message):
        claim.look(own, silent)


def test_the_claim_of_a_process_that_has_died_is_taken_over(held, own, config, model, dead):
    rewrite(own, process=dead)
    state = claim.look(own, silent)
    assert state
    claim.take(own, config, model, state).end()
    assert read(own).process == claim._process(os.getpid())


def test_a_later_process_of_the_same_id_is_another(held, own):
    process_id, _, started = read(own).process.partition(" ")
    rewrite(own, process=f"{process_id} {int(started) - 1}")
    assert claim.look(own, silent)


def test_a_zombie_is_dead():
    process = subprocess.Popen([sys.executable, "-c", ""])
    deadline = time.monotonic() + 30
    while " Z " not in Path(f"/proc/{process.pid}/stat").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert claim._process(process.pid) == ""
    process.wait()
    assert claim._process(process.pid) == ""


def test_an_attempt_that_ends_leaves_its_claim_to_the_next(own, config, model):
    holder = claim.take(own, config, model, None)
    holder.leave()
    assert read(own).process == "" and not holder._thread.is_alive()
    assert claim.look(own, silent)


def test_of_two_that_have_looked_one_takes_it(own, config, model):
    state = claim.look(own, silent)
    claim.take(own, config, model, state).end()
    with pytest.raises(claim.Held, match=f"process {os.getpid()} on"):
        claim.take(own, config, model, state)
    assert read(own).attempt == own.label


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(claim, "_BEAT_SECONDS", 0.05)
    monkeypatch.setattr(claim, "_SILENT_SECONDS", 0.5)


def test_a_process_shows_that_it_lives(quick, own, config, model):
    holder = claim.take(own, config, model, None)
    wait_until(lambda: read(own).beats >= 3)
    holder.end()
    beats = read(own).beats
    time.sleep(0.2)
    assert read(own).beats == beats


@pytest.mark.parametrize("complete", [True, False])
def test_a_claim_that_comes_back_after_the_last_step_is_removed_again(quick, own, config, model, complete):
    """As where the storage checks no states, and a beat follows the removal."""
    holder = claim.take(own, config, model, None)
    wait_until(lambda: holder.has_beaten)
    content = path(own).read_bytes()
    dataclasses.replace(own, claim=str(path(own))).finish()
    holder._thread.join(30)
    path(own).write_bytes(content)
    claim.end(
        holder,
        own,
        SimpleNamespace(attempt=0, started_at=run_report.timestamp(config.started_at)) if complete else None,
    )
    assert path(own).exists() == (not complete)


def test_a_claim_that_was_never_rewritten_is_not_looked_at_again(own, config, model, monkeypatch):
    holder = claim.take(own, config, model, None)
    monkeypatch.setattr(contested, "read", silent)
    claim.end(holder, own, SimpleNamespace(attempt=0, started_at=run_report.timestamp(config.started_at)))


@pytest.mark.slow
@pytest.mark.parametrize("beats", [False, True])
def test_a_process_on_another_host_lives_if_it_rewrites_its_claim(quick, held, own, config, model, beats):
    rewrite(own, host="elsewhere", process="1 2")
    ended = threading.Event()

    def beat():
        while not ended.wait(0.05):
            stored = read(own)
            contested.write(
                str(path(own)),
                dataclasses.replace(stored, beats=stored.beats + 1).to_bytes(),
                contested.read(str(path(own))).state,
            )

    thread = threading.Thread(target=beat if beats else ended.wait)
    thread.start()
    lines = []
    try:
        if beats:
            with pytest.raises(claim.Held, match="process 1 on elsewhere is at this run"):
                claim.look(own, lines.append)
            assert claim.unfinished(own.place, config, model, lines.append) is None
        else:
            assert claim.look(own, lines.append)
            assert claim.unfinished(own.place, config, model, lines.append) == "r"
    finally:
        ended.set()
        thread.join()
    assert lines == ["the run 'r' was begun on elsewhere: waiting 0 s for a sign of life\n"] * 2


LOOK = """
import datetime, sys
from pipeline.attempts import attempt, claim
claim._SILENT_SECONDS = 1.0
try:
    claim.look(attempt.Attempt("r", datetime.datetime.now(datetime.UTC), sys.argv[1], sys.argv[1]), print)
except claim.Held as error:
    print(error)
"""
NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc")


@pytest.mark.slow
def test_a_process_in_another_container_lives_if_it_rewrites_its_claim(quick, own, config, model):
    if subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("namespaces of process ids need Linux and root")
    holder = claim.take(own, config, model, None)
    look = [*NAMESPACE, sys.executable, "-c", LOOK, own.place]
    waits = f"the run 'r' was begun on {socket.gethostname()}: waiting 1 s for a sign of life\n\n"
    held = f"--run_id 'r': process {os.getpid()} on {socket.gethostname()} is at this run; wait for it, or"
    for is_held in (True, False):
        done = subprocess.run(look, cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.startswith(waits) and (held in done.stdout) is is_held
        holder.end()


def test_a_holder_that_has_lost_its_claim_lets_it_be(quick, own, config, model):
    holder = claim.take(own, config, model, None)
    rewrite(own, attempt="20991231T000000.000Z")
    holder._thread.join(30)
    assert not holder._thread.is_alive()
    holder.leave()
    assert read(own).attempt == "20991231T000000.000Z" and read(own).process


def test_a_beat_that_fails_is_tried_again(quick, own, config, model, monkeypatch):
    holder = claim.take(own, config, model, None)
    failed = threading.Event()
    write = contested.write

    def fail(*_):
        failed.set()
        raise OSError("no route to host")

    monkeypatch.setattr(contested, "write", fail)
    assert failed.wait(30)
    monkeypatch.setattr(contested, "write", write)
    beats = read(own).beats
    deadline = time.monotonic() + 30
    while read(own).beats <= beats:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    holder.end()


def another(config, **changes):
    return dataclasses.replace(config, **changes)


def test_the_unfinished_run_of_the_same_inputs_and_model(held, own, config, model, dead):
    rewrite(own, process=dead)
    unnamed = another(config, run_id="new", is_named=False)
    assert claim.unfinished(own.place, unnamed, model, silent) == "r"
    for changes in (
        {"inputs": ("/photos/*.png",)},
        {"input_format": "list"},
        {"retry_failed": True},
        {"reprocess": True},
        {"output_table": "p.d.t"},
    ):
        assert claim.unfinished(own.place, another(unnamed, **changes), model, silent) is None
    for changes in ({"batch_size": 7}, {"read_concurrency": 3}, {"checkpoint_seconds": 5.0}):
        assert claim.unfinished(own.place, another(unnamed, **changes), model, silent) == "r"
    assert claim.unfinished(own.place, unnamed, dataclasses.replace(model, digest="e" * 64), silent) is None
    assert claim.unfinished(f"{own.place}/other", unnamed, model, silent) is None


def test_the_latest_of_several_unfinished_runs(held, own, config, model, dead):
    rewrite(own, process=dead)
    for run_id, label in (("first", "20200101T000000.000Z"), ("last", "20990101T000000.000Z")):
        stored = dataclasses.replace(read(own), run_id=run_id, attempt=label)
        Path(claim.path(own.place, run_id)).write_bytes(stored.to_bytes())
    assert claim.unfinished(own.place, config, model, silent) == "last"
    assert claim.unfinished(own.place, config, model, silent, lambda run_id: run_id != "last") == "r"
    # One that a process is at is left to it.
    stored = dataclasses.replace(stored, process=claim._process(os.getpid()))
    Path(claim.path(own.place, "last")).write_bytes(stored.to_bytes())
    assert claim.unfinished(own.place, config, model, silent) == "r"


def test_a_claim_under_the_name_of_another_run_counts_for_none(held, own, config, model, dead):
    rewrite(own, process=dead)
    path(own).rename(claim.path(own.place, "copied"))
    assert claim.unfinished(own.place, config, model, silent) is None


def test_an_attempt_with_a_claim_travels_to_workers(own):
    claimed = dataclasses.replace(own, claim=str(path(own)))
    assert pickle.loads(pickle.dumps(claimed)) == claimed  # noqa: S301 - made here
    assert json.loads(json.dumps(claimed.label)) == own.label


def test_what_a_complete_run_has_left_goes_and_what_a_later_attempt_has_stays(tmp_path):
    stored = attempt.Attempt("r", datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), str(tmp_path), str(tmp_path))
    finished = SimpleNamespace(attempt=0, started_at="2026-01-01T00:00:00.000+00:00")
    parts = tmp_path / "embeddings" / "r" / ".parts"
    for is_own in (True, False):
        own, later = stored.label, "20260102T000000.000Z"
        parts.mkdir(parents=True)
        (parts / f"{own if is_own else later}-embedded-x.tfrecord").write_bytes(b"")
        place = Path(claim.path(str(tmp_path), "r"))
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(claim.Claim("r", own if is_own else later, {}, "host", "").to_bytes())
        claim.clean_up(stored, finished)
        assert (place.exists(), parts.exists()) == (not is_own, not is_own)


def test_a_later_attempt_at_a_complete_run_keeps_what_it_goes_on_with(tmp_path):
    stored = attempt.Attempt("r", datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), str(tmp_path), str(tmp_path))
    part = write(tmp_path / "embeddings" / "r" / ".parts" / f"{stored.label}-embedded-x.tfrecord")
    later = claim.Claim("r", "20260102T000000.000Z", {}, "host", "")
    write(Path(claim.path(str(tmp_path), "r"))).write_bytes(later.to_bytes())
    claim.clean_up(stored, SimpleNamespace(attempt=0, started_at="2026-01-01T00:00:00.000+00:00"))
    assert part.exists()


def test_without_a_claim_nothing_is_cleaned_up(tmp_path):
    stored = attempt.Attempt("r", datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), str(tmp_path), str(tmp_path))
    claim.clean_up(stored, SimpleNamespace(attempt=0, started_at="2026-01-01T00:00:00.000+00:00"))
    assert list(tmp_path.iterdir()) == []


def write(path, age=0.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    os.utime(path, (time.time() - age * 24 * 3600,) * 2)
    return path


def names(root):
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_what_nobody_has_gone_on_with_for_two_weeks_is_removed(held, own, tmp_path):
    part = "20261121T010203.455Z-embedded-0.tfrecord"
    for run_id, age in (("old", 14.1), ("young", 13.9)):
        write(tmp_path / "runs" / f"{run_id}.unfinished", age)
        write(tmp_path / "embeddings" / run_id / ".parts" / part, age)
        write(tmp_path / "failures" / run_id / ".parts" / part, age)
    write(tmp_path / "embeddings" / "r" / ".parts" / part, 99)  # its claim is held
    write(tmp_path / "embeddings" / "old" / "part-00000-of-00001.tfrecord", 99)  # was to be replaced by --overwrite
    claim.remove_leftovers(own)
    assert names(tmp_path) == {
        "runs/r.unfinished",
        f"embeddings/r/.parts/{part}",
        "runs/young.unfinished",
        f"embeddings/young/.parts/{part}",
        f"failures/young/.parts/{part}",
        "embeddings/old/part-00000-of-00001.tfrecord",
    }


def test_a_claim_is_kept_until_the_parts_are_gone(held, own, tmp_path, monkeypatch):
    """Nobody would look for parts without a claim."""
    place = write(tmp_path / "runs" / "old.unfinished", 15)
    refuse = Mock(side_effect=OSError("read-only"))
    with monkeypatch.context() as patch:
        patch.setattr(attempt.Attempt, "remove_parts", refuse)
        claim.remove_leftovers(own)
    assert refuse.called and place.exists()


def test_a_run_that_another_process_goes_on_with_meanwhile_keeps_its_parts(held, own, tmp_path, monkeypatch):
    place = write(tmp_path / "runs" / "old.unfinished", 15)
    part = write(tmp_path / "embeddings" / "old" / ".parts" / "20261121T010203.455Z-embedded-0.tfrecord", 15)
    read = contested.read

    def read_and_lose(path):
        present = read(path)
        place.write_text("of another process")
        return present

    monkeypatch.setattr(contested, "read", read_and_lose)
    claim.remove_leftovers(own)
    assert part.exists() and place.read_text() == "of another process"


# Writes claims until it is killed, and waits for that in the middle of one.
WRITE = """
import os, sys
from transforms.storage import contested, files
state = contested.write(sys.argv[1], b"before", None)
files.publish = lambda part, path: print("written", flush=True) or input()
contested.write(sys.argv[1], b"after", state)
"""


@pytest.mark.slow
def test_a_claim_that_was_being_written_when_its_process_was_killed_is_removed(held, own, tmp_path):
    argv = [sys.executable, "-c", WRITE, str(tmp_path / "runs" / "killed.unfinished")]
    process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "written\n"
    process.kill()
    process.communicate()
    (left,) = names(tmp_path) - {"runs/r.unfinished", "runs/killed.unfinished"}
    assert left.startswith("runs/.killed.unfinished.")
    report = write(tmp_path / "runs" / f".r.json.{'0' * 32}")  # is written without the lock, maybe now
    claim.remove_leftovers(own)
    assert names(tmp_path) == {"runs/r.unfinished", "runs/killed.unfinished", f"runs/{report.name}"}


def test_a_process_on_another_host_has_time_for_a_beat_that_is_late(held, own, monkeypatch):
    rewrite(own, host="elsewhere", process="1 2")

    def beat_late(seconds):
        if seconds >= 2 * claim._BEAT_SECONDS:
            rewrite(own, beats=1)

    monkeypatch.setattr(time, "sleep", beat_late)
    with pytest.raises(claim.Held):
        claim.look(own, lambda text: None)
    assert claim._BEAT_SECONDS >= 1  # Cloud Storage takes no more writes of one object


def test_processes_on_other_hosts_are_waited_for_together(held, own, monkeypatch):
    rewrite(own, host="elsewhere", process="1 2")
    present = contested.read(str(path(own)))
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    copies = {str(path(own)): present, str(path(own).with_suffix(".copy")): present}
    assert claim._living(copies, lambda text: None) == set() and waited == [claim._SILENT_SECONDS]


def test_a_claim_that_goes_while_it_is_watched_is_of_no_living_process(held, own, monkeypatch):
    rewrite(own, host="elsewhere", process="1 2")
    monkeypatch.setattr(time, "sleep", lambda seconds: path(own).unlink())
    assert claim.look(own, lambda text: None)


def test_an_attempt_that_has_ended_on_another_host_is_not_waited_for(held, own):
    rewrite(own, host="elsewhere", process="")
    assert claim.look(own, silent)


def test_a_machine_is_a_start_and_a_namespace():
    parts = Path("/proc/sys/kernel/random/boot_id").read_text().strip(), Path("/proc/self/ns/pid").readlink()
    assert claim._machine() == f"{parts[0]} {parts[1]}"


def test_a_process_of_another_machine_is_waited_for(quick, held, own):
    rewrite(own, machine="another start of the machine")
    said = []
    assert claim.look(own, said.append) and len(said) == 1


@pytest.mark.parametrize("process", ["x 1", "../self 1", "1" * 11 + " 1", "-1 1", "\u0661 1", " 1"])
def test_a_process_that_is_none_is_dead(held, own, process):
    rewrite(own, process=process)
    assert claim.look(own, silent)


@pytest.mark.parametrize(
    "change",
    [{"run_id": 7}, {"attempt": None}, {"host": []}, {"process": 1}, {"machine": 0}, {"embeds": []}, {"beats": "1"}],
    ids=repr,
)
def test_fields_of_another_type_are_no_claim(held, own, change):
    fields = json.loads(path(own).read_text())
    assert claim.Claim.of_bytes(json.dumps(fields).encode()) is not None
    assert claim.Claim.of_bytes(json.dumps(fields | change).encode()) is None


def test_an_end_waits_for_no_request_that_hangs(own, config, model, monkeypatch):
    monkeypatch.setattr(claim, "_BEAT_SECONDS", 0.05)
    hanging, write = threading.Event(), contested.write
    holder = claim.take(own, config, model, None)
    monkeypatch.setattr(contested, "write", lambda *args: hanging.wait(30) and write(*args))
    wait_until(lambda: holder.has_beaten)
    holder.end()
    assert holder._thread.is_alive()
    hanging.set()
    holder._thread.join(30)


def test_leftovers_that_cannot_be_removed_do_not_stop_a_run(held, own, monkeypatch, caplog):
    monkeypatch.setattr(contested, "remove_unfinished", lambda path: os.listdir("/nowhere"))
    claim.remove_leftovers(own)
    assert f"leftovers in {own.place} could not be removed: [Errno 2]" in caplog.text


def test_the_claim_counts_the_attempts(own, config, model, dead, tmp_path):
    assert claim.numbered(own, None).number == 1
    first = claim.numbered(own, None)
    claim.take(first, config, model, None).end()
    rewrite(own, process=dead)
    behind = dataclasses.replace(own, started_at=own.started_at - datetime.timedelta(days=1))
    second = claim.numbered(behind, None)
    assert second.number == 2 and second.label > first.label
    claim.take(second, config, model, claim.look(second, silent)).end()
    assert read(own).attempt == second.label
    assert claim.numbered(own, SimpleNamespace(attempt=7)).number == 8  # the row in the table
    write(tmp_path / "embeddings" / "r" / ".parts" / "n00000009_20261121T010203.455Z-embedded-0.tfrecord")
    assert claim.numbered(own, SimpleNamespace(attempt=7)).number == 10


def test_a_claim_that_is_withdrawn_is_gone_and_another_stays(own, config, model):
    holder = claim.take(own, config, model, None)
    holder.withdraw()
    assert not path(own).exists() and not holder._thread.is_alive()
    holder = claim.take(own, config, model, None)
    rewrite(own, attempt="of another")
    holder.withdraw()
    assert read(own).attempt == "of another"


def test_parts_of_a_late_riser_in_a_complete_run_go_with_the_next_command(tmp_path):
    finished = attempt.Attempt("r", datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), str(tmp_path), str(tmp_path))
    late, later = (
        tmp_path / "embeddings" / "r" / ".parts" / f"n0000000{number}_-embedded-x.tfrecord" for number in (1, 3)
    )
    for part in (late, later):
        write(part)
    claim.clean_up(finished, SimpleNamespace(attempt=2, started_at="2026-01-01T00:00:00.000+00:00"))
    assert not late.exists() and later.exists()


def test_no_clock_of_this_machine_tells_how_old_a_claim_is(held, own, tmp_path, monkeypatch):
    """This machine's clock is 15 days ahead of the storage's, and then 15 days behind."""
    young, old = write(tmp_path / "runs" / "young.unfinished"), write(tmp_path / "runs" / "old.unfinished", 15)
    now = time.time
    for days in (15, -15):
        monkeypatch.setattr(time, "time", lambda days=days: now() + days * 24 * 3600)
        claim.remove_leftovers(own, silent)
        assert young.exists() and not old.exists()
        monkeypatch.undo()
        write(old, 15)


@pytest.mark.slow
def test_an_old_claim_whose_process_lives_after_all_stays(quick, held, own, config, model, tmp_path):
    """As after the clock of the storage was set: what shows a sign of life is alive, however old its file is."""
    lines = []
    for name, process, host in (
        ("here", claim._process(os.getpid()), socket.gethostname()),
        ("beats", "1 2", "elsewhere"),
        ("silent", "1 2", "elsewhere"),
    ):
        stored = dataclasses.replace(read(own), run_id=name, host=host, process=process)
        place = Path(claim.path(own.place, name))
        place.write_bytes(stored.to_bytes())
        os.utime(place, (time.time() - 15 * 24 * 3600,) * 2)
        write(tmp_path / "embeddings" / name / ".parts" / "1-embedded-0.tfrecord")

    def say(line):
        lines.append(line)
        if "'beats'" in line:
            place = Path(claim.path(own.place, "beats"))
            stored = claim.Claim.of_bytes(place.read_bytes())
            threading.Timer(0.1, lambda: place.write_bytes(dataclasses.replace(stored, beats=1).to_bytes())).start()

    claim.remove_leftovers(own, say)
    assert {line.split("'")[1] for line in lines} == {"beats", "silent"}
    left = names(tmp_path)
    assert {f"runs/{name}.unfinished" for name in ("here", "beats", "r")} == {n for n in left if n.startswith("runs/")}
    assert {n.split("/")[1] for n in left if n.startswith("embeddings/")} == {"here", "beats"}
