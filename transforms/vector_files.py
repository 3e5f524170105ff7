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


def schema(model: ModelFields, vector_type: str = "float32") -> bytes:
    """Returns the content of `schema.pbtxt`; `vector_type` is that of TFRecords."""
    return examples.schema_text(model, vector_type).encode()


def write_schema(output: str, model: ModelFields, vector_type: str = "float32") -> None:
    """Writes `<output>/schema.pbtxt`."""
    files.write(f"{output}/{SCHEMA}", schema(model, vector_type))
