"""Where the vectors of a run lie, in files of any format, and the schema beside them."""

import contextlib

from transforms.elements.formats import OUTPUT_FORMATS
from transforms.encoding import examples
from transforms.models.spec import ModelFields
from transforms.storage import contested

SCHEMA = "schema.pbtxt"
SUFFIXES = tuple(f".{output_format}" for output_format in OUTPUT_FORMATS)


def directory(output: str, run_id: str) -> str:
    """Returns the directory of a run's shards."""
    return f"{output}/embeddings/{run_id}"


def schema(model: ModelFields, vector_type: str = "float32") -> bytes:
    """Returns the content of `schema.pbtxt`; `vector_type` is that of TFRecords."""
    return examples.schema_text(model, vector_type).encode()


def write_schema(output: str, model: ModelFields, vector_type: str = "float32") -> None:
    """Writes `<output>/schema.pbtxt`. Of several that write the first one at once, one wins.

    Raises:
      ValueError: see `check_schema`.
    """
    path, content = f"{output}/{SCHEMA}", schema(model, vector_type)
    present = contested.read(path)
    if present is None:
        with contextlib.suppress(contested.Lost):
            contested.create(path, content)
            return
        present = contested.read(path)
    if present and present.content != content:
        check_schema(output, present.content, model, vector_type)
        contested.write(path, content, present.state)


def check_schema(output: str, stored: bytes, model: ModelFields, vector_type: str = "float32") -> None:
    """Raises ValueError if a schema that is stored in an output describes other records than those of a run."""
    shapes, own = examples.shapes(stored.decode()), examples.shapes(examples.schema_text(model, vector_type))
    if shapes != own:
        raise ValueError(
            f"--output {output!r} holds {shapes} and model {model.model_name!r} gives {own}: give each its own --output"
        )
