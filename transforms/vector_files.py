"""Where the vectors of a run lie, in files of any format, and the schema beside them."""

from transforms.encoding import examples
from transforms.formats import OUTPUT_FORMATS
from transforms.models.spec import ModelFields
from transforms.storage import files

SCHEMA = "schema.pbtxt"
SUFFIXES = tuple(f".{output_format}" for output_format in OUTPUT_FORMATS)


def directory(output: str, run_id: str) -> str:
    """Returns the directory of a run's shards."""
    return f"{output}/embeddings/{run_id}"


def schema(model: ModelFields) -> bytes:
    """Returns the content of `schema.pbtxt`."""
    return examples.schema_text(model).encode()


def write_schema(output: str, model: ModelFields) -> None:
    """Writes `<output>/schema.pbtxt`."""
    files.write(f"{output}/{SCHEMA}", schema(model))
