"""RLlib's checkpoints, found and read without starting Ray.

``Algorithm.save_to_path`` writes a directory for each of its parts: ``learner_group`` with the module and its weights,
``env_runner`` with the connectors and what they have learnt, and the constructor arguments of each class beside it.
"""

from __future__ import annotations

import contextlib
import json
import os
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium as gym

from rllib_stpn.errors import UsageError

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
    from ray.rllib.connectors.connector_pipeline_v2 import ConnectorPipelineV2
    from ray.rllib.core.rl_module.rl_module import RLModule

_INFO = "rllib_checkpoint.json"
_CONSTRUCTOR = "class_and_ctor_args.pkl"
_SUPERVISED = "supervised.pt"
_MODULES = "learner_group/learner/rl_module"
_MODULE = f"{_MODULES}/default_policy"


class Checkpoint(NamedTuple):
    """What of a checkpoint is needed to act."""

    path: Path
    algorithm: str
    config: AlgorithmConfig
    module: RLModule
    observation_space: gym.Space
    action_space: gym.Space
    env_to_module: ConnectorPipelineV2
    module_to_env: ConnectorPipelineV2
    env_steps: int  # sampled in training; exploration schedules go by it


def find_checkpoint(path: Any) -> Path:
    """Returns the checkpoint's directory: ``path`` itself, or the newest whole one inside.

    Args:
        path: A checkpoint, the directory of a Tune trial or of a Tune experiment, or a ``ray.tune.Checkpoint``. Of
            several trials, the one whose last checkpoint was written last counts.

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
    newest = []  # of each trial
    for trial in (directory, *sorted(directory.iterdir())):
        checkpoints = sorted(child for child in trial.glob("checkpoint_*") if _looks_like_checkpoint(child))
        # An interrupted run may leave half a checkpoint behind, after the last whole one.
        newest += ([c for c in checkpoints if not _missing(c)] or checkpoints)[-1:]
    if not newest:
        names = sorted(child.name for child in directory.iterdir())
        found = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise UsageError(
            f"checkpoint {directory}: got a directory with {found or 'nothing'} in it, allowed is a checkpoint of "
            f"RLlib (it has a file {_INFO}) or of supervised training, or the directory of a trial or "
            "experiment with one inside"
        )
    return max(newest, key=lambda checkpoint: checkpoint.stat().st_mtime)


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
        UsageError: A broken checkpoint, one of the old API stack or of several agents, or one that needs a class which
            cannot be imported here.
    """
    if is_supervised(path):
        raise UsageError(
            f"checkpoint {path}: got one of supervised training, allowed are those of agents; "
            "rllib_stpn.supervised.load loads it"
        )
    _refuse_old_stack(path)
    missing = _missing(path)
    if missing:
        raise UsageError(f"checkpoint {path}: broken, it lacks {missing[0]}")
    modules = sorted(child.name for child in (path / _MODULES).iterdir() if child.is_dir())
    if "default_policy" not in modules:
        raise UsageError(
            f"checkpoint {path}: got modules {', '.join(modules) or 'none'}, allowed is one agent's, 'default_policy'"
        )
    runner = path / "env_runner" if (path / "env_runner").is_dir() else path
    with _reading(path):
        from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
        from ray.rllib.core.rl_module.rl_module import RLModule

        constructor = _unpickle(path / _CONSTRUCTOR)
        config = AlgorithmConfig.from_state(constructor["ctor_args_and_kwargs"][0][0])
        pieces = runner / "env_to_module_connector"
        if not pieces.is_dir():
            raise UsageError(
                f"checkpoint {path}: got {constructor['class'].__name__} without connectors, allowed are algorithms "
                "that sample from an environment"
            )
        observation_space, action_space = _unpickle(pieces / _CONSTRUCTOR)["ctor_args_and_kwargs"][0]
        env_to_module, module_to_env = _connectors(config, observation_space, action_space, make_env)
        env_to_module.restore_from_path(pieces)
        module_to_env.restore_from_path(runner / "module_to_env_connector")
        module = RLModule.from_checkpoint(path / _MODULE)
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
    """What a whole checkpoint has and this one lacks."""
    if is_supervised(checkpoint):
        return []
    wanted = [_INFO, _CONSTRUCTOR, f"{_MODULE}/{_CONSTRUCTOR}", f"{_MODULE}/module_state.*", "algorithm_state.*"]
    if (checkpoint / _MODULES).is_dir() and not (checkpoint / _MODULE).is_dir():
        wanted = wanted[:2]  # several agents' modules, which have other names
    return [name for name in wanted if not any(checkpoint.glob(name))]


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


def _connectors(
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
    """Tells what goes wrong within as an error of the checkpoint."""
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
