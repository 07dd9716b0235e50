"""Ray for one command: started small and quiet, or joined where it runs already."""

import contextlib
import dataclasses
import logging
import os
import socket
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

from rllib_stpn.cpus import available_cpus
from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import neighbours
from rllib_stpn.experiments.resources import Cluster

_ENVIRONMENT = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Signals are ours, see `signals`.
    "RAY_USAGE_STATS_ENABLED": "0",
    "THP_MEM_ALLOC_ENABLE": "1",  # torch's large tensors in huge pages, which the system hands out faster.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray 2.60 warns where it is not set.
}
# What a client of HTTP/2, and so of gRPC, begins with; the type of the frame that the server begins with (RFC 9113).
_HELLO, _SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0", 4
_OBJECT_STORE = 512 * 2**20  # Bytes, for fragments and weights; the system only gives what is used.
_AT = "--ray-address or RAY_ADDRESS"


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
        if self.num_cpus is not None and self.num_cpus < 1:
            raise UsageError(f"--ray-num-cpus: got {self.num_cpus}, allowed is a whole number of at least 1")
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


@contextlib.contextmanager
def ray_running(machine: Machine) -> Iterator[Cluster]:
    """Starts (or joins) Ray, and ends it afterwards.

    Args:
        machine: Where.

    Yields:
        What its machines have.

    Raises:
        UsageError: No cluster answers at the address, or it has no CPUs, or Ray cannot start on this machine.
    """
    if machine.address is not None:
        _reach(machine.address)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    already = ray.is_initialized()
    if not already:
        options: dict[str, Any] = {
            "log_to_driver": machine.verbosity > 0,
            "logging_level": (logging.CRITICAL, logging.WARNING, logging.DEBUG)[min(machine.verbosity, 2)],
            "job_config": neighbours.job_config(),
        }
        if machine.address is None:
            options |= {
                "address": "local",
                "num_cpus": machine.cpus_before_start(),
                "include_dashboard": False,
                "object_store_memory": _OBJECT_STORE,
            }
        else:
            options["address"] = machine.address
        try:
            ray.init(**options)
        except Exception as error:  # There are as many kinds as there are things that Ray asks of a machine.
            ray.shutdown()
            cause = (
                _no_start(error) if machine.address is None else f"{_AT}: no cluster at {machine.address!r}: {error}"
            )
            raise UsageError(cause) from error
    if not machine.verbosity:
        silence()
    try:
        cluster = Cluster.of_ray()
        if not any(cluster.cpus):
            raise UsageError(f"{_AT}: the cluster at {machine.address!r} has no CPUs")
        yield cluster
    finally:
        if not already:
            ray.shutdown()


def _reach(address: str) -> None:
    """Tries to reach a ``host:port``. Ray would try for minutes, and for longer where another service answers."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # "auto" is Ray's to understand.
    try:
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            if os.environ.get("RAY_USE_TLS", "0") in ("0", ""):
                connection.sendall(_HELLO)
                frame = connection.recv(4, socket.MSG_WAITALL)
                if len(frame) < 4 or frame[3] != _SETTINGS:
                    raise UsageError(f"{_AT}: what answers at {address!r} is not Ray")
    except TimeoutError as error:
        raise UsageError(f"{_AT}: nothing answers at {address!r} within 5 seconds") from error
    except (OSError, OverflowError) as error:
        raise UsageError(f"{_AT}: nothing answers at {address!r}: {error}") from error


def _no_start(error: Exception) -> str:
    """Why Ray does not start on this machine, and what helps."""
    temporary = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or tempfile.gettempdir()
    cause = f"{type(error).__name__}: {error}"
    file = str(getattr(error, "filename", None) or "")
    if "AF_UNIX" in cause:
        return f"Ray cannot start: the path of its sockets is too long in {temporary}: set RAY_TMPDIR=/tmp"
    if isinstance(error, UnicodeError) and not temporary.isascii():
        return f"Ray cannot start: it takes only ASCII in the path for its files, {temporary}: set RAY_TMPDIR=/tmp"
    if isinstance(error, OSError) and file.startswith(temporary):
        return f"Ray cannot start: {file}: {error.strerror}: set RAY_TMPDIR to a directory that can be written to"
    if isinstance(error, OSError) and file.startswith(os.path.expanduser("~")):
        return f"Ray cannot start: {file}: {error.strerror}: set HOME to a directory that can be written to"
    logs = os.path.join(temporary, "ray", "session_latest", "logs")
    return f"Ray cannot start: {' '.join(cause.split())[:400]} (its logs: {logs})"
