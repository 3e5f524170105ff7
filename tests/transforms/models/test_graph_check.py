"""transforms.models.graph_check: hostile graphs of both formats, wherever they hide an operation, and honest ones."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import tiny_module
from transforms.models import hub

V1 = tf.compat.v1
IMAGES = tf.TensorSpec((None, 8, 8, 3), tf.float32, name="images")


def write_file(path="/of-a-model"):
    return tf.raw_ops.WriteFile(filename=path, contents="x")


HOSTILE = {
    "ReadFile": lambda: tf.io.read_file("/etc/passwd"),
    "WriteFile": write_file,
    "MatchingFiles": lambda: tf.io.matching_files("/etc/*"),
    "SaveV2": lambda: tf.raw_ops.SaveV2(prefix="/p", tensor_names=["a"], shape_and_slices=[""], tensors=[1.0]),
    "RestoreV2": lambda: tf.raw_ops.RestoreV2(
        prefix="/p", tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.int32]
    )[0],
    "MergeV2Checkpoints": lambda: tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=["/a"], destination_prefix="/b"),
    "PrintV2": lambda: tf.print("line", output_stream="file:///of-a-model"),
    "Print": lambda: V1.Print(1.0, [1.0]),
    "TFRecordDataset": lambda: tf.data.TFRecordDataset("/etc/passwd").reduce(0, lambda n, _: n + 1),
    "TextLineDataset": lambda: tf.data.TextLineDataset("/etc/passwd").reduce(0, lambda n, _: n + 1),
    "EagerPyFunc": lambda: tf.py_function(lambda: 0, [], tf.int32),
    "PyFunc": lambda: tf.numpy_function(lambda: np.int32(0), [], tf.int32),
    "ImmutableConst": lambda: tf.raw_ops.ImmutableConst(dtype=tf.int8, shape=[8], memory_region_name="/etc/passwd"),
}


def save_call(directory, run):
    """Saves a TF2 module whose call runs a function beside the means of the images."""
    module = tf.Module()

    @tf.function(input_signature=[IMAGES])
    def call(images):
        operation = run()
        with tf.control_dependencies([operation] if operation is not None else []):
            return tf.reduce_mean(images, [1, 2])

    module.__call__ = call
    tf.saved_model.save(module, str(directory))


def assert_refused(directory, op):
    with pytest.raises(
        ValueError, match=rf"^the model's graph is refused for its operations ([\w, ]+, )?{op}(, [\w, ]+)?: a graph may"
    ):
        hub.read(directory)


@pytest.mark.parametrize("op", HOSTILE)
def test_an_operation_that_reaches_out_is_refused(tmp_path, op):
    save_call(tmp_path, HOSTILE[op])
    assert_refused(tmp_path, op)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda run: tf.cond(tf.random.uniform([]) > 2.0, lambda: (run(), 0)[1], lambda: 0),
        lambda run: tf.while_loop(lambda n: n < 0, lambda n: (run(), n + 1)[1], (tf.constant(0),))[0],
        lambda run: tf.map_fn(lambda n: (run(), n)[1], tf.range(3)),
        lambda run: tf.function(lambda: (run(), 0)[1])(),
        lambda run: tf.switch_case(tf.constant(0), [lambda: (run(), 0)[1], lambda: 1]),
    ],
    ids=["a branch", "a loop", "a map", "a function", "a case"],
)
def test_an_operation_inside_control_flow_is_refused(tmp_path, wrap):
    save_call(tmp_path, lambda: wrap(write_file))
    assert_refused(tmp_path, "WriteFile")


def test_a_table_from_a_file_is_refused(tmp_path):
    """Its initializer is no part of any signature: loading the model runs it."""
    (tmp_path / "names.txt").write_text("a\nb\n")
    module = tf.Module()
    module.table = tf.lookup.StaticHashTable(tf.lookup.TextFileInitializer(
        str(tmp_path / "names.txt"), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64,
        tf.lookup.TextFileIndex.LINE_NUMBER), -1)  # fmt: skip
    module.__call__ = tf.function(lambda images: tf.reduce_mean(images, [1, 2]), input_signature=[IMAGES])
    tf.saved_model.save(module, str(tmp_path / "m"))
    assert_refused(tmp_path / "m", "InitializeTableFromTextFileV2")


def test_a_gradient_that_reaches_out_is_refused(tmp_path):
    @tf.custom_gradient
    def means(images):
        def gradient(upstream):
            with tf.control_dependencies([write_file()]):
                return tf.zeros_like(images) + tf.reduce_mean(upstream)

        return tf.reduce_mean(images, [1, 2]), gradient

    module = tf.Module()
    module.__call__ = tf.function(means, input_signature=[IMAGES])
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=True)
    tf.saved_model.save(module, str(tmp_path), options=options)
    assert_refused(tmp_path, "WriteFile")


def save_v1(directory, in_signature=None, in_init=None, beside=None):
    """Saves a TF1 graph with a variable, its saver and a table; the arguments add an operation somewhere."""
    with V1.Graph().as_default(), V1.Session() as session:
        images = V1.placeholder(tf.float32, (None, 8, 8, 3))
        scale = V1.get_variable("scale", initializer=2.0, use_resource=True)
        table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["a"], [1]), -1)
        with V1.control_dependencies([in_signature()] if in_signature else []):
            vectors = tf.reduce_mean(images, [1, 2]) * scale + tf.cast(table.lookup(tf.constant("a")), tf.float32)
        with V1.control_dependencies([in_init()] if in_init else []):
            init = V1.group(V1.tables_initializer())
        if beside:
            beside()
        session.run(V1.global_variables_initializer())
        builder = V1.saved_model.Builder(str(directory))
        signature = V1.saved_model.predict_signature_def({"images": images}, {"default": vectors})
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature}, main_op=init)
        builder.save()


def test_a_tf1_graph_with_its_saver_is_loaded(tmp_path):
    save_v1(tmp_path)
    model = hub.read(tmp_path)
    loaded = hub.load(tmp_path, *hub.choose(model, None, None))
    np.testing.assert_allclose(loaded.embed(tf.ones((1, 8, 8, 3))), [[3.0] * 3])


@pytest.mark.parametrize("op", ["ReadFile", "SaveV2", "RestoreV2", "Print", "PyFunc"])
@pytest.mark.parametrize("place", ["in_signature", "in_init"])
def test_a_tf1_graph_that_reaches_out_is_refused(tmp_path, place, op):
    save_v1(tmp_path, **{place: HOSTILE[op]})
    assert_refused(tmp_path, op)


def test_a_tf1_graph_whose_signature_runs_the_savers_save_step_is_refused(tmp_path):
    save_v1(tmp_path)
    proto = hub.saved_model_pb2.SavedModel.FromString((tmp_path / "saved_model.pb").read_bytes())
    graph = proto.meta_graphs[0]
    graph.signature_def["__saved_model_init_op"].outputs[
        "__saved_model_init_op"
    ].name = graph.saver_def.save_tensor_name
    (tmp_path / "saved_model.pb").write_bytes(proto.SerializeToString())
    assert_refused(tmp_path, "SaveV2")


def test_what_a_tf1_graph_never_runs_is_not_refused(tmp_path):
    save_v1(tmp_path, beside=lambda: V1.summary.scalar("left_of_training", 1.0, collections=[]))
    hub.read(tmp_path)


def test_a_second_graph_takes_the_way_of_tf1(tmp_path):
    """TensorFlow ignores the object graph then, so the check must not rely on it."""
    save_call(tmp_path, lambda: None)
    proto = hub.saved_model_pb2.SavedModel.FromString((tmp_path / "saved_model.pb").read_bytes())
    graph = proto.meta_graphs[0]
    graph.signature_def["evil"].outputs["y"].name = "evil:0"
    graph.graph_def.node.add(name="evil", op="ReadFile")
    proto.meta_graphs.add().CopyFrom(graph)
    (tmp_path / "saved_model.pb").write_bytes(proto.SerializeToString())
    assert_refused(tmp_path, "ReadFile")


@pytest.mark.parametrize("is_interchangeable", [True, False])
def test_a_function_that_tensorflow_may_swap_in_is_checked(tmp_path, is_interchangeable):
    """Grappler replaces a function by another one of the same `api_implements`, which nothing calls."""
    save_call(tmp_path, lambda: None)
    proto = hub.saved_model_pb2.SavedModel.FromString((tmp_path / "saved_model.pb").read_bytes())
    function = proto.meta_graphs[0].graph_def.library.function.add()
    function.signature.name = "never_called"
    function.node_def.add(name="evil", op="WriteFile")
    if is_interchangeable:
        function.attr["api_implements"].s = b"gru"
    (tmp_path / "saved_model.pb").write_bytes(proto.SerializeToString())
    if is_interchangeable:
        assert_refused(tmp_path, "WriteFile")
    else:
        hub.read(tmp_path)


def test_an_operation_of_another_library_is_refused_by_its_name(tmp_path):
    save_call(tmp_path, lambda: None)
    proto = hub.saved_model_pb2.SavedModel.FromString((tmp_path / "saved_model.pb").read_bytes())
    for function in proto.meta_graphs[0].graph_def.library.function:
        function.node_def.add(name="custom", op="Vendor>Decrypt")
    (tmp_path / "saved_model.pb").write_bytes(proto.SerializeToString())
    with pytest.raises(ValueError, match="refused for its operations Vendor>Decrypt: .*operations of other libraries;"):
        hub.read(tmp_path)


def test_an_assertion_and_a_trained_module_are_allowed(tmp_path):
    save_call(tmp_path / "a", lambda: tf.debugging.assert_less(tf.random.uniform([]), 2.0, "too large"))
    hub.read(tmp_path / "a")
    hub.read(tiny_module.write(tmp_path / "b"))


def preprocessing():
    """Keras's layers for preprocessing, augmentation and attention, in one network."""
    layers = keras.layers
    image = keras.Input((None, None, 3))
    steps = [
        layers.Resizing(48, 48), layers.Rescaling(2.0, -1.0), layers.Normalization(mean=[0.1] * 3, variance=[1.0] * 3),
        layers.CenterCrop(40, 40), layers.RandomFlip(), layers.RandomRotation(0.1), layers.RandomZoom(0.1),
        layers.RandomContrast(0.1), layers.RandomTranslation(0.1, 0.1), layers.RandomBrightness(0.1),
        layers.RandomCrop(32, 32), layers.Conv2D(8, 8, strides=8), layers.BatchNormalization(), layers.Dropout(0.1),
        layers.Reshape((16, 8)), layers.LayerNormalization(),
    ]  # fmt: skip
    x = image
    for step in steps:
        x = step(x)
    x = layers.MultiHeadAttention(2, 4)(x, x)
    return keras.Model(image, layers.Dense(4, activation="gelu")(layers.GlobalAveragePooling1D()(x)))


def application(name, **arguments):
    make = getattr(keras.applications, name)
    return lambda: make(weights=None, include_top=False, pooling="avg", input_shape=(64, 64, 3), **arguments)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(preprocessing, id="preprocessing", marks=pytest.mark.slow),
        *(
            pytest.param(application(name), id=name, marks=pytest.mark.slow)
            for name in ("MobileNetV3Small", "ResNet50", "EfficientNetB0", "ConvNeXtTiny", "VGG16", "DenseNet121")
        ),
    ],
)
def test_what_keras_exports_is_allowed(tmp_path, make):
    make().export(tmp_path, verbose=False)
    hub.read(tmp_path)


def test_the_modules_of_tf_hubs_own_exporter_are_allowed():
    for directory in (Path(__file__).parents[2] / "golden" / "tf1_hub").iterdir():
        if directory.is_dir():
            hub.read(directory)
