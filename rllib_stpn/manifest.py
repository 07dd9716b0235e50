"""What a checkpoint consists of: size and checksum of each file, by which a damaged one is told from a whole one.

``manifest.json`` is written last, and holds ``{"files": {path: [bytes, sha256]}}``.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

FILE = "manifest.json"
_PART = 2**20  # bytes read at a time


def write(directory: Path) -> None:
    """Leaves the manifest of all files below a directory in it.

    Raises:
        OSError: The disk is full, or the directory is gone.
    """
    files = {path.relative_to(directory).as_posix(): path for path in sorted(directory.rglob("*")) if path.is_file()}
    files.pop(FILE, None)
    listed = {name: [path.stat().st_size, _checksum(path)] for name, path in files.items()}
    (directory / FILE).write_text(json.dumps({"files": listed}, indent=1), encoding="utf-8")


def damage(directory: Path) -> str | None:
    """What is wrong with the files below a directory, by its manifest: the first file that is not as it was written.

    Returns:
        Such as ``"state.pkl has 100 bytes of 8,404"``; None where every file is as it was written.
    """
    try:
        listed = json.loads((directory / FILE).read_text(encoding="utf-8"))["files"]
        files = {str(name): (int(size), str(checksum)) for name, (size, checksum) in listed.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{FILE} cannot be read"
    for name, (size, checksum) in files.items():
        path = directory / name
        try:
            found = path.stat().st_size
            if found != size:
                return f"{name} has {found:,} bytes of {size:,}"
            if _checksum(path) != checksum:
                return f"{name} is not what was written (its checksum differs)"
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return None


def _checksum(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_PART):
            found.update(part)
    return found.hexdigest()
