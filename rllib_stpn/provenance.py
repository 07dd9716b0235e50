"""How a training was started, and on what: written beside its results, since Tune keeps neither."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_FILE = "started.jsonl"
_PACKAGES = ("rllib-stpn", "ray", "torch", "numpy", "numba", "gymnasium", "ale-py", "mujoco")


def record(experiment: Path) -> None:
    """Adds a line to the experiment's ``started.jsonl``: the command, the versions and the machine."""
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    line = {
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": _command(),
        "versions": versions(),
        "machine": ", ".join([_processor(), f"{os.cpu_count()} CPUs", *_memory(), *gpus, platform.platform()]),
    }
    experiment.mkdir(parents=True, exist_ok=True)
    with (experiment / _FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def recorded(experiment: Path) -> list[dict[str, Any]]:
    """The lines of an experiment's ``started.jsonl`` that are whole; none where there is no such file."""
    lines = []
    file = experiment / _FILE
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:  # half-written
            continue
    return [line for line in lines if isinstance(line, dict) and {"command", "versions", "machine"} <= line.keys()]


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide what a training does."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _command() -> str:
    program, *arguments = sys.argv
    ours = Path(program).name == "rllib" or program.endswith("rllib_stpn/cli/main.py")
    return shlex.join(["rllib" if ours else program, *arguments])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # Only on Linux.
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory() -> list[str]:
    try:
        return [f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"]
    except (AttributeError, ValueError, OSError):  # Not on Windows.
        return []
