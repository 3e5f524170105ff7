"""Portable models, each in the engine that runs it: OpenVINO on CPUs, ONNX Runtime on GPUs and where OpenVINO fails.

Where ONNX Runtime is installed, the vectors of an ONNX model in OpenVINO are compared with its own, once per machine.
"""

import dataclasses
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from transforms.concurrent.cores import usable_cores
from transforms.models import checked_copy, portable
from transforms.models.engines import cache, device, mosaics, onnx_runtime, openvino_engine, portable_openvino
from transforms.models.engines.openvino_engine import Run
from transforms.models.image_interface import ImageInterface, InterfaceError, derive
from transforms.models.portable import PortableModel
from transforms.models.spec import ModelSpec
from transforms.models.tensors import Signature

if TYPE_CHECKING:
    import openvino

_LOG = logging.getLogger(__name__)

OPENVINO, ONNX_RUNTIME = "OpenVINO", "ONNX Runtime"

# The largest distance between the vectors of the two engines, relative to their length. float16 rounds to 11 bits.
_MAX_RELATIVE_ERROR = {"float32": 1e-3, "uint8": 1e-3, "float16": 1e-2}

# A GPU copies one batch while it computes another.
_GPU_CALLS_AT_ONCE = 2
_CPU_IMAGES_PER_CALL = 8


class Compiled(NamedTuple):
    """A portable model in an engine.

    Attributes:
      run: uint8 (images_per_call, height, width, 3) → float32 (images_per_call, dimension).
      images_per_call: the number of images of every call.
      calls_at_once: the number of threads that call it at a time.
      engine: OPENVINO or ONNX_RUNTIME.
      device: its name for the report.
    """

    run: Run
    images_per_call: int
    calls_at_once: int
    engine: str
    device: str


class Description(NamedTuple):
    """The facts about a portable model that its file states.

    Attributes:
      signature: its inputs and outputs.
      channels_first: the layout of images if the signature does not state it.
      parameters: the number of scalars in its weights; None where OpenVINO does not read it.
    """

    signature: Signature
    channels_first: bool
    parameters: int | None

    def interface(self, output: str | None) -> ImageInterface:
        """Returns how the model takes images. See `image_interface.derive` for the errors."""
        return derive(self.signature, output, channels_first=self.channels_first)


def describe(model: PortableModel) -> Description:
    """Returns the facts about a model, without running it.

    Raises:
      ValueError: if no engine of this machine reads the model. The message names the operations that OpenVINO lacks.
    """
    return _open(model).description


def compile_model(spec: ModelSpec, precision: str, batch_size: int) -> Compiled:
    """Returns a portable model, compiled for at most `batch_size` images per call, unless the model fixes the number.

    Raises:
      ValueError: if no engine of this machine runs the model in that precision.
    """
    with checked_copy.files(spec) as path:
        model = portable.find(path)
        if model is None:
            raise ValueError(f"model={spec.location!r}: expected one file of {', '.join(portable.FORMATS)}")
        return _compiled(dataclasses.replace(model, location=spec.location), spec, precision, batch_size)


def precisions(model_format: str) -> list[str]:
    """Returns the precisions in which this machine runs portable models of a format."""
    if model_format == "onnx" and onnx_runtime.has_gpu():
        return ["float32"]
    return openvino_engine.precisions() or ["float32"]


def _compiled(model: PortableModel, spec: ModelSpec, precision: str, batch_size: int) -> Compiled:
    description, network = _open(model)
    interface = description.interface(spec.output or None)
    if model.format == "onnx" and onnx_runtime.has_gpu():
        return _in_onnx_runtime(onnx_runtime.open_session(model.main), interface, spec, batch_size)
    if device.has_driver():
        _LOG.warning(
            "the model runs on the CPU: a GPU needs a model in ONNX, and the packages onnxruntime-gpu and onnx"
        )
    try:
        if isinstance(network, portable_openvino.NotRunnable):
            raise network
        network = portable_openvino.adapted(network, interface, spec.image_size, spec.preprocessing)
        compiled = _in_openvino(network, interface, spec.image_size, precision, batch_size)
        _check_agrees(network, model, interface, spec)
    except portable_openvino.NotRunnable as error:
        _check_fallback(model, precision, error)
        session = _session(model, error)
        _LOG.warning("ONNX Runtime runs this model because OpenVINO cannot: %s", error)
        return _in_onnx_runtime(session, interface, spec, batch_size)
    except InterfaceError as error:
        raise ValueError(f"model={spec.name!r}: {error}") from error
    return compiled


