"""SavedModels from TF-Hub: their contents, and the function in them that maps images to vectors.

There are two formats. A TF2 SavedModel is called by its `__call__` (the Reusable SavedModel interface,
https://www.tensorflow.org/hub/reusable_saved_models), or by a signature if it has none. A TF1 Hub module holds one
graph per set of tags, and each graph has signatures. Input and output follow TF-Hub's common image signatures
(https://www.tensorflow.org/hub/common_signatures/images): `images`, float32 (n, height, width, 3) in [0, 1].
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_hub as hub
from google.protobuf import empty_pb2, unknown_fields
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from transforms.elements.one_line import one_line
from transforms.models import graph_check
from transforms.models.tensors import Signature, TensorInfo

Embed = Callable[[tf.Tensor], tf.Tensor]

# An input of TF-Hub's modules and its default there. It matters in training only, and changes no vector.
_MOMENTUM = "batch_norm_momentum"
_MOMENTUM_DEFAULT = 0.99

# A model's weights lie in its variables, beside this file. A larger file is not read into memory.
MAX_GRAPH_BYTES = 2**30


@dataclasses.dataclass(frozen=True)
class SavedModel:
    """The contents of a SavedModel, as its file states them.

    Attributes:
      format: `tf2` or `tf1_hub`.
      variants: tags → signatures by name.
      is_callable: whether it has a `__call__`.
      image_size: the (height, width) in the ImageModuleInfo of a TF1 module, in pixels; None where there is none.
    """

    format: str
    variants: Mapping[tuple[str, ...], Mapping[str, Signature]]
    is_callable: bool
    image_size: tuple[int, int] | None


class Loaded(NamedTuple):
    """A loaded model.

    Attributes:
      embed: values of images (n, height, width, 3) → float32 (n, dimension).
      model: the loaded object. It may have variables, and has to stay alive as long as `embed`.
      takes_bytes: whether the values are uint8, not float32.
    """

    embed: Embed
    model: Any
    takes_bytes: bool = False


def read(directory: Path) -> SavedModel:
    """Returns the contents of a SavedModel, without loading it.

    Raises:
      ValueError: if the directory has no readable SavedModel, or its graph does more than `graph_check` allows.
    """
    path = directory / "saved_model.pb"
    if not path.is_file():
        present = sorted(file.name for file in directory.iterdir())[:5] if directory.is_dir() else []
        raise ValueError(
            f"no SavedModel in {str(directory)!r}: expected saved_model.pb there, found {present}, and neither one "
            ".onnx, one .tflite nor one .xml with its .bin"
        )
    if path.stat().st_size > MAX_GRAPH_BYTES:
        raise ValueError(
            f"{str(path)!r} has {path.stat().st_size} bytes: expected a graph of at most {MAX_GRAPH_BYTES}, with the "
            "weights in variables"
        )
    proto = saved_model_pb2.SavedModel()
    try:
        proto.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ValueError(f"{str(path)!r} is not a SavedModel: {error}") from error
    graph_check.check(proto.meta_graphs)
    is_tf1_hub = (directory / "tfhub_module.pb").exists()
    try:
        return _contents(proto, "tf1_hub" if is_tf1_hub else "tf2")
    except (DecodeError, TypeError, AttributeError) as error:  # a field that is no dtype, or no message
        raise ValueError(f"{str(path)!r} is not a SavedModel: {one_line(error)}") from error


def _contents(proto: Any, model_format: str) -> SavedModel:
    graphs = proto.meta_graphs
    variants = {
        tuple(sorted(graph.meta_info_def.tags)): {
            name: Signature(_tensors(signature.inputs), _tensors(signature.outputs))
            for name, signature in graph.signature_def.items()
            if not name.startswith("__saved_model")
        }
        for graph in graphs
    }
    image_size = next(filter(None, map(_image_module_size, graphs)), None)
    return SavedModel(model_format, variants, any(map(_has_call, graphs)), image_size)


def choose(model: SavedModel, signature: str | None, tags: tuple[str, ...] | None) -> tuple[str, tuple[str, ...]]:
    """Returns the name of the signature to call, and the tags of its variant.

    Both arguments are the user's choices, or None for the default. The default variant is the one for inference. The
    signature is `default` in TF1. In TF2 it is "" (`__call__`) where there is one, else `serving_default`.

    Raises:
      ValueError: if there is no such variant or signature. The message lists those of the model.
    """
    if tags is None:
        tags = () if model.format == "tf1_hub" else ("serve",)
    variant = model.variants.get(tuple(sorted(tags)))
    if variant is None:
        known = " ".join("[" + ",".join(key) + "]" for key in model.variants)
        raise ValueError(f"model_tags={','.join(tags)!r}: no such variant in this model; expected one of {known}")
    if signature is None:
        signature = "default" if model.format == "tf1_hub" else "" if model.is_callable else "serving_default"
        if signature == "serving_default" and signature not in variant:
            raise ValueError(
                f"the model is not callable and has no signature {signature!r}: "
                f"expected a model_signature among {', '.join(sorted(variant)) or 'none'}"
            )
    if signature and signature not in variant:
        raise ValueError(f"model_signature={signature!r}: expected one of {', '.join(sorted(variant)) or 'none'}")
    return signature, tuple(sorted(tags))


def expected_size(signature: Signature) -> tuple[int, int] | None:
    """Returns the fixed (height, width) of a signature's images in pixels, None where they are free."""
    shape = _image_input(signature)[1].shape
    return (shape[1], shape[2]) if shape and shape[1] and shape[2] else None


