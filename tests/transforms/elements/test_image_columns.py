"""transforms.elements.image_columns: keys are text, and all formats have the same columns."""

from transforms import write_bigquery
from transforms.elements.image_columns import columns_of
from transforms.elements.records import ImageInfo, ImageRef
from transforms.encoding import parquet


def test_the_columns_of_an_image():
    ref = ImageRef(b"a\xe9.jpg", "1", 7, "AAAAAA==", in_shard=b"b.tar")
    columns = columns_of(ImageInfo(ref, "ab" * 32, "jpeg", 3, 4))
    assert list(columns.values()) == ["a\\xe9.jpg", "ab" * 32, "1", "jpeg", 3, 4, 7, "AAAAAA==", "b.tar"]
    assert list(columns) == list(parquet._FACTS)
    assert list(columns) == [column["name"] for column in write_bigquery.EMBEDDING_COLUMNS][: len(columns)]
