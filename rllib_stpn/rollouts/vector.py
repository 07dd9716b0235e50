"""The vector environment of an env runner: each environment gets its own context, and its errors say where."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from ray.rllib.env.env_context import EnvContext
from ray.rllib.env.env_errors import StepFailedRecreateEnvError
from ray.tune.registry import ENV_CREATOR, _global_registry

from rllib_stpn.errors import RolloutError, UsageError
from rllib_stpn.rollouts.failure import name_of, rollout_error, telling
from rllib_stpn.rollouts.previous import previous_inputs, with_previous
from rllib_stpn.rollouts.values import is_flag, is_number, misfit

_ID = "rllib-single-agent-env-v0"  # what RLlib calls an environment that a creator makes


def context_of(config: Any, env_config: dict[str, Any], worker_index: int, index: int, num_workers: int) -> EnvContext:
    """The ``EnvContext`` for the creator, or class, of a runner's environment ``index``.

    Where env runners were folded into one process (``config._folded_env_runners`` of them), it has the
    ``worker_index`` and ``vector_index`` that the environment would have had in its own env runner.
    """
    folded = 0 if config.in_evaluation else getattr(config, "_folded_env_runners", 0)
    if folded and worker_index == 0:
        worker, vector_index = divmod(index, max(1, config.num_envs_per_env_runner // folded))
        worker_index, index, num_workers = worker + 1, vector_index, folded
    return EnvContext(
        env_config,
        worker_index=worker_index,
        vector_index=index,
        remote=config.remote_worker_envs,
        num_workers=num_workers,
    )


def make_vector_env(
    config: Any,
    worker_index: int,
    num_workers: int,
    one_is_made: Callable[[], None] = lambda: None,
    autoresets: Sequence[AutoresetMode] = tuple(AutoresetMode),
) -> tuple[VectorEnv, EnvContext]:
    """Makes the environments of ``config.env``, in gymnasium's own vector form or the environment's.

    They show the previous action and reward where the config asks for these (:func:`previous_inputs`).

    Args:
        config: RLlib's ``AlgorithmConfig``.
        worker_index: That of the env runner, 0 for the local one.
        num_workers: How many remote env runners there are.
        one_is_made: Called after each environment that is made in this process.
        autoresets: The modes that the caller knows; an environment's vector form that resets in another one is asked
            for the first of these.

    Returns:
        The vector environment, and the context of its first environment.

    Raises:
        RolloutError: What an environment's constructor raised.
        UsageError: A vector form resets in none of these modes.
    """
    context = functools.partial(context_of, config, config.env_config, worker_index, num_workers=num_workers)
    num_envs, mode = config.num_envs_per_env_runner, gym.VectorizeMode(config.gym_env_vectorize_mode)
    creator = config.env
    if isinstance(creator, str):
        known = _global_registry.contains(ENV_CREATOR, creator)
        creator = _global_registry.get(ENV_CREATOR, creator) if known else None
    if mode is gym.VectorizeMode.VECTOR_ENTRY_POINT:
        with telling(f"{name_of(None, worker_index)}, as it was made"):
            own = _own_vector_form(config, creator, context(index=0), num_envs)
            if autoreset_of(own) not in autoresets:
                own = _in_another_mode(own, config, creator, context(index=0), autoresets[0])
            return with_previous(own, previous_inputs(config)), context(index=0)

    def one(index: int) -> gym.Env:
        name = name_of(index, worker_index)
        with telling(f"{name}, as it was made"):
            if creator is None:
                env = gym.make(config.env, **config.env_config)
            else:
                env = gym.make(EnvSpec(_ID, entry_point=functools.partial(creator, context(index=index))))
        return Watched(env, name)

    def told(index: int) -> gym.Env:
        env = one(index)
        one_is_made()
        return env

    sync = mode is gym.VectorizeMode.SYNC  # else they are made in processes of their own
    kind, make = (SyncVectorEnv, told) if sync else (AsyncVectorEnv, one)
    env = kind([functools.partial(make, index) for index in range(num_envs)])
    return with_previous(env, previous_inputs(config)), context(index=0)


def autoreset_of(env: VectorEnv) -> AutoresetMode:
    """When a vector environment resets, from its metadata; without a word there, in the next step."""
    mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
    return AutoresetMode(getattr(mode, "value", mode))


def _in_another_mode(env: VectorEnv, config: Any, creator: Any, context: EnvContext, asked: AutoresetMode) -> VectorEnv:
    """Makes a vector form again, with the ``autoreset_mode`` that those of this package take.

    Raises:
        UsageError: The user chose another mode, or the vector form knows no such argument.
    """
    has = autoreset_of(env)
    env.close()
    told = (
        f"environment: got a vector form that resets by {has}, where RLlib's own env runner allows {asked}; batched "
        "rollouts allow all"
    )
    if "autoreset_mode" in config.env_config:
        raise UsageError(f"{told}; env_config: autoreset_mode: got {config.env_config['autoreset_mode']!r}")
    try:
        env = _own_vector_form(config, creator, context, env.num_envs, autoreset_mode=asked.value)
    except (TypeError, ValueError) as error:  # it knows no such argument, or no such mode
        raise UsageError(told) from error
    if autoreset_of(env) is not asked:
        env.close()
        raise UsageError(told)
    return env


def _own_vector_form(config: Any, creator: Any, context: EnvContext, num_envs: int, **arguments: Any) -> VectorEnv:
    mode = gym.VectorizeMode.VECTOR_ENTRY_POINT
    if creator is None:
        return gym.make_vec(config.env, num_envs=num_envs, vectorization_mode=mode, **config.env_config, **arguments)

    def entry_point(*, num_envs: int, **_: Any) -> VectorEnv:
        return creator(context.copy_with_overrides(env_config={**context, **arguments, "num_envs": num_envs}))

    spec = EnvSpec(_ID, vector_entry_point=entry_point)  # type: ignore[arg-type]
    return gym.make_vec(spec, num_envs=num_envs, vectorization_mode=mode)


class Watched(gym.Wrapper):
    """Says which environment failed and at which step; refuses what does not fit: values, their number and types.

    Its attributes have names that no environment has: ``get_attr`` and ``set_attr`` of a vector environment would find
    them before the environment's own.

    Args:
        env: The environment.
        name: What errors call it.
    """

    _passes: tuple[type[Exception], ...] = (UsageError, StepFailedRecreateEnvError)

    def __init__(self, env: gym.Env, name: str) -> None:
        super().__init__(env)
        self._watched_steps = self._watched_resets = 0
        self._watched_observation: Any = None
        self._watched_name = name
        self._watched_shape = env.observation_space.shape if isinstance(env.observation_space, gym.spaces.Box) else None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets the environment.

        Raises:
            RolloutError: What the environment raised, or returned that does not fit.
        """
        self._watched_steps = 0
        self._watched_resets += 1
        with telling(f"{self._watched_name}, as it was reset", self._passes):
            result = self.env.reset(seed=seed, options=options)
        if not isinstance(result, tuple) or len(result) != 2:
            raise self._unfit(f"{_number_of(result)} from reset(), where gymnasium has two: observation, info")
        self._watched_observation, info = result
        self._check_shape()
        self._check_info(info)
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Takes a step.

        Raises:
            RolloutError: What the environment raised, or returned that does not fit.
        """
        self._watched_steps += 1
        try:  # as `telling` does, without making a context manager for each step
            result = self.env.step(action)
        except self._passes:
            raise
        except Exception as error:
            raise rollout_error(error, f"{self._watched_name}, at step {self._watched_steps} of its episode") from error
        if not isinstance(result, tuple) or len(result) != 5:
            raise self._unfit(
                f"{_number_of(result)} from step(), where gymnasium has five: observation, reward, terminated, "
                "truncated, info"
            )
        self._watched_observation, reward, terminated, truncated, info = result
        self._check_shape()
        if not isinstance(reward, float) and not is_number(reward):
            raise self._unfit(f"the reward {reward!r}, which is no number")
        if type(terminated) is not bool or type(truncated) is not bool:
            self._check_flags(terminated=terminated, truncated=truncated)
        self._check_info(info)
        return result

    def _check_flags(self, **flags: Any) -> None:
        for name, flag in flags.items():
            if not is_flag(flag):
                raise self._unfit(f"{name} {flag!r}, which is neither True nor False")

    def _check_info(self, info: Any) -> None:
        if not isinstance(info, dict):
            raise self._unfit(f"the info {info!r}, which is no dict")

    def _check_shape(self) -> None:
        """Vector environments check this, too, but do not say which environment it was."""
        fits = self._watched_shape is None or getattr(self._watched_observation, "shape", None) == self._watched_shape
        if not fits and (what := misfit(self.observation_space, self._watched_observation)):
            raise self._unfit(f"an observation {what}")

    def _unfit(self, what: str) -> RolloutError:
        """The error for a value that it returned."""
        source = type(self.env.unwrapped)
        return RolloutError(
            f"{self._watched_name} returned {what}, at step {self._watched_steps} of its episode "
            f"({source.__module__}.{source.__qualname__})"
        )


def standing_of(env: Any) -> tuple[int, int] | None:
    """How often an environment was reset, and how many steps of its episode were taken; None if it is not watched."""
    return (env._watched_resets, env._watched_steps) if isinstance(env, Watched) else None


def under_way(env: Any) -> str:
    """What a watched environment is doing, in words, while a call of it is under way; nothing for anything else."""
    if not isinstance(env, Watched):
        return ""
    doing = f"at step {env._watched_steps} of its episode" if env._watched_steps else "as it was reset"
    return f"{env._watched_name}, {doing}"


def _number_of(result: Any) -> str:
    return f"{len(result)} values" if isinstance(result, tuple) else f"a single value ({type(result).__name__})"


def unfit_observation(env: VectorEnv) -> RolloutError | None:
    """The error for the first environment whose last observation does not fit its space; None where all do."""
    for each in getattr(env.unwrapped, "envs", ()):
        if isinstance(each, Watched) and (what := misfit(each.observation_space, each._watched_observation)):
            return each._unfit(f"an observation {what}")
    return None
