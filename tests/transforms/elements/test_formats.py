"""transforms.elements.formats: every kind of input that a flag names can be listed and read, and no other."""

import apache_beam as beam
import pytest

from pipeline.flags import options
from tests.helpers import data_generation as data
from tests.helpers.collecting import collect
from transforms.elements.formats import INPUT_FORMATS, SHARD_FORMATS
from transforms.list import ListImages
from transforms.read import ReadImages


def test_shards_are_formats_and_the_first_format_is_the_default():
    assert set(SHARD_FORMATS) == {"tfrecord", "tar"} < set(INPUT_FORMATS)
    assert len(INPUT_FORMATS) == 4  # each is read below
    assert options.parse([])[0].input_format == INPUT_FORMATS[0] == "images"


@pytest.mark.parametrize("input_format", ["images", "list", "tfrecord", "tar"])
def test_each_is_listed_and_read(tmp_path, input_format):
    content = data.jpeg(0, 24, 32)
    image = tmp_path / "a.jpg"
    image.write_bytes(content)
    if input_format == "list":
        (tmp_path / "in").write_text(f"{image}\n")
    elif input_format == "tar":
        data.write_tar(tmp_path / "in", {"a.jpg": content})
    elif input_format == "tfrecord":
        data.write_tfrecords(tmp_path / "in", [data.image_example(content)])
    else:
        image.rename(tmp_path / "in")

    def build(root: beam.Pipeline):
        listed = root | ListImages((str(tmp_path / "in"),), input_format, read_concurrency=1)
        read = listed.main | ReadImages(input_format, 1)
        return {
            "images": read.main | beam.FlatMap(lambda block: block.images),
            "failures": (listed.failures, read.failures) | beam.Flatten(),
        }

    outputs, _ = collect(build)
    assert [each.encoded for each in outputs["images"]] == [content] and outputs["failures"] == []
