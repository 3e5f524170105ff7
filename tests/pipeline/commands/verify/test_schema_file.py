"""pipeline.commands.verify.schema_file: the writer's schemas are read, and others are refused."""

import dataclasses

import pytest

from pipeline.commands.verify import record_file, schema_file
from tests.helpers import outputs
from transforms.encoding import examples

CLASSES = dataclasses.replace(outputs.MODEL, classes=("cat", "dog", "owl"))


def text(model=outputs.MODEL, top_classes=2):
    return examples.schema_text(model.fields(top_classes))


def test_the_schema_of_the_writer():
    columns = schema_file.columns(text().encode())
    assert columns == schema_file.COLUMNS | {"embedding": ("float", 4)}


def test_the_schema_of_a_classifier():
    columns = schema_file.columns(text(CLASSES).encode())
    assert {name: columns[name] for name in record_file.LABELS} == {
        "label/index": ("int", 2),
        "label/name": ("bytes", 2),
        "label/score": ("float", 2),
    }


def test_a_schema_of_a_later_version_may_have_more():
    more = 'feature { name: "image/camera" type: BYTES presence { min_fraction: 1.0 } shape {} }'
    assert schema_file.columns((text() + more).encode())["image/camera"] == ("bytes", 1)


def test_the_schema_before_images_in_shards_were_told():
    before = schema_file.before_shard(text().encode())
    assert schema_file.columns(before).keys() == schema_file.COLUMNS.keys() - {"image/shard"}
    assert schema_file.before_shard(before) == before


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the feature image/key is missing"),
        (b"\xff", "not a schema"),
        (b"feature {", "not a schema"),
        (b"feature {" * 100_000, "not a schema"),
        (text().replace("image/size", "image/depth").encode(), "the feature image/size is missing"),
        (text().replace("type: FLOAT", "type: INT").encode(), r"embedding is \('int', 4\), expected float"),
        (text().replace("size: 4", "size: 4 } dim { size: 2").encode(), "no shape, or one of several dimensions"),
        (text().replace("min_fraction: 1", "min_fraction: 0").encode(), "not one of every record"),
        ((text() * 2).encode(), "image/key is described twice"),
        (text(CLASSES).replace("size: 2", "size: 3", 1).encode(), "the features of classes differ in their number"),
        (text().replace("max: 1", "max: 2").encode(), "the feature image/shard is not one text"),
        (text(CLASSES).replace("label/name", "label/names").encode(), "the feature label/name is missing"),
    ],
    ids=range(12),
)
def test_another_schema_is_refused(content, problem):
    with pytest.raises(ValueError, match=problem):
        schema_file.columns(content)


@pytest.mark.parametrize("name", ["image/key", "image/height", "model/digest"])
def test_a_scalar_is_one_value(name):
    before, named, after = text().partition(f'name: "{name}"')
    content = before + named + after.replace("shape {\n  }", "shape { dim { size: 2 } }", 1)
    with pytest.raises(ValueError, match=rf"the feature {name} is \('(bytes|int)', 2\), expected (bytes|int)"):
        schema_file.columns(content.encode())
