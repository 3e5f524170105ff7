"""transforms.decoders.dispatcher: which process gets a task, and what becomes of tasks when processes end."""

import dataclasses
import os
import signal
import sys
import time

import pytest

from tests.helpers.decoder_pools import SETTINGS, check, children, files, results
from transforms.decoders import child, dispatcher, shared_memory
from transforms.decoders.job import SLOTS

pytestmark = pytest.mark.slow


def test_processes_that_were_stopped_with_the_worker_have_time_to_say_that_they_run(tmp_path, joined):
    user = joined(dataclasses.replace(SETTINGS, timeout=1.0))
    refs = files(tmp_path / "photos", 20)
    found = results(user, refs[:10])
    processes = list(children(user))
    for process in processes:
        os.kill(process._process.pid, signal.SIGSTOP)
    for start in (10, 15):
        assert list(user.submit(refs[start : start + 5])) == []
    with user.pool._changed:
        for process in processes:
            process.shared._state[shared_memory._BEAT] -= 100  # as if they had been stopped so long ago
        user.pool._dispatcher._looked -= 100
        user.pool._dispatcher._end_what_hangs()
    for process in processes:
        os.kill(process._process.pid, signal.SIGCONT)
        while process.shared.silent_seconds() > 50:  # a sleep of 100 s would be over at once
            time.sleep(0.01)
    found |= results(user, [])
    check(found, 20)
    assert children(user) == processes


def test_users_share_the_places(joined):
    first = joined()
    every = SLOTS * 2
    assert [has_room(first, count, 1) for count in (0, every - 1, every)] == [True, True, False]
    assert [has_room(first, count, 4) for count in (0, 1, 2)] == [True, False, False]
    assert [has_room(first, count, 2 * every) for count in (0, 1)] == [True, False]  # each has one, in turn
    for process in children(first):
        process.tasks = dict.fromkeys(range(SLOTS))
    assert not has_room(first, 0, 1)


def has_room(user, under_way, users):
    tasks = dispatcher.Tasks()
    tasks.under_way = set(range(under_way))
    return user.pool._dispatcher.has_room(tasks, users)


def test_a_job_goes_to_the_process_that_has_the_fewest(tmp_path, joined):
    user = joined()
    one, other = children(user)
    one.tasks[0] = None
    sent = []
    for process in (one, other):
        process.send = lambda number, process=process: sent.append((process, number))
    for number in range(2):
        user.pool._dispatcher.send(number)
    assert sent == [(other, 0), (other, 1)]


def test_a_process_that_was_idle_for_long_has_all_the_time_for_its_next_job(tmp_path, joined):
    user = joined(dataclasses.replace(SETTINGS, processes=1))
    (process,) = children(user)
    refs = files(tmp_path / "photos", 2)
    found = results(user, refs[:1])
    process._heard -= 2 * child._SILENT_SECONDS
    assert process.is_silent(60.0)
    with user.pool._changed:
        user.pool._dispatcher._end_what_hangs()  # without a job, it has nothing to say
    found |= results(user, refs[1:])
    check(found, 2)
    assert children(user) == [process]


def test_five_processes_may_end_one_after_the_other_and_no_sixth(tmp_path, joined, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    started, start = [], dispatcher.Dispatcher._start
    monkeypatch.setattr(dispatcher.Dispatcher, "_start", lambda own: started.append(start(own)) or started[-1])
    with pytest.raises(RuntimeError, match="5 decoder processes ended one after the other"):
        results(joined(dataclasses.replace(SETTINGS, processes=1)), files(tmp_path / "photos", 1))
    assert len(started) == 1 + dispatcher._MOST_DEATHS


def test_a_process_that_dies_over_an_image_is_held_against_no_image_of_another_job(tmp_path, joined, hostile):
    user = joined(dataclasses.replace(SETTINGS, processes=1))
    first, second, crash = files(tmp_path / "photos", 2, "crash")
    check(results(user, [crash, first, second], at_once=1), 2, **{"crash.jpg": ("decode", "KilledTheProcess")})


def test_two_processes_die_over_an_image_and_no_third(tmp_path, joined, hostile, monkeypatch):
    user = joined(dataclasses.replace(SETTINGS, processes=1))
    started, start = [], user.pool._dispatcher._start
    monkeypatch.setattr(user.pool._dispatcher, "_start", lambda: started.append(start()) or started[-1])
    check(results(user, files(tmp_path / "photos", 0, "crash")), 0, **{"crash.jpg": ("decode", "KilledTheProcess")})
    assert len(started) == 2
