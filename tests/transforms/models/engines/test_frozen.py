"""transforms.models.engines.frozen: variables become constants, with the values that they have then."""

import numpy as np
import pytest
import tensorflow as tf

from transforms.models.engines import frozen

IMAGES = np.random.default_rng(0).random((2, 3), np.float32)


@pytest.fixture
def kernel():
    return tf.Variable(np.arange(6, dtype=np.float32).reshape(3, 2))


@pytest.fixture
def function(kernel):
    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32)])
    def branches(x):
        return tf.cond(tf.reduce_sum(x) >= 0.0, lambda: x @ kernel, lambda: x @ -kernel)

    return branches.get_concrete_function()


def test_the_graph_holds_the_weights(function, kernel):
    graph_def = tf.compat.v1.GraphDef.FromString(frozen.graph(function))
    weights = kernel.numpy()
    kernel.assign(tf.zeros((3, 2)))
    (images,) = [node.name for node in graph_def.node if node.op == "Placeholder"]
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        outputs = [op for op in graph.get_operations() if op.outputs and not op.outputs[0].consumers()]
        (vectors,) = [op.outputs[0] for op in outputs if op.outputs[0].shape.rank == 2]
        with tf.compat.v1.Session(graph=graph) as session:  # which initializes no variables
            np.testing.assert_allclose(session.run(vectors, {f"{images}:0": IMAGES}), IMAGES @ weights, rtol=1e-6)


def test_the_graph_has_no_variables_and_no_calls(function):
    """OpenVINO takes neither functions nor TensorFlow 2's control flow, which calls them."""
    graph_def = tf.compat.v1.GraphDef.FromString(frozen.graph(function))
    operations = {node.op for node in graph_def.node}
    assert not operations & {"VarHandleOp", "ReadVariableOp", "StatelessIf", "If", "PartitionedCall"}
    assert not graph_def.library.function


def test_a_frozen_function_keeps_its_weights(function, kernel):
    weights = kernel.numpy()
    constant = frozen.function(function)
    kernel.assign(tf.zeros((3, 2)))
    (vectors,) = constant(tf.constant(IMAGES))
    np.testing.assert_allclose(vectors, IMAGES @ weights, rtol=1e-6)
    assert not constant.variables
