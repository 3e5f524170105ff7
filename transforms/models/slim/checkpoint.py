"""TF-Slim checkpoints → checked weights → a SavedModel like TF-Hub's.

A checkpoint is untrusted. TensorFlow's own reader reads it: the file holds tables of protocol buffers, and nothing in
it is ever executed. This module compares every shape and type before it reads the first weight, and reads only the
variables of the network.

TensorFlow is imported where it is needed, so that a command can list NETWORKS and HEADS at once.
"""

import contextlib
import dataclasses
import importlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from transforms.models.networks.slim_layers import Shapes
    from transforms.models.networks.slim_network import SlimNetwork


# Name of a network, and of its module in `networks` → the name of its class.
NETWORKS = {"inception_resnet_v2": "InceptionResNetV2", "inception_v2": "InceptionV2"}

FEATURE_VECTOR = "feature_vector"
CLASSIFICATION = "classification"
HEADS = (FEATURE_VECTOR, CLASSIFICATION)

_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")
_FLOATS = ("float32", "float64", "float16", "bfloat16")
# A V2 checkpoint consists of several files. TensorFlow takes their common prefix.
_V2_SUFFIX = re.compile(r"\.(index|data-\d{5}-of-\d{5})$")
_OPTIMIZER = re.compile(r"(^|/)((RMSProp|Momentum|Adam|Adagrad|Adadelta|Ftrl)(_\d+)?|beta[12]_power)$")
# The kinds of variables that do not belong to the network. The first pattern that matches a name decides.
_EXTRA_KINDS = (
    ("moving averages of weights", re.compile(r"/ExponentialMovingAverage$")),
    ("optimizer slots", _OPTIMIZER),
    ("auxiliary head", re.compile(r"/AuxLogits/")),
    ("global step", re.compile(r"(^|/)global_step$")),
    ("classifier", re.compile(r"/Logits/")),
)


@dataclasses.dataclass(frozen=True)
class ImportReport:
    """The result of an import.

    Attributes:
      network, head: as requested.
      dimension: components of an output vector.
      parameters: number of scalars in the weights.
      image_size: (height, width) in pixels.
      ignored: kind → names of the checkpoint's variables that the model does not use.
      output: the directory of the SavedModel.
    """

    network: str
    head: str
    dimension: int
    parameters: int
    image_size: tuple[int, int]
    ignored: Mapping[str, tuple[str, ...]]
    output: Path


class CheckpointWeights(NamedTuple):
    """The weights of a network in a checkpoint.

    Attributes:
      weights: TF-Slim name → array in the stored type.
      ignored: kind → names of all other variables of the checkpoint.
    """

    weights: dict[str, np.ndarray]
    ignored: dict[str, tuple[str, ...]]


class CheckpointMismatchError(ValueError):
    """A checkpoint that lacks variables of the network. Its text names every one of them.

    Attributes:
      checkpoint, network: the arguments of the import.
      missing: names that the checkpoint lacks.
      misshapen: name → actual and expected type and shape.
      hint: the likely cause.
    """

    def __init__(
        self, checkpoint: str, network: str, missing: tuple[str, ...], misshapen: Mapping[str, str], hint: str
    ):
        self.checkpoint = checkpoint
        self.network = network
        self.missing = missing
        self.misshapen = misshapen
        self.hint = hint
        super().__init__(self.describe())

    def describe(self, limit: int | None = None) -> str:
        """Returns the message, with at most `limit` names of each list (None for all)."""
        problems = []
        if self.missing:
            problems.append(f"{len(self.missing)} missing: {_joined(list(map(repr, self.missing)), limit)}")
        if self.misshapen:
            details = [f"{name!r} is {detail}" for name, detail in self.misshapen.items()]
            problems.append(f"{len(details)} misshapen: {_joined(details, limit)}")
        mismatch = f"checkpoint={self.checkpoint!r} does not fit network={self.network!r}"
        return f"{mismatch} ({self.hint}); {'; '.join(problems)}"


def network_class(name: str) -> "type[SlimNetwork]":
    """Returns the class of a network. Raises ValueError if `name` is none of NETWORKS."""
    if name not in NETWORKS:
        raise ValueError(f"unknown network={name!r}: expected one of {', '.join(NETWORKS)}")
    network: type[SlimNetwork] = getattr(importlib.import_module(f"transforms.models.networks.{name}"), NETWORKS[name])
    return network


