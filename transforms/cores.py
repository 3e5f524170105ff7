"""How many of a machine's cores this process may use."""

import math
import os
from pathlib import Path

# In a container, its own group. A limit of a group above it is not looked for.
_CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """Returns with how many threads that compute this process has all the time that it can get.

    It may be kept to some of the cores (`taskset`, a cpuset), or in a container to so many cores' time (`docker run
    --cpus`, the limit of a Kubernetes pod): more threads would then just wait for each other.

    Args:
      cgroup: where the control group's files are.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, _limit(cgroup) or allowed)


def _limit(cgroup: Path) -> int | None:
    """Returns how many cores' time a control group is given, rounded up; None where it has no limit.

    https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files: `cpu.max` holds microseconds of CPU time, or
    `max`, and in how many microseconds; https://docs.kernel.org/scheduler/sched-bwc.html: in version 1 two files do,
    with -1 for no limit.
    """
    for files in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        try:
            quota, period = " ".join((cgroup / name).read_text() for name in files).split()
            return math.ceil(int(quota) / int(period)) if int(quota) > 0 else None
        except (OSError, ValueError):  # not there, or `max`
            continue
    return None
