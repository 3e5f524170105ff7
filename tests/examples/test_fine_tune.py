"""A model that is trained, and then classifies."""

import json
import re

import pytest

from examples import fine_tune
from tests.helpers.example_docs import first_command
from tests.helpers.running import ROOT


@pytest.mark.slow
def test_the_trained_model_classifies_most_images_as_their_folder(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    assert fine_tune.main([*first_command(fine_tune, output=tmp_path), "--epochs", "4"]) == 0
    printed = capfd.readouterr().out
    assert "180 images listed = 180 embedded" in printed
    report = json.loads((tmp_path / "model" / "report.json").read_text())
    assert f"accuracy    {report['validation_accuracy']:.3f} on the images for validation" in printed
    counts = re.findall(r"^(\d+) images of (\w+) are (\w+)$", printed, re.MULTILINE)
    assert sum(int(count) for count, *_ in counts) == 180
    right = sum(int(count) for count, folder, label in counts if folder == label)
    assert right >= 120, "expected twice as many as by chance"
