"""RLlib's own EnvRunner, whose environments know their index and whose errors reach the user."""

from __future__ import annotations

import functools
import logging
import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from typing import Any, NoReturn

import gymnasium as gym
import numpy as np
import torch
import tree
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers.vector import DictInfoToList
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.core.columns import Columns
from ray.rllib.env.env_errors import StepFailedRecreateEnvError
from ray.rllib.env.env_runner import NUM_ENV_STEP_FAILURES_LIFETIME
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.utils.metrics import ENV_RESET_TIMER, ENV_STEP_TIMER

from rllib_stpn.errors import NonFiniteError, NonFiniteObservationError, RolloutError, UsageError
from rllib_stpn.rollouts.connectors import refuse_filtered_mask
from rllib_stpn.rollouts.copies import OwnArrays
from rllib_stpn.rollouts.failure import (
    Failure,
    as_error,
    begin_again,
    is_actor,
    leave,
    name_of,
    note_made,
    note_sample,
    raise_if_failed,
    rollout_error,
)
from rllib_stpn.rollouts.values import batch_misfit, is_flag, is_number, largest
from rllib_stpn.rollouts.vector import make_vector_env, standing_of, unfit_observation
from rllib_stpn.rollouts.watchdog import Watchdog

SURVIVED = "num_failures_survived"
"""Metric of env runners: how many failures a run survived, as RLlib's fault settings allow."""
STEPS_DROPPED = "num_env_steps_dropped_lifetime"
EPISODES_DROPPED = "num_episodes_dropped_lifetime"
"""Metrics of env runners: what was sampled, but lost by failures that a run survived."""
LARGEST_REWARD = 1e18
"""Losses square returns, and the square of 1.8e19 is no 32-bit float."""
AT_A_STEP = "at a step of its episode"
_OTHER_SEEDS = 1_000_003
"""How far the seeds of environments that are made again are from those before."""
_TO_BEGIN = 10
"""How many times ``sample_timeout_s`` an env runner may take for an environment, or for the first step."""
_FATAL = (UsageError, NonFiniteError)  # whatever the fault settings say

logger = logging.getLogger("ray.rllib")


def check_output(config: Any, runner_class: type) -> None:
    """Refuses to record with env runners that would write nothing. Evaluation is never recorded.

    Raises:
        UsageError: The config has an ``output``, and the env runners do not write.
    """
    why_not = getattr(runner_class, "without_output", None)  # RLlib's own may write
    if config.output and why_not and not config.in_evaluation:
        raise UsageError(f"output: {why_not}")


class MadeAnew(Exception):
    """The environments failed and were made again: the sample begins anew."""