def read_weights(network: str, checkpoint: str | os.PathLike[str], head: str = FEATURE_VECTOR) -> CheckpointWeights:
    """Reads a network's weights from a TF-Slim checkpoint.

    Args:
      network: one of NETWORKS.
      checkpoint: a file in the V1 format (as released in 2016), or the prefix of the files in the V2 format. Any of
        the V2 files works too. The path is local or on any file system that TensorFlow reads.
      head: FEATURE_VECTOR omits the classifier, whatever its classes. CLASSIFICATION requires it.

    Raises:
      CheckpointMismatchError: (a ValueError) if variables are missing, or have another shape or type than expected.
      ValueError: if the network or head is unknown, TensorFlow cannot read the checkpoint, or a weight is not finite.
    """
    import tensorflow as tf

    if head not in HEADS:
        raise ValueError(f"unknown head={head!r}: expected one of {', '.join(HEADS)}")
    expected = network_class(network).expected_variables(classifier=head == CLASSIFICATION)
    checkpoint = os.fspath(checkpoint)
    if checkpoint.endswith(_ARCHIVES):
        raise ValueError(f"checkpoint={checkpoint!r} is an archive: unpack it and give the .ckpt file in it")
    with _reading(checkpoint):
        reader = tf.train.load_checkpoint(_V2_SUFFIX.sub("", checkpoint))
        shapes = {name: tuple(shape) for name, shape in reader.get_variable_to_shape_map().items()}
        dtypes = {name: dtype.name for name, dtype in reader.get_variable_to_dtype_map().items()}
    _check(network, checkpoint, expected, shapes, dtypes)
    with _reading(checkpoint):
        weights = {name: reader.get_tensor(name) for name in expected}
    for name, array in weights.items():
        if not np.isfinite(array.astype(np.float32)).all():
            raise ValueError(
                f"{name!r} in checkpoint={checkpoint!r} is not finite: expected weights without NaN and inf"
            )
    return CheckpointWeights(weights, ignored=_by_kind(shapes.keys() - expected.keys()))


def import_checkpoint(
    network: str,
    checkpoint: str | os.PathLike[str],
    output: str | os.PathLike[str],
    head: str = FEATURE_VECTOR,
    overwrite: bool = False,
) -> ImportReport:
    """Converts a TF-Slim checkpoint to a SavedModel; see `read_weights` and `reusable.write_reusable`.

    Raises:
      ValueError: if the checkpoint does not fit the network. The message names every missing or misshapen variable.
      FileExistsError: if `output` exists, unless it is a SavedModel and `overwrite` is true.
      OSError: if `output` cannot be written.
    """
    from transforms.models.slim import reusable

    reusable.check_output(output, overwrite)  # before the import, which may take minutes
    weights, ignored = read_weights(network, checkpoint, head)
    model = network_class(network)(weights)
    path = reusable.write_reusable(model, output, classification=head == CLASSIFICATION, overwrite=overwrite)
    return ImportReport(
        network=network,
        head=head,
        dimension=model.CLASSES if head == CLASSIFICATION else model.FEATURES,
        parameters=sum(array.size for array in weights.values()),
        image_size=model.IMAGE_SIZE,
        ignored=ignored,
        output=path,
    )


@contextlib.contextmanager
def _reading(checkpoint: str) -> Iterator[None]:
    """Turns any error of TensorFlow's reader into a ValueError that says what was expected."""
    import tensorflow as tf

    try:
        yield
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"cannot read checkpoint={checkpoint!r}: expected a .ckpt file in TensorFlow's V1 format, or the prefix of "
            f"the .index and .data files of the V2 format ({error})"
        ) from error


def _check(
    network: str, checkpoint: str, expected: "Shapes", shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, str]
) -> None:
    missing = tuple(name for name in expected if name not in shapes)
    misshapen = {
        name: f"{dtypes[name]} {list(shapes[name])}, expected float32 {list(shape)}"
        for name, shape in expected.items()
        if name in shapes and (shapes[name] != shape or dtypes[name] not in _FLOATS)
    }
    if not missing and not misshapen:
        return
    if len(missing) == len(expected):
        scopes = Counter(name.split("/", 1)[0] for name in shapes)
        largest = ", ".join(f"{scope!r}" for scope, _ in scopes.most_common(3)) or "nothing"
        hint = f"none of its variables is there, the checkpoint has {largest}: is it another network's?"
    elif all("/Logits/" in name for name in (*missing, *misshapen)):
        hint = f"the classifier alone differs: head={FEATURE_VECTOR!r} does without it"
    else:
        hint = "expected all variables of the network, with TF-Slim's names and shapes"
    raise CheckpointMismatchError(checkpoint, network, missing, misshapen, hint)


def _by_kind(names: set[str]) -> dict[str, tuple[str, ...]]:
    kinds: dict[str, list[str]] = {}
    for name in sorted(names):
        kind = next((kind for kind, pattern in _EXTRA_KINDS if pattern.search(name)), "other")
        kinds.setdefault(kind, []).append(name)
    return {kind: tuple(members) for kind, members in kinds.items()}


def _joined(items: list[str], limit: int | None) -> str:
    shown = items if limit is None else items[:limit]
    rest = len(items) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")
