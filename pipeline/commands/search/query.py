"""The query: an image that the model of the run embeds now, or an image of the run."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.commands.search import names
from pipeline.flags import command_lines, flag_types
from pipeline.known import recorded_model, vector_shards
from pipeline.report import run_report
from transforms.elements import keys
from transforms.elements.one_line import one_line
from transforms.elements.records import ImageRef
from transforms.images import decoding
from transforms.models.spec import ModelSpec
from transforms.output import layout
from transforms.storage import read_image
from transforms.storage.context import DEFAULT_STORAGE, Storage


class Embedder:
    """The model of stored vectors, for further images."""

    def __init__(self, spec: ModelSpec):
        from transforms.models.engines import loading

        self._spec = spec
        self._model = loading.load(spec, 1)

    def __call__(self, encoded: bytes) -> npt.NDArray[np.float32]:
        """Returns the vector of an encoded image, float32 (dimension,).

        Raises:
          ValueError: if it cannot be decoded or embedded.
        """
        pixels = decoding.decode(encoded, self._spec.image_size, self._spec.preprocessing.resizing).pixels
        return self._model(pixels[None])[0]


def embedder(
    shards: Sequence[str], digest: str, handle: str | None = None, storage: Storage = DEFAULT_STORAGE
) -> Embedder:
    """Returns the model of vectors, as named in the report of their last run.

    Args:
      shards, digest: as for `vector_shards.blocks`.
      handle: where the model is now; None for where the run had it.
      storage: how buckets are reached.

    Raises:
      ValueError: if there is no such report, or another model now. The message has the flag that fits, if one is known.
    """
    output, run_id = vector_shards.run_of(shards[-1])
    path = layout.report(output, run_id)
    report = run_report.read(output, run_id) if output else None
    if report is None:
        raise ValueError(f"{shards[-1]}: expected the report of its run, {path!r}, which tells the model")
    try:
        return Embedder(recorded_model.find(report.model, digest, storage, handle))
    except ValueError as error:
        recorded = report.model["location"] or report.model["name"]
        advice = ": give its place as --model HANDLE"
        if handle not in (None, recorded):
            advice = f"; the run had it by {command_lines.join(['--model', recorded])}"
        raise ValueError(f"{one_line(error)}; the model of the vectors has the digest {digest}{advice}") from error


def read(uri: str, storage: Storage = DEFAULT_STORAGE) -> bytes:
    """Returns the bytes of an encoded image. Raises ValueError if it cannot be read."""
    try:
        return read_image.read(storage, ImageRef(keys.of_uri(uri))).encoded
    except (OSError, ValueError) as error:
        raise ValueError(f"--image {uri!r} cannot be read: {one_line(error)}") from error


def stored(shards: Sequence[str], digest: str, name: str) -> tuple[bytes, npt.NDArray[np.float32]]:
    """Returns the key of an image of the runs and its last vector, float32 (dimension,).

    Args:
      shards, digest: as for `vector_shards.blocks`.
      name: the key as the run listed it; else the path of a local file, which may be relative; else the key as people
        see it, see `names.means`.

    Raises:
      ValueError: if there is no such image.
    """
    exact, absolute = keys.of_uri(name), keys.of_uri(flag_types.absolute(name))
    has_escapes = "\\" in name
    candidates: dict[bytes, npt.NDArray[np.float32]] = {}
    for path in reversed(shards):
        for block in vector_shards.blocks([path], digest):
            for row, key in enumerate(block.keys):
                if key == exact:
                    return key, block.matrix[row]
                if key not in candidates and (key == absolute or (has_escapes and names.means(name, key))):
                    candidates[key] = block.matrix[row].copy()  # a view would hold the whole block
    if not candidates:
        raise ValueError(f"--key {name!r}: no image of this key: expected one as the run listed it")
    return min(candidates.items(), key=lambda candidate: candidate[0] != absolute)
