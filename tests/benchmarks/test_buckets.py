"""This project from servers of buckets, a few images. No test asserts a rate that a machine has to reach."""

import json

import pytest

from benchmarks import buckets, gets
from benchmarks.rounds import Run
from tests.helpers import object_servers

IMAGES = 96  # three batches


@pytest.mark.slow
def test_vectors_from_each_source_agree_and_the_servers_work_is_counted(tmp_path, capsys):
    flags = ["--only", "small", "--images", str(IMAGES), "--runs", "1", "--cores", "1", "--cold"]
    named = ["--contenders", "ours-threads", "plain", "--json", str(tmp_path / "runs.json")]
    assert buckets.main([*flags, *named, "--cache", str(tmp_path / "cache")]) == 0
    runs = json.loads((tmp_path / "runs-small.json").read_text())
    sources = ["files", "gs http", "gs https"]
    if object_servers.versitygw_program():
        sources += ["s3 http", "s3 https"]
    expected = {f"ours-threads, {source}, 1" for source in sources} | {"plain, gs http, 1", "plain, gs https, 1"}
    assert runs.keys() == expected
    for row, (run,) in runs.items():
        assert run["cosine"][0] > 0.999 and run["core_ms"] > 0
        assert (run["server_ms"] is None) == ("files" in row)
    assert "gs https, one core: " in capsys.readouterr().out


def test_promises_count_servers_apart_only_where_they_share_the_cores(monkeypatch):
    monkeypatch.setattr(buckets, "usable_cores", lambda: 2)
    runs = {
        ("ours-threads", "files", 1): [Run(1, steady_state=1000, core_ms=1)],
        ("ours-threads", "gs http", 1): [Run(1, steady_state=600, core_ms=2, server_ms=2)],
        ("ours-processes", "gs http", 1): [Run(1, steady_state=500, core_ms=2, server_ms=2)],
        ("ours-processes", "gs http", 2): [Run(1, steady_state=500, core_ms=2, server_ms=2)],
    }
    assert list(buckets._promises(runs)) == [
        "gs http, one core: 0.60 of local files, 0.50 by processor time",
        "gs http, decoder processes on two cores: 2.00 times one core",
    ]


@pytest.mark.slow
def test_each_client_gets_objects(tmp_path, monkeypatch):
    monkeypatch.setattr(gets, "_SIZES", {1300: 100})
    monkeypatch.setattr(gets, "_ROUNDS", 1)
    measured = gets.measure(tmp_path, tmp_path)
    assert all(milliseconds > 0 for (milliseconds,) in measured.values())
    lines = [line.split() for line in gets.table(measured)]
    assert [len(line) for line in lines if line and line[0] in gets._CLIENTS] == [3, 3, 3]
