"""Makes the processes of a job import this project, whatever is in the working directory.

Beam starts its workers by `python -m`, which searches the working directory first. A `pipeline/` or `transforms/` there
would be imported in place of this project's.
"""

import contextlib
import os
import site
from collections.abc import Iterator, Mapping
from pathlib import Path

import transforms


def variables() -> Mapping[str, str]:
    """Returns environment variables that let a child Python import this project from the same place as this process.

    An installed project is found without PYTHONPATH, which would also put all that is installed before Python's own
    modules.
    """
    root = str(Path(transforms.__file__).parents[1])
    is_installed = root in (*site.getsitepackages(), site.getusersitepackages())
    paths = [*([] if is_installed else [root]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONSAFEPATH": "1", **({"PYTHONPATH": os.pathsep.join(paths)} if paths else {})}


@contextlib.contextmanager
def for_children() -> Iterator[None]:
    """Sets `variables` for the processes that start in this block."""
    new = variables()
    before = {name: os.environ.get(name) for name in new}
    os.environ.update(new)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
