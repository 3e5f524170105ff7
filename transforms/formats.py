"""The formats of the input: single images, lists that name images, or shards of many images."""

SHARD_FORMATS = ("tfrecord", "tar")
INPUT_FORMATS = ("images", "list", *SHARD_FORMATS)


def check_input_format(input_format: str) -> None:
    """Raises ValueError if there is no such format."""
    if input_format not in INPUT_FORMATS:
        raise ValueError(f"input_format={input_format!r}: expected one of {', '.join(INPUT_FORMATS)}")