def takes_bytes(signature: Signature) -> bool:
    """Returns whether a signature takes images as uint8, and not as float32."""
    return _image_input(signature)[1].dtype == "uint8"


def usual_size(model: SavedModel, tags: tuple[str, ...]) -> tuple[int, int] | None:
    """Returns the fixed (height, width) of `serving_default`, which a `__call__` beside it takes too; else None."""
    signature = model.variants[tags].get("serving_default")
    try:
        return expected_size(signature) if signature else None
    except ValueError:  # it takes no images
        return None


def load(directory: Path, signature: str, tags: tuple[str, ...], location: str = "") -> Loaded:
    """Loads the function of a SavedModel that `choose` found. Messages name `location`, or else the directory.

    Raises:
      ValueError: if the files are broken, or if that function does not map only images to vectors. The message then
        shows its inputs and outputs.
    """
    contents = read(directory)
    try:
        model = hub.load(str(directory), tags=list(tags))
    except Exception as error:  # TensorFlow's loader trusts the file: a broken one raises an error of any class
        named = location or str(directory)
        raise ValueError(f"the SavedModel {named!r} cannot be loaded: {_reason(error)}") from error
    if not signature:
        return Loaded(_embed_by_call(model), model)
    description = contents.variants[tags][signature]
    return Loaded(_embed_by_signature(model.signatures[signature], description), model, takes_bytes(description))


def _reason(error: Exception) -> str:
    """Returns the last line of an error's message before the names of nodes: TensorFlow puts a traceback first."""
    lines = [line.strip() for line in str(error).partition("[[")[0].splitlines() if line.strip()]
    return lines[-1] if isinstance(error, tf.errors.OpError) and lines else one_line(error)


def _embed_by_call(model: Any) -> Embed:
    arguments = inspect.getfullargspec(model.__call__)
    inference = {"training": False} if "training" in (*arguments.args, *arguments.kwonlyargs) else {}

    def embed(images: tf.Tensor) -> tf.Tensor:
        try:
            return model(images, **inference)
        except (TypeError, ValueError) as error:
            raise ValueError(
                "the model's __call__ does not take float32[?, height, width, 3] alone: "
                f"give a model_signature that does ({one_line(error)})"
            ) from error

    return embed


def _embed_by_signature(function: Any, signature: Signature) -> Embed:
    name, _ = _image_input(signature)
    output = _vector_output(signature)
    momentum = {_MOMENTUM: tf.constant(_MOMENTUM_DEFAULT)} if _MOMENTUM in signature.inputs else {}

    def embed(images: tf.Tensor) -> tf.Tensor:
        return function(**{name: images}, **momentum)[output]

    return embed


def _image_input(signature: Signature) -> tuple[str, TensorInfo]:
    images = {name: info for name, info in signature.inputs.items() if name != _MOMENTUM}
    if len(images) == 1:
        ((name, info),) = images.items()
        shape = info.shape
        may_hold_images = shape is None or (len(shape) == 4 and shape[3] in (3, None))
        if info.dtype in ("float32", "uint8") and may_hold_images:
            return name, info
    raise ValueError(f"not a model of images: it has {signature}, expected one input float32[?, height, width, 3]")


def _vector_output(signature: Signature) -> str:
    vectors = [
        name
        for name, info in signature.outputs.items()
        if info.dtype == "float32" and (info.shape is None or len(info.shape) == 2)
    ]
    if "default" in vectors:
        return "default"
    if len(vectors) == 1:
        return vectors[0]
    raise ValueError(
        f"no model with one vector per image: it has {signature}, expected one output float32[?, dimension]"
    )


def _tensors(infos: Mapping[str, Any]) -> dict[str, TensorInfo]:
    return {
        name: TensorInfo(
            tf.dtypes.as_dtype(info.dtype).name,
            None
            if info.tensor_shape.unknown_rank
            else tuple(dim.size if dim.size >= 0 else None for dim in info.tensor_shape.dim),
        )
        for name, info in infos.items()
    }


def _has_call(graph: Any) -> bool:
    """Returns whether the saved object, node 0 of the object graph, has a function `__call__`."""
    nodes = graph.object_graph_def.nodes
    return any(child.local_name == "__call__" for child in nodes[0].children) if nodes else False


def _image_module_size(graph: Any) -> tuple[int, int] | None:
    """Returns the size in a TF1 module's ImageModuleInfo.

    tensorflow-hub no longer ships those messages, so this function reads their fields by number:
    ModuleAttachment{1: key, 2: value}, ImageModuleInfo{1: default_image_size}, ImageSize{1: height, 2: width}.
    """
    attachments = graph.collection_def.get("hub_module_attachments") if graph.collection_def else None
    for attachment in attachments.bytes_list.value if attachments else ():
        fields = _fields(attachment)
        if fields.get(1) == b"image_module_info":
            size = _fields(_fields(fields.get(2, b"")).get(1, b""))
            if size.get(1) and size.get(2):
                return int(size[1]), int(size[2])
    return None


def _fields(message: bytes) -> dict[int, Any]:
    parsed = empty_pb2.Empty.FromString(message)
    return {field.field_number: field.data for field in unknown_fields.UnknownFieldSet(parsed)}
