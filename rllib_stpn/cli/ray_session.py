"""Ray for one command: started small and quiet, or joined where it runs already."""

import contextlib
import dataclasses
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from typing import Any

from rllib_stpn import checks
from rllib_stpn.cli.terminal import live, tell
from rllib_stpn.cpus import available_cpus
from rllib_stpn.errors import UsageError
from rllib_stpn.experiments.resources import Cluster

_ENVIRONMENT = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Signals are ours, see `signals`.
    "RAY_USAGE_STATS_ENABLED": "0",
    # torch's threads sleep while they wait for each other: where a CPU has other work, too, those that spin take the
    # time of those they wait for.
    "OMP_WAIT_POLICY": "PASSIVE",
    # What is kept of each call for a dashboard, which grows for as long as a run lasts.
    "RAY_task_events_report_interval_ms": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray 2.60 warns where it is not set.
    # Ray would wait for workers that it starts ahead, and for ever where one fails, as where the machine sleeps.
    "RAY_prestart_worker_first_driver": "0",
}
_OBJECT_STORE = 512 * 2**20  # Bytes, for fragments and weights; the system only gives what is used.


@dataclasses.dataclass(frozen=True)
class Machine:
    """Where to run.

    Attributes:
        address: The Ray cluster to join; None or "local" starts Ray on this machine.
        num_cpus: CPUs to use, None for all.
        verbosity: 0 shows our own lines only, 1 Ray's and the trials' output, 2 also debugging output.
    """

    address: str | None = None
    num_cpus: int | None = None
    verbosity: int = 0

    def __post_init__(self):
        if self.address == "local":
            object.__setattr__(self, "address", None)
        if self.num_cpus is not None:
            checks.integer("--ray-num-cpus", self.num_cpus, at_least=1)
        if self.num_cpus is not None and self.address is not None:
            raise UsageError(
                f"--ray-num-cpus: the cluster at {self.address!r} (--ray-address or RAY_ADDRESS) brings its own CPUs; "
                "`--ray-address local` starts Ray here"
            )

    def cpus_before_start(self) -> int:
        """The CPUs that Ray will have on this machine."""
        return self.num_cpus if self.num_cpus is not None else available_cpus()


def silence() -> None:
    """Keeps the warnings and log lines of Ray and RLlib from the terminal."""
    warnings.filterwarnings("ignore")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
    import ray  # Sets its loggers' levels when imported, and again when started.

    for name in (ray.__name__, "ray.rllib", "ray.tune", "ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def notes_on_shared_memory() -> list[str]:
    """What to know where Ray's processes cannot exchange data in memory: Ray itself only logs it."""
    try:
        free = shutil.disk_usage("/dev/shm").free
    except OSError:  # There is none on macOS and Windows.
        return []
    if free >= _OBJECT_STORE:
        return []
    return [
        f"/dev/shm has {free / 2**20:,.0f} MB free, and Ray would use {_OBJECT_STORE / 2**20:,.0f}: what its processes "
        "exchange goes through files on the disk, which is slower (docker run --shm-size=1g gives more)"
    ]


@contextlib.contextmanager
def ray_running(machine: Machine) -> Iterator[Cluster]:
    """Starts (or joins) Ray, and ends it afterwards.

    Args:
        machine: Where.

    Yields:
        What its machines have.

    Raises:
        UsageError: As :func:`rllib_stpn.experiments.ray_start.start_ray` does.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    from rllib_stpn.experiments.ray_start import start_ray

    options: dict[str, Any] = {
        "log_to_driver": machine.verbosity > 0,
        "logging_level": (logging.CRITICAL, logging.WARNING, logging.DEBUG)[min(machine.verbosity, 2)],
    }
    if machine.address is None:
        options["num_cpus"] = machine.cpus_before_start()
        options |= {"include_dashboard": False, "object_store_memory": _OBJECT_STORE}
    already = ray.is_initialized()
    if machine.address is None and not already:
        tell(notes_on_shared_memory())
    live("setting up  Ray")
    cluster = start_ray(machine.address, **options)
    if not machine.verbosity:
        silence()
    try:
        yield cluster
    finally:
        if not already:
            ray.shutdown()
