"""transforms.models.networks.efficientnet_lite_stages: the table of the paper, which the bundled weights fit."""

import pytest

from transforms.models import catalog
from transforms.models.networks.efficientnet_lite_stages import blocks


@pytest.fixture(scope="module")
def shapes():
    return {name: array.shape for name, array in catalog.weights("efficientnet_lite0").items()}


def test_blocks_are_those_of_the_paper():
    assert [block.name for block in blocks()] == [f"block_{number:02d}" for number in range(16)]
    # Tan and Le 2019, table 1: 1, 2, 2, 3, 3, 4 and 1 layers; 112 → 112 → 56 → 28 → 14 → 14 → 7 → 7 pixels.
    assert "".join(str(block.stride) for block in blocks()) == "1" + "21" + "21" + "211" + "111" + "2111" + "1"
    assert [block.name for block in blocks() if not block.expands] == ["block_00"]


def test_a_residual_joins_maps_of_one_shape(shapes):
    channels = shapes["stem/kernel"][-1]
    for block in blocks():
        projected = shapes[f"{block.name}/project/kernel"][-1]
        assert block.has_residual == (block.stride == 1 and projected == channels), block.name
        channels = projected
    assert channels == shapes["head/kernel"][2]


def test_every_bundled_weight_has_its_place(shapes):
    layers = {"stem", "head", "classifier"}
    for block in blocks():
        layers |= {f"{block.name}/depthwise", f"{block.name}/project"}
        if block.expands:
            layers.add(f"{block.name}/expand")
    assert {name.rpartition("/")[0] for name in shapes} == layers
