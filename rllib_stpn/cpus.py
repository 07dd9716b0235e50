"""How many CPUs this process may use: affinity and, in a container, the quota of CPU time."""

import functools
import math
import os
from collections.abc import Iterator
from pathlib import Path


def available_cpus() -> int:
    """CPUs that this process may use: those it is bound to, or fewer where its cgroups allow less CPU time."""
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # Not on macOS and Windows.
        cpus = os.cpu_count() or 1
    return int(min(cpus, allowed_by_quota()))


@functools.cache
def allowed_by_quota() -> int | float:
    """The quota in whole CPUs, rounded down, at least 1; infinity where there is none."""
    quota = cpu_quota()
    return math.inf if quota is None else max(1, math.floor(quota))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """CPU seconds per second that the cgroups of this process allow, of versions 1 and 2; None for no limit.

    Cgroups are nested, and the smallest quota up the tree counts.

    Args:
        root: Where the file system begins.
    """
    try:
        quotas = [quota for directory in _cgroups(root) if (quota := _quota(directory)) is not None]
    except (OSError, ValueError):  # Not Linux, or not as Linux writes it.
        return None
    return min(quotas, default=None)


def _cgroups(root: Path) -> Iterator[Path]:
    """The directories of the process's cgroups that can limit its CPU time, from its own up to the mounted one."""
    own: dict[str, Path] = {}  # where the process is in the hierarchy of each controller; "" is version 2's only one
    for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, inside = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), Path(inside)))
    for line in (root / "proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        mount, _, file_system = line.partition(" - ")
        kind, *_, options = file_system.split()
        if kind == "cgroup2" and "" in own:
            path = own[""]
        elif kind == "cgroup" and "cpu" in own and "cpu" in options.split(","):
            path = own["cpu"]
        else:
            continue
        top, point = (Path(field) for field in mount.split()[3:5])
        mounted = root / point.relative_to("/")
        # Within a container the path may be the host's, and only the container's own part of it is mounted.
        directory = mounted / path.relative_to(top) if path.is_relative_to(top) and ".." not in path.parts else mounted
        yield directory
        while directory != mounted:
            directory = directory.parent
            yield directory


def _quota(directory: Path) -> float | None:
    """What one cgroup allows."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = " ".join((directory / name).read_text(encoding="utf-8") for name in names).split()
        except (OSError, ValueError):
            continue
        return None if quota == "max" or int(quota) <= 0 else int(quota) / int(period)
    return None
