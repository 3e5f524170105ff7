"""pipeline.commands.verify.equal_bytes: equal bytes have equal vectors, in all runs together."""

import pytest

from pipeline.commands.verify import equal_bytes
from pipeline.commands.verify.verify import verify
from tests.helpers import outputs
from tests.helpers.outputs import embedding


def test_equal_bytes_with_other_vectors(tmp_path):
    first, second, other = embedding(b"/a", 1), embedding(b"/b", 1), embedding(b"/c", 2)
    second.vector[:] = first.vector * (1 + 1e-6)  # another batch
    outputs.write_run(tmp_path / "near", [first, second, other], run_id="1")
    assert verify(str(tmp_path / "near")).total == 0
    second.vector[:] = other.vector
    outputs.write_run(tmp_path / "far", [first, other], run_id="1")
    outputs.write_run(tmp_path / "far", [second], run_id="2")
    problems = verify(str(tmp_path / "far")).problems
    assert {kind: items.count for kind, items in problems.items()} == {"equal bytes have different vectors": 1}


@pytest.mark.parametrize("contents_per_round", [1, 2, 16])
def test_each_conflict_of_equal_bytes_is_found(tmp_path, monkeypatch, contents_per_round):
    monkeypatch.setattr(equal_bytes, "_CONTENTS_PER_ROUND", contents_per_round)
    first = [embedding(b"/%d" % seed, seed) for seed in range(5)]
    second = [embedding(b"/copy of %d" % seed, seed) for seed in range(5)]
    for each in second[:3]:
        each.vector[:] = -each.vector
    outputs.write_run(tmp_path, first, run_id="1")
    outputs.write_run(tmp_path, second, run_id="2")
    findings = verify(str(tmp_path))
    assert sorted(findings.problems["equal bytes have different vectors"].first) == [
        f"/{seed} and /copy of {seed}: cosine -1.000000" for seed in range(3)
    ]
    assert findings.total == 3
