"""What the processes of a job import, whatever lies in the working directory.

Python puts the working directory first for `python -m`, by which Beam starts its workers. A `pipeline/` or
`transforms/` that lies there would be imported in place of this project's.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pipeline


@contextlib.contextmanager
def for_children() -> Iterator[None]:
    """Lets processes that start in this block find this project where this process has found it, and first."""
    root = str(Path(pipeline.__file__).parents[1])
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "PYTHONSAFEPATH")}
    os.environ["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [before["PYTHONPATH"]])])
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
