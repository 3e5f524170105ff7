"""transforms.models.image_interface: from the inputs and outputs of a network to how it takes images."""

import pytest

from transforms.models.image_interface import InterfaceError, derive, dimension
from transforms.models.tensors import Signature, TensorInfo

VECTORS = {"vectors": TensorInfo("float32", (None, 5))}


def signature(shape, dtype="float32", outputs=VECTORS):
    return Signature({"images": TensorInfo(dtype, shape)}, outputs)


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize(
    ("shape", "channels_first", "batch_size", "size"),
    [
        ((None, 3, None, None), True, None, (None, None)),
        ((None, None, None, 3), False, None, (None, None)),
        ((1, 3, 8, 9), True, 1, (8, 9)),
        ((4, 8, 9, 3), False, 4, (8, 9)),
        ((None, 3, 8, None), True, None, (8, None)),
        ((None, 3, 3, 3), True, None, (3, 3)),  # undecided by the shape
        ((None, None, None, None), True, None, (None, None)),
    ],
    ids=str,
)
def test_layouts_and_sizes(dtype, shape, channels_first, batch_size, size):
    interface = derive(signature(shape, dtype), None, channels_first=True)
    assert interface.dtype == dtype and interface.output == "vectors"
    assert (interface.channels_first, interface.batch_size) == (channels_first, batch_size)
    assert (interface.height, interface.width) == size


def test_the_layout_of_the_format_decides_where_the_shape_does_not():
    interface = derive(signature((None, 3, None, 3)), None, channels_first=False)
    assert interface.shape((8, 9), 2) == (2, 8, 9, 3)
    assert derive(signature((None, 3, None, 3)), None, channels_first=True).shape((8, 9), 2) == (2, 3, 8, 9)


@pytest.mark.parametrize(
    "of",
    [
        signature((None, 3, None)),
        signature(None),
        signature((None, 3, 8, 8), "int64"),
        signature((None, 1, 8, 8)),
        signature((None, 8, 8, 1)),
        Signature({"a": TensorInfo("float32", (None, 3, 8, 8)), "b": TensorInfo("float32", ())}, VECTORS),
        Signature({}, VECTORS),
    ],
    ids=["rank 3", "any rank", "int64", "grey", "grey last", "two inputs", "no input"],
)
def test_what_takes_no_images(of):
    with pytest.raises(InterfaceError, match="expected one input, float32 or float16 or uint8, of shape"):
        derive(of, None, channels_first=True)


def test_one_of_several_outputs():
    outputs = {"tokens": TensorInfo("float32", (None, 50, 5)), "pooled": TensorInfo("float32", (None, 5))}
    of = signature((None, 3, 8, 8), outputs=outputs)
    listed = r"pooled: float32\[\?, 5\], tokens: float32\[\?, 50, 5\]"
    with pytest.raises(InterfaceError, match=f"it has 2 outputs: give model_output, the name of one of {listed}"):
        derive(of, None, channels_first=True)
    with pytest.raises(InterfaceError, match=f"model_output='pool': expected one of {listed}"):
        derive(of, "pool", channels_first=True)
    assert derive(of, "pooled", channels_first=True).output == "pooled"


def test_an_output_of_integers():
    of = signature((None, 3, 8, 8), outputs={"class": TensorInfo("int64", (None,))})
    with pytest.raises(InterfaceError, match=r"the output is class: int64\[\?\]: expected a vector of floats"):
        derive(of, None, channels_first=True)


@pytest.mark.parametrize(
    ("shape", "components"),
    [((2, 5), 5), ((2, 5, 1, 1), 5), ((2, 1, 5), 5), ((2, 1, 1, 5), 5), ((2, 1), 1), ((2, 1, 1, 1), 1)],
    ids=str,
)
def test_axes_of_one_do_not_count(shape, components):
    assert dimension(shape, 2, "v") == components


@pytest.mark.parametrize("shape", [(2, 50, 5), (2,), (), (1, 5), (10,), (2, 7, 7, 5), (2, 0)], ids=str)
def test_what_is_not_one_vector_for_each_image(shape):
    with pytest.raises(InterfaceError, match=r"for 2 images: expected one vector for each, \[2, dimension\]"):
        dimension(shape, 2, "v")
