"""The formats of the input (single images, lists that name images, shards of many images) and of the output."""

from collections.abc import Sequence

SHARD_FORMATS = ("tfrecord", "tar")
INPUT_FORMATS = ("images", "list", *SHARD_FORMATS)
# Of files of vectors. The suffix of a file is a dot and its format.
OUTPUT_FORMATS = ("tfrecord", "parquet")
VECTOR_TYPES = ("float32", "float16")


def check_input_format(input_format: str) -> None:
    """Raises ValueError if there is no such format."""
    if input_format not in INPUT_FORMATS:
        raise ValueError(f"input_format={input_format!r}: expected one of {', '.join(INPUT_FORMATS)}")


def check_vector_type(vector_type: str) -> None:
    """Raises ValueError if there is no such type."""
    if vector_type not in VECTOR_TYPES:
        raise ValueError(f"vector_type={vector_type!r}: expected one of {', '.join(VECTOR_TYPES)}")


def one_of_each_run(paths: Sequence[str]) -> list[str]:
    """Returns files of vectors, without the TFRecords of a run that also has Parquet files of the same vectors.

    >>> one_of_each_run(["/e/1/a.parquet", "/e/1/a.tfrecord", "/e/2/a.tfrecord"])
    ['/e/1/a.parquet', '/e/2/a.tfrecord']
    """
    in_parquet = {path.rpartition("/")[0] for path in paths if path.endswith(".parquet")}
    return [path for path in paths if path.endswith(".parquet") or path.rpartition("/")[0] not in in_parquet]
