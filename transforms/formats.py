"""What an input may be: images of their own, lists that name them, or shards that hold many."""

SHARD_FORMATS = ("tfrecord", "tar")
INPUT_FORMATS = ("images", "list", *SHARD_FORMATS)
