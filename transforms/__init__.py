"""The stages of the pipeline as PTransforms, in the order of the data; docs/library.md builds a pipeline from them.

The names in `__all__` are the public interface. Each is imported at its first use, so a module in a folder below can be
imported without Beam.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transforms.copies import CopyVectors, FindCopies
    from transforms.decode import DecodeImages
    from transforms.decode_in_processes import DecodeInProcesses
    from transforms.embed import EmbedImages
    from transforms.failures import GatherFailures, WriteFailures
    from transforms.list import DescribeImages, ListImages
    from transforms.output.shards import WriteShards
    from transforms.read import DigestImages, ReadImages
    from transforms.skip import SkipKnown
    from transforms.write_bigquery import WriteBigQuery
    from transforms.write_parquet import WriteParquet
    from transforms.write_tfrecord import WriteTFRecords

__all__ = [
    "CopyVectors",
    "DecodeImages",
    "DecodeInProcesses",
    "DescribeImages",
    "DigestImages",
    "EmbedImages",
    "FindCopies",
    "GatherFailures",
    "ListImages",
    "ReadImages",
    "SkipKnown",
    "WriteBigQuery",
    "WriteFailures",
    "WriteParquet",
    "WriteShards",
    "WriteTFRecords",
]
_MODULES = {
    "copies": ("CopyVectors", "FindCopies"),
    "decode": ("DecodeImages",),
    "decode_in_processes": ("DecodeInProcesses",),
    "embed": ("EmbedImages",),
    "failures": ("GatherFailures", "WriteFailures"),
    "list": ("DescribeImages", "ListImages"),
    "output.shards": ("WriteShards",),
    "read": ("DigestImages", "ReadImages"),
    "skip": ("SkipKnown",),
    "write_bigquery": ("WriteBigQuery",),
    "write_parquet": ("WriteParquet",),
    "write_tfrecord": ("WriteTFRecords",),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
