"""The file `schema.pbtxt`: the schema of an output's TFRecords, for TensorFlow Data Validation and for later runs."""

import contextlib

from transforms.encoding import examples
from transforms.models.spec import ModelFields
from transforms.output import layout
from transforms.storage import contested


def content(model: ModelFields, vector_type: str = "float32") -> bytes:
    """Returns the content of the file; `vector_type` is that of TFRecords."""
    return examples.schema_text(model, vector_type).encode()


def write(output: str, model: ModelFields, vector_type: str = "float32") -> None:
    """Writes the file. If several processes write the first one at once, one wins.

    Raises:
      ValueError: see `check`.
    """
    path, own = layout.schema(output), content(model, vector_type)
    present = contested.read(path)
    if present is None:
        with contextlib.suppress(contested.Lost):
            contested.create(path, own)
            return
        present = contested.read(path)
    if present and present.content != own:
        check(output, present.content, model, vector_type)
        contested.write(path, own, present.state)


def check(output: str, stored: bytes, model: ModelFields, vector_type: str = "float32") -> None:
    """Raises ValueError if the schema stored in an output describes other records than those of a run."""
    shapes, own = examples.shapes(stored.decode()), examples.shapes(examples.schema_text(model, vector_type))
    if shapes != own:
        raise ValueError(
            f"--output {output!r} holds {shapes} and model {model.model_name!r} gives {own}: give each its own --output"
        )
