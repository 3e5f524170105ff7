"""transforms.vector_files: the names of the places where vectors lie."""

from transforms import vector_files
from transforms.encoding import examples
from transforms.models.spec import ModelFields


def test_the_schema_says_the_type_of_the_vectors(tmp_path):
    model = ModelFields("m", "d" * 64, 3)
    vector_files.write_schema(str(tmp_path), model, "float16")
    assert examples.shapes((tmp_path / "schema.pbtxt").read_text()) == "vectors of 3 dimensions in float16"


def test_places(tmp_path):
    assert vector_files.directory("gs://b/out", "r") == "gs://b/out/embeddings/r"
    assert vector_files.SUFFIXES == (".tfrecord", ".parquet")
    model = ModelFields("m", "d" * 64, 3)
    vector_files.write_schema(str(tmp_path), model)
    assert (tmp_path / "schema.pbtxt").read_bytes() == vector_files.schema(model)
    assert examples.shapes(vector_files.schema(model).decode()) == "vectors of 3 dimensions"
