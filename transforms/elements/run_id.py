"""Names of runs. They are also parts of paths and values in tables. No Beam."""

import re

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_run_id(run_id: str) -> None:
    """Raises ValueError if a run cannot have this name."""
    if not _RUN_ID.fullmatch(run_id):
        raise ValueError(
            f"{run_id!r}: expected letters, digits, dots, dashes and underscores, at most 100, the first of them a "
            "letter or digit"
        )