class _Opened(NamedTuple):
    """A model that an engine has read: its facts, and its network in OpenVINO or the reason why there is none."""

    description: Description
    network: "openvino.Model | portable_openvino.NotRunnable"


def _open(model: PortableModel) -> _Opened:
    channels_first = model.format != "tflite"  # by the conventions of the exporters
    try:
        network = portable_openvino.read(model)
    except portable_openvino.NotRunnable as error:
        _check_fallback(model, "float32", error)
        signature = onnx_runtime.signature(_session(model, error))
        return _Opened(Description(signature, channels_first, None), error)
    signature = portable_openvino.signature(network)
    return _Opened(Description(signature, channels_first, portable_openvino.parameters(network)), network)


def _check_fallback(model: PortableModel, precision: str, error: Exception) -> None:
    """Raises ValueError unless ONNX Runtime can stand in where OpenVINO fails with `error`."""
    named = f"{model.named()}: OpenVINO cannot run it ({error})"
    if model.format != "onnx":
        raise ValueError(named) from error
    if precision != "float32":
        raise ValueError(f"{named}, and ONNX Runtime computes in float32 only, not in {precision}") from error
    if not onnx_runtime.is_installed():
        raise ValueError(f"{named}; ONNX Runtime may: {onnx_runtime.EXTRA}") from error


def _in_openvino(
    network: "openvino.Model", interface: ImageInterface, image_size: tuple[int, int], precision: str, batch_size: int
) -> Compiled:
    images = interface.batch_size or min(batch_size, openvino_engine.images_per_call(network))
    calls = usable_cores()
    try:
        run = openvino_engine.compile_network(network, image_size, images, precision, calls)
    except (RuntimeError, ValueError) as error:
        raise portable_openvino.NotRunnable(openvino_engine.reason(error)) from error
    return Compiled(run, images, calls, OPENVINO, device.CPU)


def _session(model: PortableModel, error: Exception) -> Any:
    """Returns the session of a model on which OpenVINO fails with `error`. Raises ValueError if both fail."""
    try:
        return onnx_runtime.open_session(model.main)
    except ValueError as other:
        raise ValueError(f"{model.named()}: OpenVINO cannot run it ({error}), and {other}") from other


def _in_onnx_runtime(session: Any, interface: ImageInterface, spec: ModelSpec, batch_size: int) -> Compiled:
    run = onnx_runtime.compiled(session, interface, spec.preprocessing)
    if onnx_runtime.has_gpu():
        return Compiled(run, interface.batch_size or batch_size, _GPU_CALLS_AT_ONCE, ONNX_RUNTIME, "GPU, ONNX Runtime")
    images = interface.batch_size or min(batch_size, _CPU_IMAGES_PER_CALL)
    return Compiled(run, images, usable_cores(), ONNX_RUNTIME, device.CPU)


def _check_agrees(network: "openvino.Model", model: PortableModel, interface: ImageInterface, spec: ModelSpec) -> None:
    """Raises NotRunnable if OpenVINO returns other vectors than ONNX Runtime, where that is installed."""
    if model.format != "onnx" or not onnx_runtime.is_installed():
        return
    entry = cache.agreement_entry(spec)
    if cache.has(entry):
        return
    images = interface.batch_size or 2
    pixels = mosaics.mosaics(images, spec.image_size)
    try:
        session = onnx_runtime.open_session(model.main)
        expected = onnx_runtime.compiled(session, interface, spec.preprocessing)(pixels)
    except (ValueError, RuntimeError) as error:
        _LOG.warning("OpenVINO's vectors are not compared with ONNX Runtime's: %s", error)
        return
    actual = openvino_engine.compile_network(network, spec.image_size, images, "float32", 1)(pixels)
    distance = np.linalg.norm(actual - expected, axis=1)
    if not (distance <= _MAX_RELATIVE_ERROR[interface.dtype] * np.linalg.norm(expected, axis=1)).all():
        raise portable_openvino.NotRunnable(f"its vectors differ from ONNX Runtime's by {distance.max()}")
    cache.mark(entry)
