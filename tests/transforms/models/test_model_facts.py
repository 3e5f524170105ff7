"""transforms.models.model_facts: which function of a model is called, and the size that its files fix."""

from pathlib import Path

import pytest

from tests.helpers import onnx_models
from transforms.models import model_facts
from transforms.models.model_facts import Function, ModelFacts
from transforms.models.preprocessing import Choices
from transforms.models.resolve import resolve

GOLDEN = Path(__file__).parents[2] / "golden" / "tf1_hub"


def test_the_facts_of_a_tf1_module():
    facts = model_facts.read("m", GOLDEN / "feature_vector_1", Function(signature="default"))
    expected = ModelFacts("tf1_hub", "default", fixed=(16, 16), usual_size=facts.usual_size, own_size=facts.own_size)
    assert facts == expected and facts.fixed_size == (16, 16)
    assert facts.fits(None) and facts.fits((16, 16)) and not facts.fits((16, 17))


def test_which_sizes_fit():
    facts = ModelFacts("onnx", fixed=(8, None))
    assert facts.fits((8, 100)) and not facts.fits((9, 100)) and facts.fixed_size is None


def test_a_bundled_model_has_no_signatures():
    with pytest.raises(ValueError, match="neither signatures nor tags"):
        resolve("efficientnet_lite0", function=Function(signature="default"))


def test_signatures_and_outputs_belong_to_other_formats(tmp_path):
    file = onnx_models.write(tmp_path / "m.onnx")
    with pytest.raises(ValueError, match="neither signatures nor tags"):
        resolve(str(file), Choices((8, 9)), Function(signature="serving_default"))
    for handle in ("efficientnet_lite0", str(GOLDEN / "feature_vector_1")):
        with pytest.raises(ValueError, match="model_output='x' is for ONNX, OpenVINO IR and TFLite models only"):
            resolve(handle, function=Function(output="x"))


def test_an_onnx_model_of_a_fixed_size(tmp_path):
    file = onnx_models.write(tmp_path / "m.onnx", shape=(1, 3, 8, 9), outputs=((1, 5),))
    assert resolve(str(file)).image_size == (8, 9)
    with pytest.raises(ValueError, match=r"m\.onnx' takes images of 8x9 pixels only, not image_size=9x9"):
        resolve(str(file), Choices((9, 9)))
    file = onnx_models.write(tmp_path / "m.onnx", shape=(1, 3, 8, "w"), outputs=((1, 5),))
    with pytest.raises(ValueError, match=r"takes images of 8x\? pixels only, not image_size=9x9"):
        resolve(str(file), Choices((9, 9)))
    assert resolve(str(file), Choices((8, 7))).image_size == (8, 7)
