"""The modules beside an experiment's file: found in this process, and in those that Ray starts for it."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.job_config import JobConfig

_directories: list[str] = []


def find_in(directory: str) -> None:
    """Lets this process find modules in a directory, behind all others, and Ray where it starts from now on."""
    if directory not in _directories:
        _directories.append(directory)
    if directory not in sys.path:
        sys.path.append(directory)


def job_config() -> "JobConfig":
    """For ``ray.init``: its processes look in these directories as they do in the current one."""
    from ray.job_config import JobConfig

    return JobConfig(_py_driver_sys_path=list(_directories))  # Ray appends the current directory, and a script's own.
