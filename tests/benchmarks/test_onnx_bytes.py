"""benchmarks.onnx_bytes: the same vectors with NumPy's values and with bytes. No test asserts a time."""

import pytest

from benchmarks import machine, onnx_bytes


def test_calls_take_turns_and_the_first_round_does_not_count():
    calls = []
    times = onnx_bytes.in_turn([lambda: calls.append("a"), lambda: calls.append("b")], images=2, rounds=3)
    assert calls == ["a", "b"] * 4
    assert len(times) == 2 and all(each.clock > 0 for each in times)


@pytest.mark.slow
def test_the_table_says_that_the_vectors_are_the_same(capsys):
    assert onnx_bytes.main(["--batch_sizes", "1", "--rounds", "1"]) == 0
    device, copied, _, head, _, *rows = capsys.readouterr().out.splitlines()
    assert machine.description()["cpu"] in device
    assert copied == "- bytes for a GPU to copy, an image: 602,112 as float32, 150,528 as uint8"
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    assert [cell[:2] for cell in cells] == [
        ["means", "0..1"],
        ["means", "ImageNet"],
        ["EfficientNet-Lite0", "0..1"],
        ["EfficientNet-Lite0", "ImageNet"],
    ]
    assert all(len(cell) == head.count("|") - 1 and float(cell[-1]) < 1e-6 for cell in cells)
