"""The statistics in a stored page."""

import numpy as np
import pytest

from pipeline.report import page_file
from pipeline.report.page import drift
from pipeline.report.page.facts import Sample


def _write(tmp_path, content):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "r.html").write_text(content)


def test_a_run_without_a_page_has_none(tmp_path):
    assert page_file.statistics(str(tmp_path), "r") is None


def test_a_page_without_images_has_none(tmp_path):
    _write(tmp_path, "<html></html>")
    assert page_file.statistics(str(tmp_path), "r") is None


def test_the_statistics_of_a_page(tmp_path):
    vectors = np.eye(3, 4, dtype=np.float32)
    own = drift.statistics(
        Sample((b"a", b"b", b"c"), vectors, (b"",) * 3), "d" * 64, np.array([[1, 2], [0, 2], [0, 1]])
    )
    _write(tmp_path, f'<script type="application/json" id="statistics">{own.to_json()}</script>')
    stored = page_file.statistics(str(tmp_path), "r")
    assert stored.keys == own.keys and stored.spread == own.spread and (stored.mean == own.mean).all()


def test_a_broken_page_is_an_error(tmp_path):
    _write(tmp_path, '<script type="application/json" id="statistics">{"mean": 1}</script>')
    with pytest.raises(ValueError, match="expected the statistics of a sample"):
        page_file.statistics(str(tmp_path), "r")


def test_bytes_that_are_no_text_and_what_is_behind_the_largest_page_are_passed_over(tmp_path, monkeypatch):
    vectors = np.eye(3, 4, dtype=np.float32)
    neighbours = np.array([[1, 2], [0, 2], [0, 1]])
    own = drift.statistics(Sample((b"a", b"b", b"c"), vectors, (b"",) * 3), "d" * 64, neighbours)
    script = f'<script type="application/json" id="statistics">{own.to_json()}</script>'.encode()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "r.html").write_bytes(b"\xff\xfe" + script)
    assert page_file.statistics(str(tmp_path), "r").keys == own.keys
    (tmp_path / "runs" / "r.html").write_bytes(b" " * 1000 + script)
    monkeypatch.setattr(page_file.document, "MAX_BYTES", 1000)
    assert page_file.statistics(str(tmp_path), "r") is None
