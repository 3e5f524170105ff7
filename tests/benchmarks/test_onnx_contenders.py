"""The network of the package as ONNX, over a few photographs. No test asserts a rate."""

import json

import pytest

from benchmarks import onnx_contenders, suite, table

IMAGES = 64


@pytest.mark.slow
def test_all_contenders_work_and_agree(tmp_path):
    results = tmp_path / "results.json"
    flags = ["--images", str(IMAGES), "--runs", "1", "--only", "onnx"]
    assert suite.main([*flags, "--cache", str(tmp_path / "cache"), "--json", str(results)]) == 0
    measured = json.loads(results.read_text())
    rows = measured["onnx"]["contenders"]
    assert [row["name"] for row in rows] == [each.name for each in onnx_contenders.contenders()]
    for row in rows:
        (run,) = row["runs"]
        assert run["error"] is None and run["steady_state"] > 0 and run["cosine"][0] > 0.99
    assert "efficientnet_lite0_onnx, 64 photographs" in table.text(measured)
