"""The circumstances of a measurement: machine, versions, commit."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from benchmarks import environments
from transforms.concurrent.cores import usable_cores

_PACKAGES = ("apache-beam", "tensorflow", "tfx-bsl", "pillow", "simplejpeg", "cykooz-resizer", "numpy")
_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}


def description() -> dict[str, object]:
    """Returns the processor, its cores and memory, and its load; call it before measuring."""
    return {
        "cpu": _cpu("model name") or platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "bfloat16": has_bfloat16(),
        "system": platform.platform(),
        "load_average": os.getloadavg()[0],
    }


def has_bfloat16() -> bool:
    """Returns whether the processor has instructions for bfloat16."""
    return bool(_BFLOAT16 & set((_cpu("flags") or _cpu("Features")).split()))


def on_cores(number: int) -> list[str]:
    """Returns the beginning of a command that may use so many of this process's cores."""
    return ["taskset", "--cpu-list", ",".join(map(str, sorted(os.sched_getaffinity(0))[:number]))]


def versions() -> dict[str, str]:
    """Returns the versions of Python, of this project's libraries and of the libraries of its peers."""
    peers = [requirement.split("==") for requirement, *_ in environments.REQUIREMENTS.values()]
    return {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES} | dict(peers)


def commit() -> str:
    """Returns the commit as git describes it; it ends in `-dirty` if files differ from the commit."""
    root = Path(__file__).parents[1]
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def _cpu(field: str) -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""
