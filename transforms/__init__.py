"""The stages of the pipeline as PTransforms, in the order of the data; docs/library.md builds a pipeline from them.

The names in `__all__` are the public interface. Each is imported at its first use, so a module in a folder below can be
imported without Beam.
"""

import importlib
from typing import Any

_MODULES = {
    "ListImages": "list",
    "DescribeImages": "list",
    "SkipKnown": "skip",
    "FindCopies": "copies",
    "DigestImages": "read",
    "ReadImages": "read",
    "DecodeImages": "decode",
    "DecodeInProcesses": "decode_in_processes",
    "EmbedImages": "embed",
    "CopyVectors": "copies",
    "WriteTFRecords": "write_tfrecord",
    "WriteParquet": "write_parquet",
    "WriteBigQuery": "write_bigquery",
    "GatherFailures": "failures",
    "WriteFailures": "failures",
    "WriteShards": "output.shards",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
