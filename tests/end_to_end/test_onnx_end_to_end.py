"""ONNX models through the whole command: known topologies, from the sample images to records, against ONNX Runtime."""

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.commands.verify import verify
from pipeline.flags import options
from tests.helpers import onnx_models
from tests.helpers.running import run_pipeline, run_refused
from transforms.images import decoding
from transforms.models.engines import onnx_runtime

pytest.importorskip("openvino")

SAMPLES = sorted(Path(options.SAMPLES).parent.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", onnx_models.LIGHT)
def test_a_known_topology(tmp_path, name):
    file = onnx_models.write_light(name, tmp_path / "m.onnx")
    run = run_pipeline(tmp_path / "out", "--model", file)
    assert run.code == 0, run.stderr
    model = run.report["model"]
    assert (model["format"], model["dimension"], model["image_size"]) == ("onnx", 1000, [224, 224])
    vectors = run.vectors()
    assert sorted(vectors) == [os.fsencode(path) for path in SAMPLES]
    session = onnx_runtime.open_session(file)
    (images,) = session.get_inputs()
    for path in SAMPLES:
        pixels = decoding.decode(path.read_bytes(), (224, 224)).pixels
        (expected,) = session.run(None, {images.name: (pixels / np.float32(255)).transpose(2, 0, 1)[None]})
        error = np.linalg.norm(vectors[os.fsencode(path)] - expected.ravel())
        assert error <= 1e-3 * np.linalg.norm(expected)


@pytest.mark.slow
def test_an_output_by_name(tmp_path):
    outputs = (("n", "t", onnx_models.DIMENSION), ("n", onnx_models.DIMENSION))
    onnx_models.write(tmp_path / "m.onnx", outputs=outputs, external="m.data")
    flags = ["--model", tmp_path, "--image_size", "8x9"]
    refused = run_refused(tmp_path / "out", *flags)
    assert "it has 2 outputs: give model_output, the name of one of output1: float32[?, 5], vectors: " in refused.stderr
    run = run_pipeline(tmp_path / "out", *flags, "--model_output", "output1")
    assert run.code == 0, run.stderr
    assert run.report["model"]["output"] == "output1"
    pixels = np.stack([decoding.decode(path.read_bytes(), (8, 9)).pixels for path in SAMPLES])
    vectors = run.vectors()
    found = np.stack([vectors[os.fsencode(path)] for path in SAMPLES])
    np.testing.assert_allclose(found, onnx_models.vectors(pixels), atol=1e-6)
    assert verify.main(["--output", str(tmp_path / "out"), "--sample", "3"]) == 0
