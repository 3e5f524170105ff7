"""How a graph of TensorFlow begins: the constants by which it first multiplies its input."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

# Operations that change no value, or all of them by the same constant.
_PASSED = ("Cast", "Identity", "Transpose", "AddV2", "Add", "Sub")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
# The start of a graph, with the functions in it, has a few operations. A strange one may be a circle.
_MOST_OPERATIONS = 40


def factors(function: Any) -> list[float]:
    """Returns the constants by which a concrete function multiplies its only input, one after the other.

    The list ends where anything else is done with the values. Of a constant for each channel, it has the largest.

    Args:
      function: a concrete function of TensorFlow with one input, and perhaps with captured variables.
    """
    graph = function.graph.as_graph_def()
    functions = {definition.signature.name: definition for definition in graph.library.function}
    nodes, name = list(graph.node), function.inputs[0].op.name
    factors: list[float] = []
    for _ in range(_MOST_OPERATIONS):
        consumers = [(node, index) for node in nodes for index, source in enumerate(node.input) if _is(source, name)]
        if len(consumers) != 1:
            return factors
        ((node, index),) = consumers
        if node.op in _CALLS:
            definition = functions.get(node.attr["f"].func.name)
            if definition is None:
                return factors
            nodes, name = list(definition.node_def), definition.signature.input_arg[index].name
            continue
        if node.op not in (*_PASSED, "Mul", "RealDiv"):
            return factors
        constants = [_constant(nodes, source) for at, source in enumerate(node.input) if at != index]
        if any(constant is None for constant in constants):
            return factors
        if node.op == "Mul" or (node.op == "RealDiv" and index == 0):
            sizes = np.abs(np.asarray(constants[0], np.float64))
            factor = sizes.max() if node.op == "Mul" else 1 / sizes.min() if sizes.min() else 0.0
            factors.append(float(factor))
        elif node.op == "RealDiv":
            return factors
        name = node.name
    return factors


def _is(source: str, name: str) -> bool:
    """Returns whether the name of an input is that of an output of a node, as in `name:0` or `name:y:0`."""
    return source.partition(":")[0] == name


def _constant(nodes: Sequence[Any], source: str) -> Any:
    """Returns the value of the constant that an input comes from, perhaps through a cast; else None."""
    by_name: Mapping[str, Any] = {node.name: node for node in nodes}
    node = by_name.get(source.partition(":")[0])
    if node is not None and node.op in ("Cast", "Identity"):
        node = by_name.get(node.input[0].partition(":")[0])
    return tf.make_ndarray(node.attr["value"].tensor) if node is not None and node.op == "Const" else None
