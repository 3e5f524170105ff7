"""The statistics of a run in their file."""

import numpy as np
import pytest

from pipeline.report import statistics_file
from pipeline.report.page import drift
from pipeline.report.page.sampled_images import MAX_SAMPLE, Sample
from transforms.storage import contested, files

EYE = Sample((b"a", b"b", b"c"), np.eye(3, 4, dtype=np.float32), (b"",) * 3)


@pytest.fixture
def path(tmp_path):
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs" / "r.statistics"


def test_a_run_without_statistics_has_none(path, tmp_path):
    assert statistics_file.read(str(tmp_path), "r") is None
    path.with_suffix(".html").write_text("<html></html>")  # of an earlier version
    assert statistics_file.read(str(tmp_path), "r") is None


def test_what_is_written_is_read(path, tmp_path):
    own = drift.statistics(EYE, "d" * 64)
    statistics_file.write(str(tmp_path), "r", own.to_json().encode())
    stored = statistics_file.read(str(tmp_path), "r")
    assert stored.keys == own.keys and stored.spread == own.spread and (stored.mean == own.mean).all()


@pytest.mark.parametrize("content", [b'{"mean": 1}', b"", b"\xff\xfe<html>", b"[" * 5000, b"{}\0"])
def test_another_file_is_an_error(path, tmp_path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match="expected the statistics of a sample"):
        statistics_file.read(str(tmp_path), "r")


def test_a_file_that_is_too_large_is_an_error(path, tmp_path):
    path.write_bytes(drift.statistics(EYE, "d" * 64).to_json().encode() + b" " * statistics_file.MAX_BYTES)
    with pytest.raises(ValueError, match="expected the statistics of a sample: at most"):
        statistics_file.read(str(tmp_path), "r")


def test_the_largest_statistics_have_half_of_the_room():
    vectors = np.zeros((MAX_SAMPLE, drift._MAX_DIMENSION), np.float32)
    sample = Sample(tuple(b"%d" % number for number in range(MAX_SAMPLE)), vectors, (b"",) * MAX_SAMPLE, 1 / 3)
    assert len(drift.statistics(sample, "d" * 64).to_json()) < statistics_file.MAX_BYTES / 2


def test_a_run_without_images_removes_the_statistics_of_an_earlier_attempt(path, tmp_path, monkeypatch):
    path.write_text("of an earlier attempt")

    def lost():
        raise contested.Lost("taken over")

    with pytest.raises(contested.Lost):
        statistics_file.write(str(tmp_path), "r", b"", lost)
    assert path.exists()
    statistics_file.write(str(tmp_path), "r", b"", lambda: path.write_text("of a later attempt"))
    assert path.read_text() == "of a later attempt"
    statistics_file.write(str(tmp_path), "r", b"")
    statistics_file.write(str(tmp_path), "r", b"")
    assert not path.exists() and files.match(f"{tmp_path}/runs/*") == []
