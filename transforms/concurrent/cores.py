"""How many of a machine's cores this process may use."""

import math
import os
from pathlib import Path

# In a container this is the container's own group. Limits of the groups above it are not read.
_CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """Returns the number of computing threads that use all the CPU time this process may have.

    A process may be restricted to some of the cores (`taskset`, a cpuset). A container may have a limit on CPU time
    (`docker run --cpus`, the limit of a Kubernetes pod). More threads than that would only wait for each other.

    Args:
      cgroup: the directory of the control group's files.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, _limit(cgroup) or allowed)


def _limit(cgroup: Path) -> int | None:
    """Returns the CPU limit of a control group in cores, rounded up; None if it has no limit.

    In version 2 of control groups, `cpu.max` holds the quota and its period, both in microseconds, or `max` for no
    limit: https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files. In version 1 two files hold them,
    with -1 for no limit: https://docs.kernel.org/scheduler/sched-bwc.html.
    """
    for files in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        try:
            quota, period = " ".join((cgroup / name).read_text() for name in files).split()
            return math.ceil(int(quota) / int(period)) if int(quota) > 0 else None
        except (OSError, ValueError):  # no such file, or `max`
            continue
    return None
