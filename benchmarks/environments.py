"""Environments for contenders whose libraries conflict with this project's; made on first use, and then reused."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

# This project's versions of TensorFlow and Pillow, so that only the compared libraries differ.
_SHARED = ("tensorflow==2.21.0", "pillow==12.3.0")
REQUIREMENTS = {
    "ray": ("ray[data]==2.60.0", *_SHARED),
    "daft": ("daft==0.7.26", *_SHARED),
}


def python(name: str, cache: Path) -> str:
    """Returns the path of an environment's Python, after making the environment if it does not exist.

    Args:
      name: a key of REQUIREMENTS, or `project` for the current environment.
      cache: the directory for environments.

    Raises:
      subprocess.CalledProcessError: if the environment cannot be installed.
    """
    if name == "project":
        return sys.executable
    requirements = REQUIREMENTS[name]
    digest = hashlib.sha256("\n".join((sys.version, *requirements)).encode()).hexdigest()[:12]
    directory = cache / "environments" / f"{name}-{digest}"
    interpreter = directory / "bin" / "python"
    complete = directory / "complete"
    if not complete.exists():
        print(f"installing {', '.join(requirements)} into {directory}", file=sys.stderr)
        shutil.rmtree(directory, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", directory], check=True)
        subprocess.run([*_install(interpreter), *requirements], check=True)
        complete.touch()
    return str(interpreter)


def _install(interpreter: Path) -> list[str]:
    own_uv = Path(sys.executable).parent / "uv"
    if uv := shutil.which(own_uv) or shutil.which("uv"):
        return [uv, "pip", "install", "--quiet", "--python", str(interpreter)]
    return [str(interpreter), "-m", "pip", "install", "--quiet"]
