"""Ray, started for this machine alone or joined; what is in the way is told in a sentence."""

import contextlib
import functools
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import ray

from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import neighbours
from rllib_stpn.experiments.resources import Cluster

# The first bytes of a client of HTTP/2, and so of gRPC, and the type of the first frame of a server (RFC 9113).
_HELLO, _SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0", 4
_AT = "--ray-address or RAY_ADDRESS"


def start_ray(address: str | None, **options: Any) -> Cluster:
    """Starts Ray on this machine, or joins a cluster; where this process has Ray already, that one is used.

    A Ray that is started here listens on the loopback interface alone, and asks nobody outside this machine.

    Args:
        address: Of the cluster, such as ``"10.0.0.1:6379"`` or ``"auto"``; None starts Ray.
        options: Further arguments of ``ray.init``.

    Returns:
        The machines.

    Raises:
        UsageError: No cluster answers at the address, or it has no CPUs, or Ray cannot start on this machine.
    """
    if address:
        _reach(address)
    own = not ray.is_initialized()
    try:
        if own:
            with contextlib.nullcontext() if address else _this_machine_alone():
                ray.init(address=address or "local", job_config=neighbours.job_config(), **options)
    except Exception as error:  # There are as many kinds as there are things that Ray asks of a machine.
        ray.shutdown()
        raise UsageError(f"{_AT}: no cluster at {address!r}: {error}" if address else _no_start(error)) from error
    cluster = Cluster.of_ray()
    if not any(cluster.cpus):
        if own:
            ray.shutdown()
        raise UsageError(f"{_AT}: the cluster at {address!r} has no CPUs")
    return cluster


@contextlib.contextmanager
def _this_machine_alone() -> Iterator[None]:
    """Within, Ray starts for this machine alone.

    Its processes have the address 127.0.0.1, as Ray itself has it on macOS and Windows; else they listen on all
    interfaces, and take a route to a name server for the machine's address. Its dashboard is left out: even with usage
    statistics off, that process asks 169.254.169.254 in which cloud it runs.

    On Linux, where they end with this process in any case, they are no part of its process group: Ctrl-C, `timeout` and
    batch systems signal a whole group, and with Ray ended, the trial could not write its last checkpoint.
    """
    from ray._private import ray_constants, services

    variable = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    before = os.environ.get(variable), ray_constants.ENABLE_RAY_CLUSTER, services.start_api_server
    start_process: Any = services.ConsolePopen
    os.environ[variable] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
    services.start_api_server = lambda *args, **options: (None, None)  # as where it could not be started
    if sys.platform == "linux":
        services.ConsolePopen = functools.partial(start_process, start_new_session=True)  # type: ignore[misc]
    try:
        yield
    finally:
        given, ray_constants.ENABLE_RAY_CLUSTER, services.start_api_server = before
        services.ConsolePopen = start_process
        if given is None:
            del os.environ[variable]
        else:
            os.environ[variable] = given


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
