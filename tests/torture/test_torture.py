"""tests.torture: a short part of each torture but that of disks, which needs root."""

import pytest

from tests.torture import history, kills, soak, sweep, sweep_s3

pytestmark = pytest.mark.slow


def test_no_kill_loses_a_record(tmp_path):
    assert kills.run(tmp_path, images=300, kills=3, seed=1).tried == 3


def test_a_random_history_ends_in_the_expected_table(cloud):
    assert history.run(cloud, rounds=2, seed=1).tried == 4


def test_a_random_history_on_s3_is_whole_at_the_end(tmp_path):
    assert history.run_on_s3(tmp_path, rounds=2, seed=1).tried == 4


def test_nothing_that_was_not_seen_is_pruned(cloud, tmp_path):
    assert history.seeing(cloud, tmp_path, rounds=2, seed=1).tried == 5


def test_each_kind_of_fault_is_tried_at_several_requests(cloud):
    with sweep.prepared(cloud) as prepared:
        tried = {outcome.fault: outcome.tried for outcome in prepared.run(every=60)}
    assert tried.keys() == set(sweep.KINDS.values()) and min(tried.values()) >= 2


def test_each_kind_of_fault_is_tried_at_several_requests_to_s3(tmp_path):
    with sweep_s3.prepared(tmp_path) as prepared:
        tried = {outcome.fault: outcome.tried for outcome in prepared.run(every=60)}
    assert tried.keys() == set(sweep.KINDS.values()) and min(tried.values()) >= 2


def test_a_long_run_accounts_for_every_image(tmp_path):
    assert soak.run(tmp_path, images=20_000).tried == 20_000
