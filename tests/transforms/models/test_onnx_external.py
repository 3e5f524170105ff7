"""transforms.models.onnx_external: the names of the files that an ONNX model refers to, wherever its tensors are."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.helpers import onnx_models
from transforms.models import onnx_external


def external(location):
    tensor = numpy_helper.from_array(np.ones(3, np.float32), "t")
    onnx.external_data_helper.set_external_data(tensor, location=location, offset=0, length=12)
    tensor.ClearField("raw_data")
    return tensor


def sparse(values, indices):
    return onnx.SparseTensorProto(values=external(values), indices=external(indices), dims=[3])


def constant(**attribute):
    node = helper.make_node("Constant", [], ["c"])
    node.attribute.append(onnx.AttributeProto(name="value", **attribute))
    return node


def graph(nodes=(), initializer=(), **fields):
    return onnx.GraphProto(node=nodes, initializer=initializer, name="g", **fields)


def test_a_tensor_is_looked_for_in_every_place_of_a_model(tmp_path):
    nested = graph([constant(t=external("subgraph"))])
    model = onnx.ModelProto(
        graph=graph(
            [
                constant(t=external("attribute")),
                constant(tensors=[external("list"), external("list2")]),
                constant(sparse_tensor=sparse("sparse attribute", "sparse attribute 2")),
                constant(sparse_tensors=[sparse("sparse list", "sparse list 2")]),
                constant(g=nested),
                constant(graphs=[graph(initializer=[external("graphs")])]),
            ],
            [external("initializer"), external("initializer")],
            sparse_initializer=[sparse("values", "indices")],
        ),
        functions=[
            onnx.FunctionProto(
                node=[constant(t=external("function"))],
                attribute_proto=[onnx.AttributeProto(name="a", t=external("default"))],
            )
        ],
        training_info=[
            onnx.TrainingInfoProto(
                initialization=graph(initializer=[external("initialization")]),
                algorithm=graph(initializer=[external("algorithm")]),
            )
        ],
    )
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert sorted(onnx_external.locations(tmp_path / "m.onnx")) == sorted(
        [
            *("attribute", "list", "list2", "sparse attribute", "sparse attribute 2", "sparse list", "sparse list 2"),
            *("subgraph", "graphs", "initializer", "values", "indices", "function", "default"),
            *("initialization", "algorithm"),
        ]
    )


def test_the_fields_are_those_of_onnx():
    """Each field of ONNX whose message may hold a tensor is entered."""
    descriptors = {
        "Model": onnx.ModelProto,
        "Training": onnx.TrainingInfoProto,
        "Function": onnx.FunctionProto,
        "Graph": onnx.GraphProto,
        "Node": onnx.NodeProto,
        "Attribute": onnx.AttributeProto,
        "SparseTensor": onnx.SparseTensorProto,
        "Tensor": onnx.TensorProto,
    }
    names = {message.DESCRIPTOR.full_name: name for name, message in descriptors.items()}
    for name, message in descriptors.items():
        fields = {
            field.number: names[field.message_type.full_name]
            for field in message.DESCRIPTOR.fields
            if field.message_type and field.message_type.full_name in names
        }
        if name == "Tensor":
            fields = {message.DESCRIPTOR.fields_by_name["external_data"].number: "Entry"}
        assert onnx_external._MESSAGES[name] == fields


def test_a_model_without_external_data(tmp_path):
    assert onnx_external.locations(onnx_models.write(tmp_path / "m.onnx")) == []


def test_each_location_once_in_order(tmp_path):
    model = helper.make_model(graph(initializer=[external("b"), external("a"), external("b")]))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert onnx_external.locations(tmp_path / "m.onnx") == ["b", "a"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\x3a\x05ab", "ends behind its message"),
        (b"\x08", "index out of range"),
        (b"\x0b", "the wire type 3"),
        (b"\x00\x01", "the number 0"),
        (b"\x08" + b"\xff" * 10 + b"\x01", "more than 10 bytes"),
        (b"\xff\xff\xff\xff\xff\x01\x00", "a field has the number"),
        (b"\x3a\x04\x2a\x05ab\x08\x01\x08\x01", "ends behind its message"),
    ],
    ids=["empty", "cut", "no value", "a group", "no number", "a long number", "a large number", "nested"],
)
def test_what_is_no_model(tmp_path, content, reason):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        onnx_external.locations(tmp_path / "m.onnx")


def test_a_location_that_is_no_text(tmp_path):
    tensor = TensorProto(external_data=[onnx.StringStringEntryProto(key="location", value="ab")])
    model = (
        helper.make_model(graph(initializer=[tensor])).SerializeToString().replace(b"\x12\x02ab", b"\x12\x02\xff\xff")
    )
    (tmp_path / "m.onnx").write_bytes(model)
    with pytest.raises(ValueError, match="is not an ONNX model"):
        onnx_external.locations(tmp_path / "m.onnx")


def test_fields_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_external, "_MAX_FIELDS", 1000)
    (tmp_path / "m.onnx").write_bytes(b"\x08\x01" * 1001)
    with pytest.raises(ValueError, match="more than 1000 fields"):
        onnx_external.locations(tmp_path / "m.onnx")


def test_as_many_fields_as_are_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_external, "_MAX_FIELDS", 1000)
    (tmp_path / "m.onnx").write_bytes(b"\x08\x01" * 1000)
    assert onnx_external.locations(tmp_path / "m.onnx") == []


def test_locations_are_in_the_order_of_the_file(tmp_path):
    nodes = [constant(t=external(name)) for name in ("b", "c", "a")]
    model = helper.make_model(graph(nodes, [external("z"), external("y")]))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert onnx_external.locations(tmp_path / "m.onnx") == ["b", "c", "a", "z", "y"]
