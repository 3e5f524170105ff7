"""BigQuery: the tables, and publishing a run's rows in them.

The modules are imported at their first use, as `warehouse.tables` and so on, because they import BigQuery's client. A
job without a table does not need it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.warehouse import publish, tables

__all__ = ["publish", "tables"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")
