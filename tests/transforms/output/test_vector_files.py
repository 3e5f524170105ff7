"""transforms.output.vector_files: the names of the places where vectors lie."""

import pytest

from transforms.encoding import examples
from transforms.models.spec import ModelFields
from transforms.output import vector_files
from transforms.storage import contested


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


def test_of_two_first_schemas_one_wins_and_the_other_is_told(tmp_path, monkeypatch):
    """Both have looked before either has written."""
    output, path = str(tmp_path), tmp_path / "schema.pbtxt"
    first, second = ModelFields("first", "d" * 64, 3), ModelFields("second", "e" * 64, 4)
    read = contested.read

    def look_before_the_first_writes(name):
        present = read(name)
        monkeypatch.setattr(contested, "read", read)
        vector_files.write_schema(output, first)
        return present

    monkeypatch.setattr(contested, "read", look_before_the_first_writes)
    message = (
        "holds vectors of 3 dimensions and model 'second' gives vectors of 4 dimensions: give each its own --output"
    )
    with pytest.raises(ValueError, match=message):
        vector_files.write_schema(output, second)
    assert path.read_bytes() == vector_files.schema(first)
    monkeypatch.setattr(contested, "read", look_before_the_first_writes)
    path.unlink()
    vector_files.write_schema(output, ModelFields("third", "f" * 64, 3))  # of the same form
    assert path.read_bytes() == vector_files.schema(first)
