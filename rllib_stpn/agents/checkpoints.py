"""RLlib's checkpoints, found and read without starting Ray.

``Algorithm.save_to_path`` writes a directory for each of its parts: ``learner_group`` with the module and its weights,
``env_runner`` with the connectors and what they have learnt, and the constructor arguments of each class beside it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pickletools
import textwrap
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium as gym

from rllib_stpn import manifest
from rllib_stpn.errors import UsageError

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
    from ray.rllib.connectors.connector_pipeline_v2 import ConnectorPipelineV2
    from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule
    from ray.rllib.core.rl_module.rl_module import RLModule

_INFO = "rllib_checkpoint.json"
_CONSTRUCTOR = "class_and_ctor_args.pkl"
_SUPERVISED = "supervised.pt"
_MODULES = "learner_group/learner/rl_module"
_MODULE = f"{_MODULES}/default_policy"


class Checkpoint(NamedTuple):
    """What of a checkpoint is needed to act; of several agents, all their policies' modules and spaces by agent."""

    path: Path
    algorithm: str
    config: AlgorithmConfig
    module: RLModule | MultiRLModule
    observation_space: gym.Space
    action_space: gym.Space
    env_to_module: ConnectorPipelineV2
    module_to_env: ConnectorPipelineV2
    env_steps: int  # sampled in training; exploration schedules go by it


class Found(NamedTuple):
    """The newest whole checkpoint of a trial.

    Attributes:
        path: Its directory; None where there is no whole one.
        broken: The newer ones, which are not whole, and what is wrong with each, the newest first.
    """

    path: Path | None
    broken: list[tuple[Path, str]]


def checkpoints_of(trial: Path) -> list[Path]:
    """The checkpoints in a trial's directory, whole or not, in the order in which they were written."""
    return sorted(child for child in trial.glob("checkpoint_*") if _looks_like_checkpoint(child))


