"""benchmarks.search: this project and numpy find the same neighbours."""

import pytest

from benchmarks import search

pytestmark = pytest.mark.slow


def test_contenders_agree(tmp_path):
    search._write(tmp_path, 300, 8)
    results = [search._in_process(name, tmp_path, 8) for name in ("a run", "an index", "numpy")]
    assert results[0]["keys"] == results[1]["keys"] == results[2]["keys"]
    assert all(result["query"] > 0 for result in results)
