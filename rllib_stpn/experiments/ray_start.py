"""Ray, started or joined; what is in the way is told in a sentence."""

import os
import socket
import tempfile
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