def newest_whole(trial: Path) -> Found:
    """The newest whole checkpoint in a trial's directory."""
    broken: list[tuple[Path, str]] = []
    for checkpoint in reversed(checkpoints_of(trial)):
        wrong = damage(checkpoint)
        if wrong is None:
            return Found(checkpoint, broken)
        broken.append((checkpoint, wrong))
    return Found(None, broken)


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, such as ``"algorithm_state.pkl is missing"``; None for a whole one.

    Where there is a manifest, its checksums tell what changed since it was written. Each file is also looked at
    without unpickling it: whether it is there, and not cut short.
    """
    if (checkpoint / manifest.FILE).exists() and (wrong := manifest.damage(checkpoint)):
        return wrong
    if missing := _missing(checkpoint):
        return f"{missing[0]} is missing"
    for file in sorted(checkpoint.rglob("*")):
        try:
            if file.suffix in _HAS_AN_END and not _HAS_AN_END[file.suffix](file):
                return f"{file.relative_to(checkpoint)} is cut short or garbled"
        except OSError as error:
            return f"{file.relative_to(checkpoint)} cannot be read ({error.strerror})"
    return None


def check_whole(checkpoint: Path) -> None:
    """Makes sure that a checkpoint is whole.

    Raises:
        UsageError: It is not; the message names the file, and the newest whole checkpoint beside it.
    """
    wrong = damage(checkpoint)
    if wrong is None:
        return
    whole = newest_whole(checkpoint.parent).path
    beside = f"; {whole.name} beside it is whole" if whole is not None else ""
    raise UsageError(f"checkpoint {checkpoint}: broken: {wrong}{beside}")


_warn = functools.partial(warnings.warn, stacklevel=3)  # the line of who called `load`


def find_checkpoint(path: Any, note: Callable[[str], object] = _warn) -> Path:
    """Returns the checkpoint's directory: ``path`` itself, or the newest whole one inside.

    Args:
        path: A checkpoint, the directory of a Tune trial or of a Tune experiment, or a ``ray.tune.Checkpoint``. Of
            several trials, the one whose last whole checkpoint was written last counts.
        note: Is told of newer ones that are broken, and left out.

    Raises:
        UsageError: There is none; the message says what is there.
    """
    directory = Path(os.path.expanduser(getattr(path, "path", path)))
    if not directory.exists():
        raise UsageError(f"checkpoint {directory}: no such directory")
    directory = directory.absolute()  # Ray takes relative paths for URIs.
    if not directory.is_dir():
        raise UsageError(f"checkpoint {directory}: got a file, allowed is the directory of a checkpoint")
    if _looks_like_checkpoint(directory):
        return directory
    found = [newest_whole(trial) for trial in (directory, *sorted(directory.iterdir())) if trial.is_dir()]
    whole = {trial.path: trial.broken for trial in found if trial.path is not None}
    if whole:
        newest = max(whole, key=lambda checkpoint: checkpoint.stat().st_mtime)
        for checkpoint, wrong in whole[newest]:
            note(f"checkpoint {checkpoint}: broken: {wrong}: left out, {newest.name} is taken")
        return newest
    if broken := [each for trial in found for each in trial.broken]:
        checkpoint, wrong = broken[0]
        raise UsageError(f"checkpoint {directory}: none in it is whole; {checkpoint}: broken: {wrong}")
    names = sorted(child.name for child in directory.iterdir())
    told = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    raise UsageError(
        f"checkpoint {directory}: got a directory with {told or 'nothing'} in it, allowed is a checkpoint of "
        f"RLlib (it has a file {_INFO}) or of supervised training, or the directory of a trial or "
        "experiment with one inside"
    )


def is_supervised(path: Path) -> bool:
    """Whether a checkpoint is one of :class:`rllib_stpn.supervised.Supervised`."""
    return (path / _SUPERVISED).is_file()


def algorithm_name(path: Path) -> str:
    """The name of the algorithm that wrote a checkpoint, or ``Supervised``.

    Raises:
        UsageError: It is one of the old API stack, broken, or its class cannot be imported here.
    """
    if is_supervised(path):
        return "Supervised"
    _refuse_old_stack(path)
    with _reading(path):
        return _unpickle(path / _CONSTRUCTOR)["class"].__name__


def read_checkpoint(path: Path, make_env: Callable[[AlgorithmConfig], Any]) -> Checkpoint:
    """Reads a checkpoint's directory and builds the module and the connectors, with their trained state.

    Args:
        path: As :func:`find_checkpoint` returns it.
        make_env: Called for a vector environment only if the user's connectors cannot be built without one.

    Raises:
        UsageError: A broken checkpoint, one of the old API stack, or one that needs a class which cannot be imported
            here.
    """
    if is_supervised(path):
        raise UsageError(
            f"checkpoint {path}: got one of supervised training, allowed are those of agents; "
            "rllib_stpn.supervised.load loads it"
        )
    _refuse_old_stack(path)
    check_whole(path)
    names = ("env_runner", "eval_env_runner")  # what learns from recorded data samples in evaluation only, if at all
    runner = next((path / name for name in names if (path / name).is_dir()), path)
    with _reading(path):
        from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
        from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule
        from ray.rllib.core.rl_module.rl_module import RLModule

        constructor = _unpickle(path / _CONSTRUCTOR)
        config = AlgorithmConfig.from_state(constructor["ctor_args_and_kwargs"][0][0])
        pieces = runner / "env_to_module_connector"
        if pieces.is_dir():
            observation_space, action_space = _unpickle(pieces / _CONSTRUCTOR)["ctor_args_and_kwargs"][0]
        else:
            observation_space, action_space = _spaces_of_env(path, config, make_env)
        env_to_module, module_to_env = connectors_of(config, observation_space, action_space, make_env)
        if pieces.is_dir():
            env_to_module.restore_from_path(pieces)
            module_to_env.restore_from_path(runner / "module_to_env_connector")
        several = config.is_multi_agent
        module = MultiRLModule.from_checkpoint(path / _MODULES) if several else RLModule.from_checkpoint(path / _MODULE)
        counters = runner / "state.pkl"
        steps = _unpickle(counters).get("num_env_steps_sampled_lifetime", 0) if counters.exists() else 0
    return Checkpoint(
        path=path,
        algorithm=constructor["class"].__name__,
        config=config,
        module=module,
        observation_space=observation_space,
        action_space=action_space,
        env_to_module=env_to_module,
        module_to_env=module_to_env,
        env_steps=int(steps),
    )


def _looks_like_checkpoint(directory: Path) -> bool:
    return (
        (directory / _INFO).is_file()
        or is_supervised(directory)
        or (directory / "policies").is_dir()  # RLlib's before Ray 2.1
        or any(child.is_file() for child in directory.glob("checkpoint-*"))  # and before 2.0
    )


def _missing(checkpoint: Path) -> list[str]:
    """What a checkpoint lacks, of what a whole one has."""
    if is_supervised(checkpoint):
        return []
    wanted = [_INFO, _CONSTRUCTOR, "algorithm_state.*"]
    if (checkpoint / "policies").is_dir():  # the old API stack's
        wanted = [_INFO, "algorithm_state.*"]
    elif not (checkpoint / _MODULES).is_dir():
        wanted += [f"{_MODULES}"]
    else:  # several agents' modules have other names
        modules = sorted(child.name for child in (checkpoint / _MODULES).iterdir() if child.is_dir())
        for name in modules or ["default_policy"]:
            wanted += [f"{_MODULES}/{name}/{_CONSTRUCTOR}", f"{_MODULES}/{name}/module_state.*"]
        wanted += ["learner_group/learner/state.*"]
    return [name for name in wanted if not any(checkpoint.glob(name))] or _missing_runner(checkpoint)


def _missing_runner(checkpoint: Path) -> list[str]:
    """What env runners learned, such as a filter's statistics: RLlib goes on without it, and says nothing."""
    names = ("env_runner", "env_to_module_connector", "policies")
    if any((checkpoint / name).is_dir() for name in names) or not (checkpoint / _CONSTRUCTOR).is_file():
        return []
    with contextlib.suppress(Exception):  # Unpickling imports what the algorithm was made of; what reads it tells.
        from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

        state = _unpickle(checkpoint / _CONSTRUCTOR)["ctor_args_and_kwargs"][0][0]
        if AlgorithmConfig.from_state(state).is_online:
            return ["env_runner"]
    return []


