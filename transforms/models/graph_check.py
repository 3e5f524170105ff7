"""Refuses a SavedModel whose graph may do more than compute.

Each operation that loading or calling the model may run has to be in `allowed_ops`. Every SavedModel also holds its
saver, which writes files. So this module follows the graph from everything that TensorFlow may run, which does not
include the saver:

- TensorFlow runs the functions of a TF2 SavedModel's object graph, and functions that those call. It never imports the
  graph around them, which holds the saver.
- TensorFlow imports the graph of a TF1 module, and runs the nodes that signatures, collections and the saver's restore
  step name, and the nodes before them. The saver's save step is after them.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from tensorflow.python.framework import op_def_registry

from transforms.models.allowed_ops import ALLOWED_OPS

# A function with this attribute may run in place of another one that has the same value.
_INTERCHANGEABLE = "api_implements"

_RESTORE_OPS = frozenset({"RestoreV2", "Restore", "RestoreSlice"})
# The collection that repeats the saver: names in it are not run.
_SAVERS = "savers"


def _named(operation: str) -> str:
    """Returns an operation's name. In a broken file it may be anything."""
    return operation if operation.isprintable() else repr(operation)


def check(meta_graphs: Collection[Any]) -> None:
    """Checks the graphs of a SavedModel, MetaGraphDefs.

    Raises:
      ValueError: if an operation that may run is not in ALLOWED_OPS. The message names all of them.
    """
    refused: set[str] = set()
    for graph in meta_graphs:
        library = {function.signature.name: function for function in graph.graph_def.library.function}
        # The condition of TensorFlow's loader. In any other case it loads as for TF1.
        if len(meta_graphs) == 1 and graph.HasField("object_graph_def"):
            refused |= _refused_in_functions(_functions_of_objects(graph), library)
        else:
            refused |= _refused_in_nodes(graph, library)
        refused |= _refused_in_functions(_functions_run_otherwise(graph), library)
    if refused:
        operations = ", ".join(map(_named, sorted(refused)))
        raise ValueError(
            f"the model's graph is refused for its operations {operations}: a graph may compute, but "
            "not access files or other machines, print, or run Python or operations of other libraries; export the "
            "model without them, with nothing but its function from images to vectors"
        )


def _functions_of_objects(graph: Any) -> Iterator[str]:
    """Yields the names of the functions in a TF2 SavedModel's object graph: all that the loaded object can call.

    Loading itself calls some: those that make and initialize tables, and those that restore objects.
    """
    yield from graph.object_graph_def.concrete_functions
    for node in graph.object_graph_def.nodes:
        yield from node.function.concrete_functions
        yield node.bare_concrete_function.concrete_function_name


def _functions_run_otherwise(graph: Any) -> Iterator[str]:
    """Yields the names of functions that can run without a call: gradients, and those that TensorFlow may swap in."""
    library = graph.graph_def.library
    yield from (gradient.gradient_func for gradient in library.registered_gradients)
    yield from (gradient.gradient_func for gradient in library.gradient)
    yield from (function.signature.name for function in library.function if _INTERCHANGEABLE in function.attr)


def _refused_in_functions(names: Iterable[str], library: Mapping[str, Any]) -> set[str]:
    """Returns the operations that are not allowed in functions, and in all functions that those call."""
    refused, seen, waiting = set(), set(), [name for name in names if name]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in library:
            continue
        seen.add(name)
        for node in library[name].node_def:
            if not _is_allowed(node, library):
                refused.add(node.op)
            waiting.extend(_called(node))
    return refused


def _is_allowed(node: Any, library: Mapping[str, Any]) -> bool:
    """Returns whether a node has an allowed operation or is the call of a function, which is checked by itself."""
    return node.op in ALLOWED_OPS or (node.op in library and op_def_registry.get(node.op) is None)


def _called(node: Any) -> Iterator[str]:
    """Yields the names of functions that a node may call."""
    yield node.op  # a function may be called by its name
    for value in node.attr.values():
        yield value.func.name
        yield from (function.name for function in value.list.func)


def _refused_in_nodes(graph: Any, library: Mapping[str, Any]) -> set[str]:
    """Returns the operations that are not allowed in the nodes of a TF1 graph that may run.

    It searches backwards: from the nodes with such operations to all nodes after them. None of these may be named.
    """
    nodes = {node.name: node for node in graph.graph_def.node}
    filename = _node_name(graph.saver_def.filename_tensor_name)
    after: dict[str, list[str]] = {}
    for node in nodes.values():
        for tensor in node.input:
            after.setdefault(_node_name(tensor), []).append(node.name)
    named = _names(graph)
    refused: set[str] = set()
    for node in nodes.values():
        if node.op in _RESTORE_OPS and node.input and _node_name(node.input[0]) == filename:
            continue  # it reads the model's own variables: the loader gives it the name of their file
        ops = _refused_in_functions(_called(node), library)
        if not _is_allowed(node, library):
            ops.add(node.op)
        if ops and any(name.encode() in named for name in _closure(node.name, after)):
            refused |= ops
    return refused


def _closure(name: str, after: Mapping[str, Collection[str]]) -> set[str]:
    """Returns a node and all nodes that need its result or wait for it."""
    reached, waiting = {name}, [name]
    while waiting:
        new = set(after.get(waiting.pop(), ())) - reached
        reached |= new
        waiting.extend(new)
    return reached


def _names(graph: Any) -> bytes:
    """Returns bytes that contain the name of each node that the loader of a TF1 graph may run."""
    parts = [graph.saver_def.restore_op_name.encode(), graph.saver_def.filename_tensor_name.encode()]
    parts += [signature.SerializeToString() for signature in graph.signature_def.values()]
    parts += [value.SerializeToString() for key, value in graph.collection_def.items() if key != _SAVERS]
    parts += [asset.tensor_info.name.encode() for asset in graph.asset_file_def]
    return b"\n".join(parts)


def _node_name(tensor: str) -> str:
    """Returns the name of the node in the name of a tensor: `^node`, `node` or `node:0`."""
    return tensor.removeprefix("^").partition(":")[0]
