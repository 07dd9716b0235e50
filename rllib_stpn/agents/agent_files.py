"""Trained agents as files of weights: those that come with the package (:mod:`rllib_stpn.pretrained`), and your own.

A file is in the safetensors format (:mod:`rllib_stpn.agents.weights`): the module's weights, the statistics of
observation filters, and texts in JSON with what the module is built from. Nothing in it is pickled, and nothing runs
when it is read. It holds agents with a layer of this package (:func:`rllib_stpn.recurrent_spec`).
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_stpn.errors import UsageError, one_of
from rllib_stpn.plain import plain
from rllib_stpn.pretrained import SUFFIX
from rllib_stpn.ray_names import is_path

if TYPE_CHECKING:
    from rllib_stpn.agents.checkpoints import Checkpoint

FORMAT = "rllib-stpn agent 1"
_SPACES = ("Box", "Discrete", "MultiBinary", "MultiDiscrete", "Dict", "Tuple")
_KNOWN = ("ale_py", "gymnasium", "stpn_envs")  # modules that an environment's id may have imported
_FILTER = "observation_filter"
_STATISTICS = ("num_pushes", "mean_array", "sum_sq_diff_array")


def origin(file: Path) -> dict[str, Any]:
    """How an agent was trained, as :func:`write` was told: file, seed, command, returns."""
    from rllib_stpn.agents.weights import read_weights

    _, texts = read_weights(file)
    return json.loads(texts.get("origin", "{}"))


def write(checkpoint: Any, file: str | Path, origin: Mapping[str, Any] | None = None) -> None:
    """Writes an agent into a file that :func:`rllib_stpn.load` reads.

    ::

        write("~/ray_results/mine", "mine.safetensors", {"trained": "by me"})

    Args:
        checkpoint: The directory of a checkpoint, a trial or an experiment: of an agent with a layer of this package,
            observations that are flattened or filtered by connectors of this package or RLlib without arguments, a
            module and actions as this package makes them, and an environment named by a text.
        file: Where to; its name ends in ``.safetensors``.
        origin: What to tell of its training, for JSON.

    Raises:
        UsageError: It has what the file cannot hold; the message says what.
    """
    import numpy as np

    from rllib_stpn.agents.checkpoints import find_checkpoint, read_checkpoint
    from rllib_stpn.agents.environments import vector_env_of
    from rllib_stpn.agents.weights import write_weights
    from rllib_stpn.layers import LAYERS
    from rllib_stpn.rollouts.previous import previous_inputs

    where = f"weights {file}"
    if Path(file).suffix != SUFFIX:
        raise UsageError(f"{where}: allowed is a name that ends in {SUFFIX}")
    checkpoint = read_checkpoint(find_checkpoint(checkpoint), vector_env_of)
    if checkpoint.config.is_multi_agent:
        raise UsageError(f"{where}: got the policies of several agents, allowed is one agent")
    model = checkpoint.module.model_config
    if not isinstance(model, dict) or model.get("custom_model") not in LAYERS:
        raise UsageError(f"{where}: got an agent without a layer of this package, allowed are {', '.join(LAYERS)}")
    _refuse_other_modules(where, checkpoint.module)
    config = checkpoint.config
    if not isinstance(config.env, str):
        raise UsageError(f"{where}: env: got {config.env!r}, allowed is the id of an environment")
    actions = _actions_of(where, checkpoint.module_to_env)
    pieces, statistics = _pieces_of(where, checkpoint.env_to_module)
    told = {
        "algorithm": checkpoint.algorithm,
        "env": config.env,
        "env_config": dict(config.env_config),
        "previous_inputs": list(previous_inputs(config)),
        "env_steps": checkpoint.env_steps,
        "model": model,
        "observation_space": _space_to_json(where, checkpoint.observation_space),
        "action_space": _space_to_json(where, checkpoint.action_space),
        "observations": pieces,
        "actions": {"normalize": actions.normalize_actions, "clip": actions.clip_actions},
    }
    try:
        texts = {"format": FORMAT, "agent": json.dumps(plain(told)), "origin": json.dumps(plain(origin or {}))}
    except TypeError as error:
        raise UsageError(f"{where}: got a setting that is no number, text, list or mapping: {error}") from None
    weights = {name: np.asarray(tensor.detach().cpu()) for name, tensor in checkpoint.module.state_dict().items()}
    write_weights(file, weights | statistics, texts)


def read(file: Path) -> Checkpoint:
    """Reads what :func:`write` has written, and builds module and connectors.

    Raises:
        UsageError: It is no such file, or a damaged one.
    """
    from gymnasium.vector.utils import batch_space
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES

    from rllib_stpn.agents.checkpoints import Checkpoint
    from rllib_stpn.agents.weights import read_weights
    from rllib_stpn.layers import LAYERS
    from rllib_stpn.models.spec import spec_from_model_dict
    from rllib_stpn.rollouts.preprocessing import module_to_env

    tensors, texts = read_weights(file)
    where = f"weights {file}"
    if texts.get("format") != FORMAT:
        raise UsageError(f"{where}: got the format {texts.get('format')!r}, allowed is {FORMAT!r}")
    try:
        told = json.loads(texts["agent"])
        observation_space = _space_from_json(told["observation_space"])
        action_space = _space_from_json(told["action_space"])
        if told["model"]["custom_model"] not in LAYERS:  # another name would be imported
            raise one_of(f"{where}: custom_model", told["model"]["custom_model"], LAYERS)
        _refuse_foreign_code(where, told["env"])
        config = PPOConfig()
        config.environment(told["env"], env_config=told["env_config"])
        config._previous_inputs = tuple(told["previous_inputs"])
        config.env_runners(
            env_to_module_connector=functools.partial(_make_pieces, told["observations"]),
            module_to_env_connector=module_to_env(told["actions"]["normalize"], told["actions"]["clip"], thin=False),
            add_default_connectors_to_module_to_env_pipeline=False,
        )
        single = (observation_space, action_space)
        spaces = {
            INPUT_ENV_SPACES: tuple(batch_space(space, 1) for space in single),
            INPUT_ENV_SINGLE_SPACES: single,
        }
        env_to_module = config.build_env_to_module_connector(env=None, spaces=spaces, device="cpu")
        to_env = config.build_module_to_env_connector(env=None, spaces=spaces)
        _restore_filter(env_to_module, tensors)
        spec = spec_from_model_dict(told["model"])
        spec.observation_space, spec.action_space = env_to_module.observation_space, action_space
        module = spec.build()
        module.load_state_dict({name: tensor for name, tensor in tensors.items() if not name.startswith(_FILTER)})
    except UsageError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{where}: cannot be made an agent of: {type(error).__name__}: {reason}") from error
    return Checkpoint(
        path=file,
        algorithm=told["algorithm"],
        config=config,
        module=module,
        observation_space=observation_space,
        action_space=action_space,
        env_to_module=env_to_module,
        module_to_env=to_env,
        env_steps=told["env_steps"],
    )


def _refuse_foreign_code(where: str, env: Any) -> None:
    """Refuses an environment whose id would have a module imported that nobody here has asked for."""
    if not isinstance(env, str):
        raise UsageError(f"{where}: env: got {env!r}, allowed is the id of an environment")
    module = env.rpartition(":")[0] or (env.rpartition(".")[0] if is_path(env) else "")
    if module and module not in sys.modules and module.partition(".")[0] not in _KNOWN:
        raise UsageError(
            f"{where}: env: got {env!r}, whose module {module!r} a file of weights does not get imported; allowed is "
            f"that you import {module} first, in Python"
        )


def _classes() -> dict[str, type]:
    """The connectors of observations that a file can name."""
    from ray.rllib.connectors.common.flatten_observations import FlattenObservations

    from rllib_stpn.rollouts.observations import AsFloats, ScalePixels
    from rllib_stpn.rollouts.preprocessing import FlatObservations, MeanStdFilter

    return {
        kind.__name__: kind for kind in (FlattenObservations, FlatObservations, ScalePixels, AsFloats, MeanStdFilter)
    }


def _refuse_other_modules(where: str, module: Any) -> None:
    """Refuses a module that the model's settings alone would not build again."""
    from rllib_stpn.models import LayerCatalog, MemoryRLModule

    for what, part, allowed in (("module", module, MemoryRLModule), ("catalog", module.catalog, LayerCatalog)):
        if type(part) is not allowed:
            raise UsageError(
                f"{where}: got the {what} {type(part).__name__}, allowed is rllib_stpn.models.{allowed.__name__} "
                "itself: a file holds no code"
            )


