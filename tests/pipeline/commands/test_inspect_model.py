"""pipeline.commands.inspect_model: the facts that it shows for each format."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.commands import inspect_model
from tests.helpers import onnx_models

GOLDEN = Path(__file__).parents[2] / "golden" / "tf1_hub"


def test_a_tf1_module_is_described_and_measured(capsys):
    assert inspect_model.main([str(GOLDEN / "feature_vector_1"), "--json", "--batch_size", "4"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["format"], facts["dimension"], facts["image_size"], facts["called"]) == (
        "tf1_hub",
        12,
        "16x16",
        "[] default",
    )
    assert (
        "[train] image_feature_vector(images: float32[?, 16, 16, 3]) → default: float32[?, 12]" in facts["signatures"]
    )
    assert facts["parameters"] > 100 and " batches of 4 at a time" in facts["speed"] and len(facts["digest"]) == 64


@pytest.mark.slow
def test_the_bundled_model_for_people(capsys):
    assert inspect_model.main(["efficientnet_lite0", "--batch_size", "1"]) == 0
    text = capsys.readouterr().out
    assert re.findall(r"^(?:parameters|image size|dimension) +(\S+)$", text, re.M) == ["224x224", "1,280", "4,694,024"]


def test_an_onnx_model_is_described_with_its_files(tmp_path, capsys):
    file = onnx_models.write(tmp_path / "m.onnx", outputs=(("n", 5), ("n", "t", 5)), external="w.bin")
    flags = ["--image_size", "8x9", "--batch_size", "2", "--model_output", "vectors", "--json"]
    assert inspect_model.main([str(file), *flags]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["format"], facts["dimension"], facts["image_size"], facts["called"]) == ("onnx", 5, "8x9", "vectors")
    assert facts["files"] == [f"model.onnx, {file.stat().st_size:,} bytes", "w.bin, 60 bytes"]
    assert facts["input"] == ["images: float32[?, 3, ?, ?]"]
    assert facts["outputs"] == ["vectors: float32[?, 5]", "output1: float32[?, ?, 5]"]
    assert facts["images"] == "float32 NCHW, any number a call"
    assert (facts["parameters"], facts["engine"]) == (15, "OpenVINO")


def test_an_onnx_model_that_openvino_does_not_read(tmp_path, capsys):
    scaled = {"operator": "ai.onnx.ml.Scaler", "offset": [0.0] * 5, "scale": [2.0] * 5}
    file = onnx_models.write(tmp_path / "m.onnx", shape=(4, 8, 9, 3), outputs=((4, 5),), **scaled)
    assert inspect_model.main([str(file), "--batch_size", "2"]) == 0
    text = capsys.readouterr().out
    assert re.findall(r"^(?:images|parameters|engine) +(.+)$", text, re.M) == [
        "float32 NHWC, 4 a call",
        "unknown, OpenVINO does not read the model",
        "ONNX Runtime",
    ]


def test_what_is_wrong_is_one_line(capfd):
    assert inspect_model.main([str(GOLDEN / "feature_vector_1"), "--image_size", "9x9"]) == 2
    assert capfd.readouterr().err == (
        f"inspect-model: model='{GOLDEN / 'feature_vector_1'}' takes images of 16x16 pixels only, not image_size=9x9\n"
    )
    assert inspect_model.main([]) == 2
    assert capfd.readouterr().err == "inspect-model: the following arguments are required: handle\n"


def _truncated_graph(model):
    os.truncate(model / "saved_model.pb", 2000)


def _sparse_graph(model):
    os.truncate(model / "saved_model.pb", 2**40)


def _truncated_variables(model):
    os.truncate(model / "variables" / "variables.index", 30)


def _endless_variables(model):
    data = model / "variables" / "variables.data-00000-of-00001"
    data.unlink()
    data.symlink_to("/dev/zero")


def _waiting_variables(model):
    (model / "variables" / "variables.index").unlink()
    os.mkfifo(model / "variables" / "variables.index")


@pytest.mark.parametrize(
    "spoil", [_truncated_graph, _sparse_graph, _truncated_variables, _endless_variables, _waiting_variables]
)
def test_a_hostile_model_is_one_line(tmp_path, capfd, spoil):
    model = Path(shutil.copytree(GOLDEN / "feature_vector_1", tmp_path / "m"))
    spoil(model)
    assert inspect_model.main([str(model)]) == 2
    error = capfd.readouterr().err
    assert error.startswith("inspect-model: ") and str(model) in error and error.count("\n") == 1
    assert "Traceback" not in error and "most recent call" not in error


def test_help_needs_no_tensorflow():
    code = (
        "import sys; from pipeline.commands import inspect_model, stage_model; "
        "inspect_model._parser().format_help(); stage_model._parser().format_help(); "
        "assert not {'tensorflow', 'apache_beam'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
