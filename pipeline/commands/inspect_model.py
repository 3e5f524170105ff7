"""The command that shows the properties of a model, and the time and memory of its batches on this machine."""

import argparse
import json
import resource
from collections.abc import Sequence
from typing import Any

from pipeline.commands import frame
from pipeline.flags import model_flags, storage_flags
from pipeline.flags.argument_parser import Parser
from pipeline.flags.parser import add_batch_size
from pipeline.model_checks import similarity
from transforms.elements.one_line import name, printable
from transforms.models.model_facts import Function
from transforms.models.resolve import resolve
from transforms.models.spec import ModelSpec

_EXAMPLES = """\
  python -m pipeline inspect-model efficientnet_lite0
  python -m pipeline inspect-model gs://bucket/models/inception_resnet_v2 --image_size 299x299 --batch_size 64
"""

_TIMED_SECONDS = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    return frame.run(_parser(), argv, _inspect, only_shows=True)


def _parser() -> Parser:
    parser = frame.parser("inspect-model", "Shows a model's properties, and its speed and memory here.", _EXAMPLES)
    parser.add_argument("handle", help="a model, as --model of a run takes it")
    model_flags.add(parser)
    add_batch_size(parser)
    storage_flags.add(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _inspect(flags: argparse.Namespace) -> str:
    spec = resolve(
        flags.handle,
        model_flags.choices(flags),
        Function(flags.model_signature, flags.model_tags, flags.model_output),
        storage=storage_flags.storage(flags),
        normalize=flags.normalize,
    )
    facts: dict[str, Any] = {
        "name": spec.name,
        "format": spec.format,
        "location": spec.location or "in the package",
        **_signatures(spec),
        **_interface(spec),
        "image_size": "x".join(map(str, spec.image_size)),
        "preprocessing": spec.preprocessing.text(),
        "dimension": spec.dimension,
        **({"vectors": "of length 1"} if spec.normalize else {}),
        **_similarity(spec),
        **_cost(spec, flags.batch_size),
        "digest": spec.digest,
    }
    if flags.json:
        return json.dumps(facts, indent=2)
    return "\n".join(line for fact, value in facts.items() for line in _rows(fact.replace("_", " "), value))


def _rows(fact: str, value: Any) -> list[str]:
    """Returns the lines of a fact, in two columns; a list takes one line per item."""
    items = value if isinstance(value, list) else [f"{value:,}" if isinstance(value, int) else value]
    escape = name if fact in ("name", "location") else printable
    return [f"{fact if i == 0 else '':<22}{escape(str(item))}" for i, item in enumerate(items)]


def _signatures(spec: ModelSpec) -> dict[str, Any]:
    """Returns a SavedModel's signatures and the one that is called; an empty dict for other formats."""
    if spec.format not in ("tf2", "tf1_hub"):
        return {}
    from transforms.models import handles, hub

    variants = hub.read(handles.local_path(spec.location, spec.storage)).variants
    return {
        "signatures": [
            f"[{','.join(tags)}] {name}{signature}"
            for tags, signatures in variants.items()
            for name, signature in sorted(signatures.items())
        ]
        or ["none"],
        "called": f"[{','.join(spec.tags)}] {spec.signature or '__call__'}",
    }


def _interface(spec: ModelSpec) -> dict[str, Any]:
    """Returns the files, inputs and outputs of a portable model; an empty dict for other formats."""
    from transforms.models import handles, portable

    model = portable.find(handles.local_path(spec.location, spec.storage)) if spec.location else None
    if model is None:
        return {}
    from transforms.models.engines import portable_model

    description = portable_model.describe(model)
    interface = description.interface(spec.output or None)
    return {
        "files": [f"{name}, {file.stat().st_size:,} bytes" for name, file in model.files.items()],
        "input": [f"{name}: {info}" for name, info in description.signature.inputs.items()],
        "outputs": [f"{name}: {info}" for name, info in description.signature.outputs.items()],
        "called": interface.output,
        "images": f"{interface.dtype} {'NCHW' if interface.channels_first else 'NHWC'}, "
        f"{interface.batch_size or 'any number'} a call",
    }


def _similarity(spec: ModelSpec) -> dict[str, Any]:
    """Returns the median cosine between sample images and a warning, if any; an empty dict for a bundled model."""
    found = similarity.finding(spec)
    if found is None:
        return {}
    text = similarity.warning(spec, found)
    facts = {"spread": f"median cosine {found.similarity:.3f} between sample images"}
    return facts | ({"warning": text} if text else {})


def _cost(spec: ModelSpec, batch_size: int) -> dict[str, Any]:
    """Returns the number of parameters, the engine, and the speed and memory of batches of black images."""
    import numpy as np

    from transforms.models.engines import loading, throughput

    parameters = _parameters(spec)
    model = loading.load(spec, batch_size)
    images = np.zeros((batch_size, *spec.image_size, 3), np.uint8)
    before = _peak_mib()
    rate = throughput.images_per_second(model, images, _TIMED_SECONDS)
    return {
        "parameters": parameters,
        "engine": model.engine,
        "speed": f"{rate:.1f} images/s, {model.calls_at_once} batches of {batch_size} at a time",
        "memory": f"{_peak_mib():.0f} MiB at its peak, {_peak_mib() - before:.0f} of it for the batches",
    }


def _parameters(spec: ModelSpec) -> int | str:
    from transforms.models import handles, portable

    if spec.format in portable.FORMATS.values():
        from transforms.models.engines import portable_model

        model = portable.find(handles.local_path(spec.location, spec.storage))
        parameters = portable_model.describe(model).parameters if model else None
        return "unknown, OpenVINO does not read the model" if parameters is None else parameters
    from transforms.models.engines import opening

    return opening.open_model(spec).parameters()


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
