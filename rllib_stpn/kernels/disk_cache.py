"""Where compiled kernels are kept, so that only the first process compiles them.

numba compiles a function anew when its own file has changed, but kernels also call helpers of other files. Hence one
directory per version of all the sources, of numba and of llvmlite.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import shutil
import stat
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import filelock  # torch and Ray require it

_SOURCES = Path(__file__).parent
_PREFIX = "compiled-"
_UNUSED_DAYS = 30
_PATIENCE = 120.0  # seconds
_lock = threading.Lock()


def version() -> str:
    """A hash of all that compiled code depends on, except the CPU and Python's version, which numba checks itself."""
    hashed = hashlib.sha256()
    for file in sorted(_SOURCES.rglob("*.py")):
        hashed.update(file.relative_to(_SOURCES).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    for package in ("numba", "llvmlite"):
        hashed.update(importlib.metadata.version(package).encode() + b"\0")
    return hashed.hexdigest()[:16]


@functools.cache
def directory() -> Path | None:
    """Where this process keeps compiled kernels; None if it can keep them nowhere.

    It is the first of these that can be written: ``NUMBA_CACHE_DIR`` (or the package's own directory, if that is not
    set), the user's cache directory, and a directory of this user among the temporary files. A warning tells when the
    last one is made, and each process warns if there is none. Kernels of other versions are removed when nobody has
    used them for 30 days.
    """
    given = os.environ.get("NUMBA_CACHE_DIR")
    places = [Path(given)] if given else [_SOURCES / "__pycache__"]
    with contextlib.suppress(RuntimeError):  # There is no home directory.
        places.append(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rllib-stpn")
    for place in places:
        with contextlib.suppress(OSError):
            return _prepared(place)
    told = f"compiled kernels can be kept neither in {' nor in '.join(map(str, places))}"
    try:
        place, is_new = _temporary()
        own = _prepared(place)
    except OSError as error:
        told += f" nor among the temporary files ({error}): every process compiles them anew, for half a minute"
        warnings.warn(f"{told}; NUMBA_CACHE_DIR names a directory for them", stacklevel=2)
        return None
    if is_new:
        warnings.warn(f"{told}: they go to {place}; NUMBA_CACHE_DIR names another directory", stacklevel=2)
    return own


@contextlib.contextmanager
def used_by_numba(place: Path) -> Iterator[None]:
    """Within, numba keeps in this directory what it compiles."""
    from numba import config

    with _lock:  # The setting is one of the whole process.
        before, config.CACHE_DIR = config.CACHE_DIR, str(place)
        try:
            yield
        finally:
            config.CACHE_DIR = before


@contextlib.contextmanager
def alone(place: Path, name: str) -> Iterator[None]:
    """Within, no other process compiles this function into the directory: the next one finds it there.

    Where files cannot be locked, or another process holds the lock for two minutes, this one goes on without.
    """
    lock = filelock.FileLock(place / f"{name}.lock", timeout=_PATIENCE)
    with contextlib.suppress(filelock.Timeout, OSError, NotImplementedError):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()  # does nothing where it is not held


def give_up(place: Path, error: Exception) -> None:
    """Warns that kernels could not be written or read there, and removes them; the next process writes its own."""
    warnings.warn(f"compiled kernels in {place}: {type(error).__name__}: {error}; compiled anew", stacklevel=4)
    shutil.rmtree(place, ignore_errors=True)


def _prepared(place: Path) -> Path:
    """The directory of this version, made and tried.

    Raises:
        OSError: It cannot be made, or not be written to.
    """
    own = place / (_PREFIX + version())
    own.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=own).close()  # Permissions alone do not tell: it may be on a read-only file system.
    os.utime(own)
    for other in place.glob(_PREFIX + "*"):
        with contextlib.suppress(OSError):
            if time.time() - other.stat().st_mtime > _UNUSED_DAYS * 24 * 3600:
                shutil.rmtree(other, ignore_errors=True)
    return own


def _temporary() -> tuple[Path, bool]:
    """This user's directory among the temporary files, the same for all processes, and whether it is new.

    Raises:
        OSError: It cannot be made, or other users could write to it: this process would then run their code.
    """
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    place = Path(tempfile.gettempdir()) / f"rllib-stpn-{user}"
    try:
        place.mkdir(mode=0o700)
        return place, True
    except FileExistsError:
        found = place.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(f"{place} is no directory") from None
        if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022):
            raise PermissionError(f"others can write to {place}") from None
        return place, False
