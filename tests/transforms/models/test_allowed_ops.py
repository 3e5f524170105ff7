"""transforms.models.allowed_ops: names of TensorFlow's operations, and none that reaches out of the graph."""

import re

import tensorflow as tf  # noqa: F401 - registers the operations
from tensorflow.python.framework import op_def_registry

from transforms.models.allowed_ops import ALLOWED_OPS

_REACHES_OUT = re.compile(
    r"File|Dataset|Iterator|Save|Restore|Print|PyFunc|Queue|Reader|Session|Send|Recv|Remote|Summary|Abort|Debug|Rpc"
)


def test_each_is_an_operation_of_tensorflow():
    assert [op for op in ALLOWED_OPS if op_def_registry.get(op) is None] == []


def test_none_reaches_out_of_the_graph():
    assert [op for op in ALLOWED_OPS if _REACHES_OUT.search(op)] == []
    assert not ALLOWED_OPS & {"ImmutableConst", "LoadAndRemapMatrix", "GenerateVocabRemapping", "RecordInput"}
