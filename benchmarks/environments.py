"""Environments of their own for those whose libraries do not go with this project's; made on first use, and kept."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

# The TensorFlow and the Pillow of this project, so that nothing differs but what is compared.
_SAME = ("tensorflow==2.21.0", "pillow==12.3.0")
REQUIREMENTS = {
    "ray": ("ray[data]==2.60.0", *_SAME),
    "daft": ("daft==0.7.26", *_SAME),
}


def python(name: str, cache: Path) -> str:
    """Returns the Python of an environment, installed from the package index where it is not there yet.

    Args:
      name: of REQUIREMENTS, or `project` for the environment that this runs in.
      cache: below which it is kept.

    Raises:
      subprocess.CalledProcessError: if it cannot be installed.
    """
    if name == "project":
        return sys.executable
    requirements = REQUIREMENTS[name]
    digest = hashlib.sha256("\n".join((sys.version, *requirements)).encode()).hexdigest()[:12]
    directory = cache / "environments" / f"{name}-{digest}"
    found = directory / "bin" / "python"
    complete = directory / "complete"
    if not complete.exists():
        print(f"installing {', '.join(requirements)} into {directory}", file=sys.stderr)
        shutil.rmtree(directory, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", directory], check=True)
        subprocess.run([*_install(found), *requirements], check=True)
        complete.touch()
    return str(found)


def _install(interpreter: Path) -> list[str]:
    beside = Path(sys.executable).parent / "uv"
    if uv := shutil.which(beside) or shutil.which("uv"):
        return [uv, "pip", "install", "--quiet", "--python", str(interpreter)]
    return [str(interpreter), "-m", "pip", "install", "--quiet"]