def _actions_of(where: str, pipeline: Any) -> Any:
    """The connector that makes a module's actions the environment's, if it is all that changes them."""
    from ray.rllib.connectors.module_to_env import NormalizeAndClipActions

    from rllib_stpn.rollouts.connectors import of_the_runner
    from rllib_stpn.rollouts.preprocessing import ActionsForEnv

    own = [connector for connector in pipeline.connectors if not of_the_runner(connector)]
    known = [connector for connector in own if type(connector) in (ActionsForEnv, NormalizeAndClipActions)]
    if len(own) != 1 or len(known) != 1:
        others = [type(connector).__name__ for connector in own if connector not in known]
        given = f"the connector {others[0]}" if others else f"{len(known)} connectors"
        raise UsageError(f"{where}: got {given} of actions, allowed is one NormalizeAndClipActions")
    return known[0]


def _refuse_arguments(where: str, connector: Any) -> None:
    """Refuses a connector that would do something else if it were made without arguments."""
    from ray.rllib.connectors.common.flatten_observations import FlattenObservations
    from ray.rllib.connectors.env_to_module import MeanStdFilter

    if isinstance(connector, MeanStdFilter):
        names = ("clip_by_value", "de_mean_to_zero", "de_std_to_one")
        settings = [(name, getattr(connector, name), getattr(type(connector)(), name)) for name in names]
    elif isinstance(connector, FlattenObservations):
        settings = [("keys_to_remove", connector._keys_to_remove or None, None)]
    else:
        return
    for name, given, default in settings:
        if given != default:
            raise UsageError(
                f"{where}: {type(connector).__name__}: {name}: got {given!r}, allowed is {default!r}: a file holds "
                "connectors without arguments"
            )


