"""The previous action and reward among what environments show, where a config asks for them."""

from __future__ import annotations

from typing import Any, TypeVar

import gymnasium as gym
import stpn_envs
from gymnasium.vector import VectorEnv

from rllib_stpn.errors import UsageError

_AnyEnv = TypeVar("_AnyEnv", bound="gym.Env | VectorEnv")


def previous_inputs(config: Any) -> tuple[str, ...]:
    """What the environments of an ``AlgorithmConfig`` show beside their observations: of ``"action"``, ``"reward"``.

    It goes into checkpoints with the config, so that whoever makes the environment again shows the same.
    """
    return getattr(config, "_previous_inputs", ())


def with_previous(env: _AnyEnv, inputs: tuple[str, ...]) -> _AnyEnv:
    """An environment, or a vector environment, that shows these (see ``stpn_envs.PreviousActionReward``).

    Raises:
        UsageError: Its observations are images, or its actions have no fixed size.
    """
    if not inputs:
        return env
    is_vector = isinstance(env, VectorEnv)
    space: Any = env.single_observation_space if isinstance(env, VectorEnv) else env.observation_space
    if isinstance(space, gym.spaces.Box) and len(space.shape) == 3:
        raise UsageError(
            f"model: lstm_use_prev_{inputs[0]}: got images of the shape {space.shape}, allowed are observations that "
            "become one vector: no model takes a picture and numbers beside it"
        )
    wrapper: Any = stpn_envs.PreviousActionRewardVector if is_vector else stpn_envs.PreviousActionReward
    try:
        return wrapper(env, action="action" in inputs, reward="reward" in inputs)
    except ValueError as error:
        raise UsageError(f"model: lstm_use_prev_action: {error}") from error
