"""Makes the environment of an algorithm's config, without an env runner."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from rllib_stpn.errors import UsageError, in_words, place_of
from rllib_stpn.ray_names import register_class, register_environments
from rllib_stpn.rollouts.vector import Watched

if TYPE_CHECKING:
    from ray.rllib.algorithms import AlgorithmConfig


def make_env(
    env: Any,
    env_config: Mapping[str, Any],
    num_envs: int | None = None,
    render_mode: str | None = None,
    previous: tuple[str, ...] = (),
) -> gym.Env | VectorEnv:
    """Makes an environment by what RLlib's ``config.environment(env, env_config=...)`` takes.

    Args:
        env: An id of gymnasium's registry, ``module:id``, a name registered with ``ray.tune.register_env`` in this
            process, or a class or function of RLlib's ``EnvContext``, the class also by its path.
        env_config: Its arguments. A class or function gets them as RLlib's ``EnvContext``: ``worker_index`` 0, as in
            the local env runner, and ``vector_index`` from 0 on.
        num_envs: None for one environment, else the size of a vector environment. It resets in the step that ends an
            episode (same-step autoreset) and each of its environments by a seed of its own.
        render_mode: For example ``"rgb_array"``.
        previous: What it shows beside its observations (:func:`rllib_stpn.rollouts.previous.previous_inputs`).

    Raises:
        UsageError: The environment is unknown, refuses its arguments or cannot render that way.
    """
    from rllib_stpn.rollouts.previous import with_previous

    return with_previous(_plain(env, env_config, num_envs, render_mode), previous)


def vector_env_of(config: AlgorithmConfig) -> Any:
    """A vector environment with one environment of an algorithm's config: gymnasium's, or RLlib's of several agents."""
    from rllib_stpn.rollouts.previous import previous_inputs

    if config.is_multi_agent:
        from ray.rllib.env.vector.sync_vector_multi_agent_env import SyncVectorMultiAgentEnv

        return SyncVectorMultiAgentEnv([functools.partial(make_env, config.env, config.env_config)])
    made = make_env(config.env, config.env_config, num_envs=1, previous=previous_inputs(config))
    assert isinstance(made, VectorEnv)
    return made


class _OfSeed(Watched):
    """Is called by the seed of its episode."""

    _passes = (UsageError,)

    def __init__(self, make: Callable[[], gym.Env]) -> None:
        super().__init__(make(), "the environment")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._watched_name = "the environment" if seed is None else f"the environment of seed {seed}"
        return super().reset(seed=seed, options=options)


def side_by_side(makers: Sequence[Callable[[], gym.Env]]) -> SyncVectorEnv:
    """A vector environment that resets in the step that ends an episode (same-step autoreset).

    What an environment raises, or returns that is not as gymnasium has it, is raised as a ``RolloutError``, with the
    seed of the episode and the step.

    Args:
        makers: A function for each environment, which makes it.
    """
    return SyncVectorEnv([functools.partial(_OfSeed, make) for make in makers], autoreset_mode=AutoresetMode.SAME_STEP)


def _plain(
    env: Any, env_config: Mapping[str, Any], num_envs: int | None, render_mode: str | None
) -> gym.Env | VectorEnv:
    register_environments()
    arguments = {**env_config} if render_mode is None else {**env_config, "render_mode": render_mode}
    try:
        if num_envs is None:
            return _one(env, arguments, render_mode)
        if render_mode is None and _has_vector_form(env):
            arguments["autoreset_mode"] = AutoresetMode.SAME_STEP
            return gym.make_vec(env, num_envs=num_envs, vectorization_mode="vector_entry_point", **arguments)
        made = [functools.partial(_one, env, arguments, render_mode, index) for index in range(num_envs)]
        return side_by_side(made)
    except UsageError:
        raise
    except gym.error.UnregisteredEnv as error:
        raise UsageError(
            f"environment {env!r}: unknown here; allowed are ids of gymnasium, 'module:id', and names that this "
            "process has registered with ray.tune.register_env"
        ) from error
    except Exception as error:  # whatever the user's own environment raises
        asked = "" if render_mode is None else f" with render_mode {render_mode!r}"
        place = place_of(error)
        told = textwrap.shorten(in_words(error), 300) + (f" ({place})" if place else "")
        raise UsageError(f"environment {env!r}: cannot be made{asked}: {told}") from error


def _one(env: Any, arguments: Mapping[str, Any], render_mode: str | None, index: int = 0) -> gym.Env:
    from ray.rllib.env.env_context import EnvContext
    from ray.tune.registry import ENV_CREATOR, _global_registry

    known = not isinstance(env, str) or _global_registry.contains(ENV_CREATOR, env) or register_class(env)
    if not known:
        made = gym.make(env, **arguments)
    else:
        creator = _global_registry.get(ENV_CREATOR, env) if isinstance(env, str) else env
        made = creator(EnvContext(dict(arguments), worker_index=0, vector_index=index, num_workers=0))
    if render_mode is not None and made.render_mode != render_mode:
        made.close()
        raise UsageError(f"environment {env!r}: cannot render as {render_mode!r}")
    return made


def _has_vector_form(env: Any) -> bool:
    """Whether it is one of our own, whose vector form agrees with the scalar one seed by seed."""
    import stpn_envs

    return isinstance(env, str) and env.removeprefix("stpn_envs:") in stpn_envs.ENV_IDS
