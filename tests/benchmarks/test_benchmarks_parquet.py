"""benchmarks.parquet: each format is written and read."""

import numpy as np
import pytest

from benchmarks import parquet

pytestmark = pytest.mark.slow


def test_each_format_is_measured(tmp_path, capsys):
    vectors = np.random.default_rng(0).standard_normal((50, 16), np.float32)
    parquet._measure(tmp_path, vectors, 200)
    rows = capsys.readouterr().out.splitlines()
    ways = ["  vectors not compressed", "  vectors split by bytes"]
    assert [row[:32].rstrip() for row in rows] == ["TFRecord", "Parquet", *ways, "Parquet, float16", *ways]