def _pickle_ends(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return any(code.name == "STOP" for code, _, _ in pickletools.genops(opened))
    except OSError:
        raise
    except Exception:  # whatever a garbled one makes of it
        return False


def _json_ends(file: Path) -> bool:
    try:
        json.loads(file.read_bytes())
    except ValueError:
        return False
    return True


def _archive_ends(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except zipfile.BadZipFile:
        return False


_HAS_AN_END = {".pkl": _pickle_ends, ".json": _json_ends, ".pt": _archive_ends}


def _refuse_old_stack(path: Path) -> None:
    version = "0.1"
    if (path / _INFO).is_file():
        with _reading(path / _INFO):
            version = str(json.loads((path / _INFO).read_text(encoding="utf-8"))["checkpoint_version"])
    if (path / "policies").is_dir() or not version.startswith("2"):
        raise UsageError(
            f"checkpoint {path}: got one of RLlib's old API stack (version {version}), allowed are those of the new "
            "one (version 2); RLlib's own Policy.from_checkpoint loads it"
        )


def _spaces_of_env(
    path: Path, config: AlgorithmConfig, make_env: Callable[[AlgorithmConfig], Any]
) -> tuple[gym.Space, gym.Space]:
    """The spaces of the environment of an algorithm that never sampled from it."""
    if not config.env:
        raise UsageError(
            f"checkpoint {path}: got one of training without an environment, allowed are those with one: what connects "
            "observations and actions follows from its spaces (env: beside input:)"
        )
    env = make_env(config)
    try:
        return env.single_observation_space, env.single_action_space
    finally:
        env.close()


def connectors_of(
    config: AlgorithmConfig,
    observation_space: gym.Space,
    action_space: gym.Space,
    make_env: Callable[[AlgorithmConfig], Any],
) -> tuple[ConnectorPipelineV2, ConnectorPipelineV2]:
    """The pipelines as an env runner builds them, from the config's functions.

    Not by ``from_checkpoint``: it loses constructor arguments that a connector's class inherits.
    """
    from gymnasium.vector.utils import batch_space
    from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES

    spaces = {
        INPUT_ENV_SPACES: (batch_space(observation_space, 1), batch_space(action_space, 1)),
        INPUT_ENV_SINGLE_SPACES: (observation_space, action_space),
    }

    def build(env):
        return (
            config.build_env_to_module_connector(env=env, spaces=spaces, device="cpu"),
            config.build_module_to_env_connector(env=env, spaces=spaces),
        )

    try:
        return build(None)
    except Exception:  # the user's function: without remote env runners it got the environment in training
        env = make_env(config)
        try:
            return build(env)
        finally:
            env.close()


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raises what goes wrong within as an error about the checkpoint."""
    try:
        yield
    except UsageError:
        raise
    except ModuleNotFoundError as error:
        why = "which cannot be imported here"
        if (error.name or "").startswith("rllib_stpn."):
            why = "which this version does not have: another version of rllib-stpn wrote it, and can load it"
        raise UsageError(f"checkpoint {path}: it needs module {error.name!r}, {why}") from error
    except Exception as error:  # unpickling runs constructors of any class
        told = textwrap.shorten(f"{type(error).__name__}: {error}", 300)
        raise UsageError(f"checkpoint {path}: cannot be loaded: {told}") from error


def _unpickle(path: Path) -> Any:
    from ray import cloudpickle

    with path.open("rb") as file:
        return cloudpickle.load(file)