class EpisodeEnvRunner(SingleAgentEnvRunner):
    """RLlib's ``SingleAgentEnvRunner`` with an ``EnvContext`` for each environment, and with errors that are told.

    RLlib gives all environments of a runner the same context, so that ``vector_index`` is always 0, and hides the
    errors of remote runners. Here

    - an exception in an environment, or a value that does not fit, becomes a ``RolloutError`` that names the
      environment and the step; a remote runner returns it as data (``Failure``), and the driver raises it;
    - the same goes for a value that is no number, no flag or no info where there has to be one, for rewards of more
      than ``LARGEST_REWARD``, and for returns of ``reset`` and ``step`` in an older form;
    - with ``restart_failed_sub_environments`` the environments are made again, up to
      ``num_consecutive_env_runner_failures_tolerance`` times without a sample in between;
    - with ``restart_failed_env_runners``, RLlib's default, a remote runner makes its environments again and samples
      again, up to ``max_num_env_runner_restarts`` times; a second failure without a sample in between ends the run,
      since it would fail for ever;
    - with ``ignore_env_runner_failures`` alone, a remote runner that fails ends, and RLlib goes on with the others;
    - an observation or reward that is not finite, or an error in the constructor, ends the run in any case.

    Three metrics count what the run survived: ``num_failures_survived``, and what was lost by that:
    ``num_env_steps_dropped_lifetime``, steps of samples that were broken off, and ``num_episodes_dropped_lifetime``,
    episodes that ended in these samples or were under way.

    Attributes:
        without_output: Why it takes no ``output`` in its config; None where it writes what it samples there.
    """

    without_output: str | None = "EpisodeEnvRunner records nothing, RecordingEnvRunner does"

    def __init__(self, *, config, **kwargs):
        self._failure: Failure | None = None
        self._survived: list[str] = []  # since somebody asked
        self._restarts = 0
        self._failures_in_a_row = 0  # without a sample in between
        self._times_made = 0  # the environments
        self._made_when_reset: int | None = None  # that number, as they were last reset
        self._sampled = 0, 0  # steps, and episodes that ended, in this sample
        self._samples = 0  # that it gave
        self._samples_now = False
        self._watchdog: Watchdog | None = None
        self._num_made: int | None = None  # environments, while they are being made
        self._step_seconds: list[float] = []  # of the environments' steps, in this sample
        self._largest = 0.0, "no environment"  # absolute value in an observation, and whose
        self._rewards: np.ndarray | None = None  # the last ones
        raise_if_failed(kwargs.get("spaces"))  # what a remote runner's constructor raised
        self.config, self.worker_index = config, kwargs.get("worker_index")  # which the watchdog asks for
        watchdog = Watchdog(self)
        try:
            if self._number:
                begin_again(self._number)
            self._construct(config=config, **kwargs)
            if self._number:
                note_made()
        except Exception as error:
            told = as_error(error, self._number)
            if not self._number:
                raise told from told.__cause__
            self._failure = Failure(told)
        finally:
            watchdog.stop()

    def _construct(self, *, config, **kwargs) -> None:
        """What the constructor does, for subclasses to add to."""
        check_output(config, type(self))
        super().__init__(config=config, **kwargs)
        refuse_filtered_mask(self._env_to_module)

    def make_module(self) -> None:
        """Builds the module, whose outputs are checked before actions are drawn from them."""
        super().make_module()
        if self.module is not None:
            # RLlib hands these outputs straight to the connectors. A connector of ours would be a part of checkpoints.
            for name in ("forward_exploration", "forward_inference"):
                setattr(self.module, name, functools.partial(self._checked, getattr(self.module, name)))

    def _checked(self, forward: Callable, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        outputs = forward(batch, **kwargs)
        self.check_outputs(outputs, batch[Columns.OBS])
        return outputs

    # --- environments -------------------------------------------------------------------------------------------

    env: Any
    _kind_of_infos: type = list  # as they are presented
    _autoresets: tuple[AutoresetMode, ...] = (AutoresetMode.NEXT_STEP,)  # others lose steps in RLlib's sampling
    _needs_initial_reset: bool
    _seed: int | None

    def make_env(self) -> None:
        """Creates the vector environment."""
        self._close()
        if not self.config.env:
            raise UsageError("environment: none is given, allowed is one: config.environment('CartPole-v1')")
        self._num_made = 0
        try:
            env, context = make_vector_env(
                self.config, self._number, self.num_workers or 0, self._one_is_made, self._autoresets
            )
        finally:
            self._num_made = None
        self.env = self._presented(env)
        self.num_envs = self.env.num_envs
        self._times_made += 1
        self._needs_initial_reset = True
        make_callback(
            "on_environment_created",
            callbacks_objects=self._callbacks,
            callbacks_functions=self.config.callbacks_on_environment_created,
            kwargs={
                "env_runner": self,
                "metrics_logger": self.metrics,
                "env": self.env.unwrapped,
                "env_context": context,
            },
        )

    def _one_is_made(self) -> None:
        self._num_made = (self._num_made or 0) + 1

    def _close(self) -> None:
        """Closes the environments, where there are any; if that fails, nothing is lost by it."""
        if getattr(self, "env", None) is None:
            return
        try:
            self.env.close()
        except Exception as error:
            logger.warning(f"{rollout_error(error, f'{name_of(None, self._number)}, as it was closed')}")
            self.env.unwrapped.closed = True  # or gymnasium tries again
        self.env = None

    def _presented(self, env: VectorEnv) -> VectorEnv:
        """The environment for RLlib's sampling: a list of infos, one dict an environment, and arrays of its own."""
        return DictInfoToList(OwnArrays(env))

    def _try_env_reset(self, *, seed=None, options=None):
        # RLlib seeds the reset before each sample of whole episodes: all samples would begin alike, as evaluations do.
        if self._were_reset and not self.config.in_evaluation:
            seed = None
        if seed is not None:  # made again, they do not begin with the same episodes once more
            seed += (self._times_made - 1) * _OTHER_SEEDS
        try:
            with self.metrics.log_time(ENV_RESET_TIMER):
                result = self.env.reset(seed=seed, options=options)
            if not isinstance(result, tuple) or len(result) != 2:
                raise self._unfit("something else than observations and infos from reset()")
            self._check_batch(*result)
        except Exception as error:
            self._environment_failed(error, "as it was reset")
        self._made_when_reset = self._times_made
        observations, infos = result
        self._check_raw(observations)
        return observations, infos

    @property
    def _were_reset(self) -> bool:
        """Whether these environments have been reset since they were made, so that their generators are seeded."""
        return self._made_when_reset == self._times_made

    def _try_env_step(self, actions):
        try:
            begun = time.perf_counter()
            results = self.env.step(actions)
            self._step_seconds.append(time.perf_counter() - begun)
            if not isinstance(results, tuple) or len(results) != 5:
                raise self._unfit("something else than observations, rewards, terminated, truncated, infos from step()")
            observations, rewards, terminated, truncated, infos = results
            self._check_batch(observations, infos)
            rewards = self._rewards = self._as_numbers(rewards)
            terminated = self._as_flags("terminated", terminated)
            truncated = self._as_flags("truncated", truncated)
        except Exception as error:
            self.metrics.log_value(NUM_ENV_STEP_FAILURES_LIFETIME, 1, reduce="lifetime_sum")
            self._environment_failed(error, AT_A_STEP)
        self._check_raw_rewards(rewards)  # first: the observations may show them
        self._check_raw(observations)
        return observations, rewards, terminated, truncated, infos

    def _environment_failed(self, error: Exception, when: str) -> NoReturn:
        """Makes the environments again, where the fault settings say so.

        Raises:
            MadeAnew: They were made again.
            RolloutError: They were not.
        """
        if isinstance(error, _FATAL):
            raise error
        told = error
        if not isinstance(error, RolloutError):
            told = unfit_observation(self.env) or rollout_error(error, f"{name_of(None, self._number)}, {when}")
            told.__cause__ = error
        if not self.config.restart_failed_sub_environments:
            raise told
        self._failures_in_a_row += 1
        most = self.config.num_consecutive_env_runner_failures_tolerance
        if self._failures_in_a_row > most:
            raise RolloutError(
                f"{told}; {self._failures_in_a_row} times without a sample in between, and "
                f"num_consecutive_env_runner_failures_tolerance is {most}"
            ) from error
        if isinstance(error, StepFailedRecreateEnvError):  # by which an environment asks for it, in silence
            self._drop()
        else:
            self._survive(f"{told}: environments made anew (restart_failed_sub_environments)")
        self.make_env()
        raise MadeAnew

    @property
    def _number(self) -> int:
        return self.worker_index or 0

    def _check_raw(self, observations: Any) -> None:
        self._check_observations(observations)

    def _check_raw_rewards(self, rewards: np.ndarray) -> None:
        self._check_rewards(rewards)

    def _check_batch(self, observations: Any, infos: Any) -> None:
        """Raises for observations or infos of which vector environments have another kind."""
        if what := batch_misfit(self.env.single_observation_space, observations, self.num_envs):
            raise self._unfit(f"observations {what}")
        if not isinstance(infos, self._kind_of_infos):
            raise self._unfit(f"the infos {infos!r}, which are no dict")

    def _unfit(self, what: str) -> RolloutError:
        return RolloutError(f"the environments of env runner {self._number} returned {what} ({self._source})")

    def _unfit_of(self, index: int, what: str, step: int | str | None = None) -> RolloutError:
        step = self._step_of(index, under_way=True) if step is None else step
        return RolloutError(f"{self._which(index)} returned {what}, at step {step} of its episode ({self._source})")

    @property
    def _source(self) -> str:
        source = type(self.env.unwrapped)
        return f"{source.__module__}.{source.__qualname__}"

    def _step_of(self, index: int, under_way: bool = False) -> int | str:
        """At which step of its episode an environment is; ``under_way`` counts the step that is being taken."""
        envs = getattr(self.env.unwrapped, "envs", None)
        standing = standing_of(envs[index]) if envs else None
        return standing[1] if standing else "?"

    def _as_numbers(self, rewards: Any) -> np.ndarray:
        """The rewards ``[B]`` as an array of numbers.

        Raises:
            RolloutError: One is no number, or there is not one for each environment.
        """
        values = np.asarray(rewards)
        if values.shape != (self.num_envs,):
            raise self._unfit(f"rewards of the shape {values.shape}, allowed is ({self.num_envs},)")
        if values.dtype.kind not in "fiub":
            for index, reward in enumerate(values.tolist()):
                if not is_number(reward):
                    raise self._unfit_of(index, f"the reward {reward!r}, which is no number")
            values = values.astype(np.float64)
        return values

    def _as_flags(self, name: str, flags: Any) -> np.ndarray:
        """The flags ``[B]`` as an array of bools.

        Raises:
            RolloutError: One is neither True nor False, or there is not one for each environment.
        """
        values = np.asarray(flags)
        if values.shape != (self.num_envs,):
            raise self._unfit(f"{name} of the shape {values.shape}, allowed is ({self.num_envs},)")
        if values.dtype != bool:
            for index, flag in enumerate(values.tolist()):
                if not is_flag(flag):
                    raise self._unfit_of(index, f"{name} {flag!r}, which is neither True nor False")
            values = values.astype(bool)
        return values

    def _check_rewards(self, rewards: np.ndarray) -> None:
        """Raises for rewards ``[B]`` that are not finite, or larger than ``LARGEST_REWARD``."""
        for index in () if np.abs(rewards).max() <= LARGEST_REWARD else range(self.num_envs):
            self._check_reward(index, rewards[index], self._step_of(index))

    def _check_reward(self, index: int, reward: float, step: int | str) -> None:
        if not math.isfinite(reward):
            raise NonFiniteError(f"{self._which(index)} returned the reward {reward}, at step {step} of its episode")
        if abs(reward) > LARGEST_REWARD:
            raise NonFiniteError(
                f"{self._which(index)} returned the reward {reward:g}, at step {step} of its episode: allowed is up to "
                f"{LARGEST_REWARD:g}, since losses square returns in 32-bit floats"
            )

    def _check_observations(self, observations: Any, indices: np.ndarray | None = None) -> None:
        """Raises for observations ``[B, ...]`` that are not finite, of the environments with these indices."""
        row, size, observation = largest(observations)
        if size <= self._largest[0]:
            return
        index = row if indices is None else int(indices[row])
        where = f"{self._which(index)}, at step {self._step_of(index)} of its episode"
        if math.isfinite(size):
            self._largest = size, where
            return
        if self._rewards is not None:  # which it may show
            self._check_rewards(self._rewards)
        raise NonFiniteObservationError(
            f"{self._which(index)} returned an observation that is not finite, at step {self._step_of(index)} of its "
            f"episode: {np.array2string(np.ravel(observation), threshold=8)}"
        )

    def check_outputs(self, outputs: dict[str, Any], observations: Any) -> None:
        """Checks the outputs of the module; minus infinity is allowed, since it may mask an action.

        Args:
            outputs: The module's, ``[B, ...]``.
            observations: Those it saw, ``[B, ...]``.

        Raises:
            NonFiniteError: An output is NaN or infinite; the message says whether the weights are.
        """
        for column in (Columns.ACTION_DIST_INPUTS, Columns.VF_PREDS):
            values = outputs.get(column)
            if not isinstance(values, torch.Tensor) or values.sum().item() < math.inf:
                continue  # so it is unless one of them is NaN or infinite, or the sum overflows
            if bool((values < math.inf).all()):
                continue
            if not all(bool(weights.isfinite().all()) for weights in self.module.parameters()):
                raise NonFiniteError(
                    "the module's weights are not finite since the last update (a smaller lr, or grad_clip, may help); "
                    f"the largest observation so far: {self._largest[0]:g}, of {self._largest[1]}"
                )
            index = int((~(values < math.inf)).reshape(len(values), -1).any(1).nonzero()[0])
            seen = np.concatenate([np.ravel(np.asarray(leaf[index])) for leaf in tree.flatten(observations)])
            raise NonFiniteError(
                f"{self._which(index)}: the module's {column} are not finite for its observation "
                f"{np.array2string(seen, threshold=8)}, at step {self._step_of(index)} of its episode"
            )

    def _which(self, index: int) -> str:
        return name_of(index, self._number)

    # --- failures -----------------------------------------------------------------------------------------------

    def sample(self, **arguments):
        """Samples; a remote runner that fails returns its ``Failure``."""
        if self._watchdog is None and self._failure is None:
            self._watchdog = Watchdog(self)
        self._samples_now = True
        try:
            return self._sample_or_fail(**arguments)
        finally:
            self._samples_now = False

    def _sample_or_fail(self, **arguments):
        while self._failure is None:
            try:
                self._sampled = 0, 0
                samples = super().sample(**arguments)
                self._log_steps()
            except MadeAnew:
                continue
            except Exception as error:
                told = as_error(error, self._number)
                if not self._number:
                    raise told from told.__cause__
                self._fail_or_go_on(told)
            else:
                self._failures_in_a_row = 0
                self._samples += 1
                if self._samples == 1 and self._number:
                    note_sample()
                return samples
        # Counted, so that the driver does not ask again, and looks at it.
        self._increase_sampled_metrics(arguments.get("num_timesteps") or self.config.total_train_batch_size, 0)
        return [self._failure]

    def _log_steps(self) -> None:
        """Logs once a sample what RLlib logs at each step, which takes longer than the step of a small environment."""
        if self._step_seconds:
            self.metrics.log_value(ENV_STEP_TIMER, statistics.fmean(self._step_seconds), reduce="ema")
            self._log_env_steps(metric=self._metrics_num_try_env_step, num_steps=len(self._step_seconds))
            self._step_seconds.clear()

    def patience(self) -> float:
        """The seconds that a step may take; ten times as many for what comes before the first one: simulators start."""
        config = self.config
        seconds = config.evaluation_sample_timeout_s if config.in_evaluation else config.sample_timeout_s
        return (seconds or math.inf) * (_TO_BEGIN if self._begins else 1)

    @property
    def _begins(self) -> bool:
        return self._num_made is not None or not (self._samples or self._step_seconds)

    def progress(self) -> Any:
        """What differs after any environment was made, or a step taken; None while nobody waits for either."""
        if self._num_made is not None:
            return "made", self._num_made
        if not self._samples_now:
            return None
        envs = getattr(getattr(self.env, "unwrapped", None), "envs", ())
        return self._samples, len(self._step_seconds), tuple(map(standing_of, envs))

    def hangs(self, seconds: float, place: str) -> None:
        """Ends the process of a remote runner, which RLlib would wait for, in the end for ever."""
        limit = f"{_TO_BEGIN} times sample_timeout_s" if self._begins else "sample_timeout_s"
        what = "step"
        if self._num_made is not None:
            what = "environment"
            sync = gym.VectorizeMode(self.config.gym_env_vectorize_mode) is gym.VectorizeMode.SYNC
            which = name_of(self._num_made if sync else None, self._number)
            place = "; ".join(filter(None, (f"{which}, as it was made", place)))
        place = place or "in no environment"
        told = f"env runner {self._number} has made no {what} for {seconds:g} s ({limit}; {place})"
        logger.warning(told)
        leave(told)  # for the command, where this is the process of a trial
        if not self._number or not is_actor():
            return
        for process in multiprocessing.active_children():
            process.kill()
        os._exit(1)

    def _fail_or_go_on(self, told: RolloutError | UsageError) -> None:
        config = self.config
        if isinstance(told, _FATAL):
            self._failure = Failure(told)
        elif config.restart_failed_env_runners:
            self._failures_in_a_row += 1
            self._restarts += 1
            if self._failures_in_a_row > 1 or self._restarts > config.max_num_env_runner_restarts:
                self._failure = Failure(told)
                return
            self._survive(f"{told}: env runner {self._number} began anew (restart_failed_env_runners)")
            try:
                self.make_env()
            except Exception as error:
                self._failure = Failure(as_error(error, self._number))
        elif config.ignore_env_runner_failures:
            leave(str(told))
            raise told  # RLlib ends this runner
        else:
            self._failure = Failure(told)

    def _survive(self, what: str) -> None:
        what = f"{what}; {self._drop()}"
        logger.warning(what)
        self._survived.append(what)
        self.metrics.log_value(SURVIVED, 1, reduce="lifetime_sum")

    def _drop(self) -> str:
        """Counts what is lost with this sample, and says it."""
        steps, episodes = self._lost()
        self.metrics.log_value(STEPS_DROPPED, steps, reduce="lifetime_sum")
        self.metrics.log_value(EPISODES_DROPPED, episodes, reduce="lifetime_sum")
        return f"dropped: {steps} steps, {episodes} episodes"

    def _lost(self) -> tuple[int, int]:
        """How many steps, and episodes ended or under way, are lost if this sample is broken off."""
        steps, ended = self._sampled
        return steps, ended + sum(episode is not None and episode.t > 0 for episode in self._ongoing_episodes)

    def _make_on_episode_callback(self, which, idx, episodes):
        steps, ended = self._sampled
        self._sampled = steps + (which == "on_episode_step"), ended + (which == "on_episode_end")
        super()._make_on_episode_callback(which, idx, episodes)

    def take_survived(self) -> list[str]:
        """The failures survived since the last call, in words."""
        survived, self._survived = self._survived, []
        return survived

    def get_metrics(self):
        """RLlib's metrics."""
        return super().get_metrics() if self._failure is None else self.metrics.reduce()

    # --- what RLlib asks of a runner whose constructor failed, too -----------------------------------------------

    def assert_healthy(self) -> None:
        """RLlib's check, passed by a runner that failed: it has something to tell."""
        if self._failure is None:
            super().assert_healthy()

    def get_spaces(self):
        """RLlib's spaces, or the failure."""
        return super().get_spaces() if self._failure is None else self._failure

    def get_state(self, *args, **kwargs):
        """RLlib's state, nothing after a failure."""
        return super().get_state(*args, **kwargs) if self._failure is None else {}

    def set_state(self, state) -> None:
        """Takes RLlib's state, unless it failed."""
        if self._failure is None:
            super().set_state(state)

    def stop(self) -> None:
        """Closes the environments, where there are any."""
        if self._watchdog is not None:
            self._watchdog.stop()
        self._close()
