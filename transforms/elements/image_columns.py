"""The facts of an image as columns, the same in Parquet files, in BigQuery and in vector searches."""

from transforms.elements import keys
from transforms.elements.records import ImageInfo


def columns_of(info: ImageInfo) -> dict[str, str | int]:
    """Returns name → value of the columns of an image."""
    return {
        "key": keys.text(info.ref.key),
        "sha256": info.sha256,
        "version": info.ref.version,
        "format": info.format,
        "height": info.height,
        "width": info.width,
        "size": info.ref.size,
        "crc32c": info.ref.crc32c,
        "shard": keys.text(info.ref.in_shard),
    }