def _pieces_of(where: str, pipeline: Any) -> tuple[list[str], dict[str, Any]]:
    """The names of the connectors that change observations, and the statistics of the filter."""
    import numpy as np
    from ray.rllib.connectors.env_to_module import MeanStdFilter

    from rllib_stpn.rollouts.connectors import of_the_runner

    pieces: list[str] = []
    statistics: dict[str, Any] = {}
    for connector in pipeline.connectors:
        name = type(connector).__name__
        if of_the_runner(connector):
            continue
        # Not by name alone, which one of the user's own may have too. RLlib's filter computes what that of here does.
        if type(connector) not in (*_classes().values(), MeanStdFilter):
            raise UsageError(f"{where}: got the connector {name}, allowed are {', '.join(_classes())}")
        if name in pieces:
            raise UsageError(f"{where}: got the connector {name} twice, allowed is one")
        _refuse_arguments(where, connector)
        pieces.append(name)
        if isinstance(connector, MeanStdFilter):
            for index, stats in enumerate(_running(connector)):
                statistics |= {
                    f"{_FILTER}.{index}.{key}": np.asarray(getattr(stats, key), np.float64) for key in _STATISTICS
                }
    return pieces, statistics


def _restore_filter(pipeline: Any, tensors: Mapping[str, Any]) -> None:
    from ray.rllib.connectors.env_to_module import MeanStdFilter

    for connector in pipeline.connectors:
        if isinstance(connector, MeanStdFilter):
            for index, stats in enumerate(_running(connector)):
                count, mean, squares = (tensors[f"{_FILTER}.{index}.{key}"].numpy() for key in _STATISTICS)
                stats.num_pushes = int(count)
                stats.mean_array[...], stats.sum_sq_diff_array[...] = mean, squares


def _running(connector: Any) -> list[Any]:
    """The statistics of each part of the observations that a filter changes."""
    import tree

    if connector._filters is None:
        connector._init_new_filters()
    (of_agent,) = connector._filters.values()
    return [stats for stats in tree.flatten(of_agent.running_stats) if stats is not None]


def _make_pieces(names: list[str], env: Any = None, spaces: Any = None, device: Any = None) -> list[Any]:
    return [_classes()[name]() for name in names]


def _space_to_json(where: str, space: Any) -> dict[str, Any]:
    import gymnasium as gym

    if isinstance(space, gym.spaces.Box):
        return {"kind": "Box", "low": space.low.tolist(), "high": space.high.tolist(), "dtype": str(space.dtype)}
    if isinstance(space, gym.spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, gym.spaces.MultiBinary):
        return {"kind": "MultiBinary", "n": space.n if isinstance(space.n, int) else [int(n) for n in space.n]}
    if isinstance(space, gym.spaces.MultiDiscrete):
        return {"kind": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist()}
    if isinstance(space, gym.spaces.Dict):
        return {"kind": "Dict", "spaces": {key: _space_to_json(where, each) for key, each in space.items()}}
    if isinstance(space, gym.spaces.Tuple):
        return {"kind": "Tuple", "spaces": [_space_to_json(where, each) for each in space]}
    raise UsageError(f"{where}: got the space {space}, allowed are {', '.join(_SPACES)}")


def _space_from_json(told: Mapping[str, Any]) -> Any:
    import gymnasium as gym
    import numpy as np

    kind = told["kind"]
    if kind == "Box":
        dtype = np.dtype(told["dtype"])
        return gym.spaces.Box(np.array(told["low"], dtype), np.array(told["high"], dtype), dtype=dtype.type)
    if kind == "Discrete":
        return gym.spaces.Discrete(told["n"], start=told["start"])
    if kind == "MultiBinary":
        return gym.spaces.MultiBinary(told["n"])
    if kind == "MultiDiscrete":
        return gym.spaces.MultiDiscrete(told["nvec"], start=told["start"])
    if kind == "Dict":
        return gym.spaces.Dict({key: _space_from_json(each) for key, each in told["spaces"].items()})
    if kind == "Tuple":
        return gym.spaces.Tuple([_space_from_json(each) for each in told["spaces"]])
    raise one_of("space", kind, _SPACES)
