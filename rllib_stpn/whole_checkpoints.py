"""Trainables whose checkpoints are whole or not there, whenever the process is killed or the disk is full."""

from __future__ import annotations

import errno
import functools
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.utils.util import SafeFallbackEncoder

from rllib_stpn import manifest

#: The result that a checkpoint was written with, in the checkpoint: nothing else is needed to go on from it.
RESULT = "last_result.json"
#: Where a trial writes its next checkpoint, beside the others.
UNFINISHED = ".checkpoint.part"


class WholeCheckpoints(tune.Trainable):
    """A trainable whose checkpoints come with their result and a manifest, and get their name once they are whole.

    Tune itself copies a checkpoint file by file to its final place. Where the storage is a directory of this machine,
    it is written beside that place instead, and renamed. ``save_checkpoint`` of a subclass ends with :meth:`seal`.
    """

    def seal(self, checkpoint_dir: str) -> None:
        """Adds result and manifest to a checkpoint that is complete otherwise."""
        directory = Path(checkpoint_dir)
        result = {key: value for key, value in (self._last_result or {}).items() if key != "config"}
        (directory / RESULT).write_text(json.dumps(result, cls=SafeFallbackEncoder), encoding="utf-8")
        manifest.write(directory)

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Saves a checkpoint.

        Raises:
            OSError: The disk is full, cannot be written to, or the directory of the experiment is gone.
        """
        storage = self._storage
        if checkpoint_dir is not None or storage is None or storage.storage_filesystem.type_name != "local":
            return super().save(checkpoint_dir)
        experiment, trial = Path(storage.experiment_fs_path), Path(storage.trial_fs_path)
        try:
            storage._check_validation_file()
        except RuntimeError:
            raise FileNotFoundError(errno.ENOENT, _why_gone(experiment), str(experiment)) from None
        trial.mkdir(exist_ok=True)
        unfinished = trial / UNFINISHED
        shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
        storage.persist_current_checkpoint = functools.partial(_put_in_place, storage)
        try:
            return super().save(str(unfinished))
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)  # what little room there is may be needed
            raise


def _why_gone(experiment: Path) -> str:
    return "the experiment's directory was moved or deleted" if not experiment.exists() else "its files were deleted"


def _flush(paths: Iterable[Path]) -> None:
    """Waits until files and directories are on the disk: a power cut could keep a new name, and lose what it names."""
    for path in paths:
        opened = os.open(path, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def _put_in_place(storage: Any, written: tune.Checkpoint) -> tune.Checkpoint:
    """Gives a checkpoint its final name, in one step."""
    place = storage.checkpoint_fs_path
    _flush([Path(written.path), *Path(written.path).rglob("*")])
    _flush([file for file in Path(place).parent.iterdir() if file.is_file()])  # the results up to here
    if os.path.exists(place):  # left by another version, or broken
        shutil.rmtree(place)
    os.rename(written.path, place)
    _flush([Path(place).parent])
    return tune.Checkpoint(path=place, filesystem=storage.storage_filesystem)
