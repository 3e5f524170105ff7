"""How a graph of TensorFlow begins: the constants by which it first multiplies its input."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

# Operations that change no value, or add one constant to all.
_PASSED = ("Cast", "Identity", "Transpose", "AddV2", "Add", "Sub")
_OF_CONSTANTS: Mapping[str, Callable[..., Any]] = {
    "Cast": lambda value: value,
    "Identity": lambda value: value,
    "Sqrt": np.sqrt,
    "Maximum": np.maximum,
}
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
# The start of a graph has a few operations, those of its functions included. A malicious graph may have a cycle.
_MOST_OPERATIONS = 40


def factors(function: Any) -> list[float]:
    """Returns the constants by which a concrete function multiplies its only input, one after the other.

    The list ends where anything else is done with the values. If a constant differs by channel, the largest counts.

    Args:
      function: a concrete function of TensorFlow with one input, and perhaps with captured variables.
    """
    graph = function.graph.as_graph_def()
    functions = {definition.signature.name: definition for definition in graph.library.function}
    scope, name = _Scope(graph.node, {}), function.inputs[0].op.name
    factors: list[float] = []
    for _ in range(_MOST_OPERATIONS):
        consumers = [
            (node, index) for node in scope.nodes for index, source in enumerate(node.input) if _name(source) == name
        ]
        if len(consumers) != 1:
            return factors
        ((node, index),) = consumers
        if node.op in _CALLS:
            definition = functions.get(node.attr["f"].func.name)
            if definition is None:
                return factors
            arguments = [argument.name for argument in definition.signature.input_arg]
            values = map(scope.constant, node.input)
            scope, name = _Scope(definition.node_def, dict(zip(arguments, values, strict=False))), arguments[index]
            continue
        if node.op not in (*_PASSED, "Mul", "RealDiv"):
            return factors
        constants = [scope.constant(source) for at, source in enumerate(node.input) if at != index]
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


class _Scope:
    """The operations of a graph or of a function, and the constants among its arguments."""

    def __init__(self, nodes: Iterable[Any], arguments: Mapping[str, Any]):
        self.nodes = list(nodes)
        self._by_name = {node.name: node for node in self.nodes}
        self._arguments = arguments

    def constant(self, source: str) -> Any:
        """Returns the value of an input if it is computed only from constants, as in Keras's Normalization.

        Returns:
          None for anything else, and if the computation is long.
        """
        return self._constant(source, _MOST_OPERATIONS)

    def _constant(self, source: str, depth: int) -> Any:
        node = self._by_name.get(_name(source))
        if node is None:
            return self._arguments.get(_name(source))
        if node.op == "Const":
            return tf.make_ndarray(node.attr["value"].tensor)
        if node.op not in _OF_CONSTANTS or not depth:
            return None
        inputs = [self._constant(each, depth - 1) for each in node.input if not each.startswith("^")]
        return None if any(each is None for each in inputs) else _OF_CONSTANTS[node.op](*inputs)


def _name(source: str) -> str:
    """Returns the name of the node that an input comes from: `name` of `name`, `name:0` and `name:y:0`."""
    return source.partition(":")[0]
