"""The account of this process: a home and a name, also for a user id that is not in the system's list of users.

Containers start processes under such ids. Libraries ask for the home when they are imported, and then raise errors of
their own: OpenVINO, Beam for the name of a Dataflow job, the clients of model hubs.
"""

import getpass
import os
import tempfile
from pathlib import Path

from transforms.storage import private


def complete() -> None:
    """Sets HOME and USER if they are unknown, for this process and those that it starts.

    HOME is then a directory of this user in the system's temporary directory, which later runs find again. If its name
    is taken by another user, HOME is a new directory.
    """
    if os.path.expanduser("~") == "~":  # noqa: PTH111 - Path.home() raises an error
        os.environ["HOME"] = str(_home())
    try:
        getpass.getuser()  # of the environment, or else of the system's list
    except (KeyError, OSError):  # the latter from Python 3.13 on
        os.environ["USER"] = f"user{os.geteuid()}"


def _home() -> Path:
    try:
        return private.make(Path(tempfile.gettempdir(), f"beam-image-embeddings-{os.geteuid()}"), "TMPDIR")
    except (private.NotPrivate, OSError):
        return Path(tempfile.mkdtemp(prefix="beam-image-embeddings-"))
