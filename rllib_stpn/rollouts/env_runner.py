"""The batched EnvRunner: whole arrays per step, recurrent state stored once per sequence.

RLlib's ``SingleAgentEnvRunner`` keeps one Python object per environment and every module output, recurrent state
included, for every step. For an STPN on Pong that is 680 KB a step. This runner steps the vector environment and the
module on whole arrays and returns a ``Fragment``. Everything else is inherited from RLlib's runner.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import tree
from gymnasium.vector import AutoresetMode, VectorEnv
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, ValueFunctionAPI
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.utils.metrics import (
    EPISODE_LEN_MAX,
    EPISODE_LEN_MIN,
    EPISODE_RETURN_MAX,
    EPISODE_RETURN_MIN,
    RLMODULE_INFERENCE_TIMER,
)
from ray.rllib.utils.torch_utils import convert_to_torch_tensor

from rllib_stpn.errors import NonFiniteError, UsageError
from rllib_stpn.kernels import torch_on_one_thread
from rllib_stpn.kernels.laid_out import weights_unchanged
from rllib_stpn.kernels.memory import memory_left_unfilled
from rllib_stpn.models import MemoryRLModule, encoders
from rllib_stpn.rollouts.acting import action_distribution, forward_one_step, to_arrays
from rllib_stpn.rollouts.advantages import generalized_advantages
from rllib_stpn.rollouts.connectors import action_transforms, observation_transforms
from rllib_stpn.rollouts.copies import copied
from rllib_stpn.rollouts.episode_objects import Step
from rllib_stpn.rollouts.episode_runner import AT_A_STEP, LARGEST_REWARD
from rllib_stpn.rollouts.fragment import Fragment, check_learners
from rllib_stpn.rollouts.recorder import Recorder
from rllib_stpn.rollouts.standing import GoesOn
from rllib_stpn.rollouts.values import batch_misfit, misfit
from rllib_stpn.rollouts.vector import autoreset_of

_RECORDED_OUTPUTS = (Columns.ACTION_LOGP, Columns.ACTION_DIST_INPUTS, Columns.VF_PREDS)
_PASSES = (
    *("forward_exploration", "forward_inference", "_forward_exploration", "_forward_inference", "_forward"),
    "compute_values",
)
"""Methods of modules that `forward_rollout` takes the place of."""
_STEPS_OF_EPISODES = 256
"""Room for so many steps at first, where whole episodes are sampled."""


class BatchedEnvRunner(GoesOn):
    """Samples ``Fragment`` objects from any gymnasium environment with any PPO-like module, stateful or not.

    Reads from the config, beside what RLlib's runner reads: ``gamma``, ``lambda_``, ``bootstrap_truncated`` and
    ``standardize_advantages`` (attributes of ``A2CConfig``; for other algorithms, entries of
    ``learner_config_dict``).

    Callbacks on episodes get RLlib's ``SingleAgentEpisode``. Keeping these costs time per environment and step, so
    they exist only where such a callback does. One that has a method ``on_vector_step`` gets arrays ``[B]`` in their
    place, after each step of all environments: ``valid``, which environments did more than reset, ``done``, which ended
    an episode, and ``lengths`` and ``returns`` of their episodes so far.

    Attributes:
        around_acting: Makes a context around each forward pass that chooses actions; passes for values alone have none.

    In training, ``episode_return_mean`` and its like are over the last ``metrics_num_episodes_for_smoothing`` episodes.
    """

    around_acting: Callable[[], contextlib.AbstractContextManager] = staticmethod(contextlib.nullcontext)
    without_output = "batched env runners record nothing, env_runner_cls: single_agent does"

    def _construct(self, *, config, **kwargs) -> None:
        super()._construct(config=config, **kwargs)
        self._to_module = observation_transforms(self._env_to_module)
        self._to_env = action_transforms(self._module_to_env)
        window = math.ceil(self.config.metrics_num_episodes_for_smoothing / (self.config.num_env_runners or 1))
        self._recorder, self._recorded = Recorder(0), 0  # what is sampled now, and how many steps that are
        self._ended: list[tuple[int, float, float]] = []
        self._lengths = np.zeros(self.num_envs, dtype=np.int64)
        # (length, return, seconds), in evaluation of all since somebody asked
        self._finished: deque[tuple[int, float, float]] = deque(maxlen=None if config.in_evaluation else max(window, 1))
        self._judged: list[tuple[int, float, float]] = []  # of an evaluation by a runner that trains

    # --- construction -------------------------------------------------------------------------------------------

    def make_env(self) -> None:
        """Creates the vector environment."""
        super().make_env()
        self._autoreset = autoreset_of(self.env)

    _kind_of_infos = dict
    _autoresets = tuple(AutoresetMode)

    def _presented(self, env: VectorEnv) -> VectorEnv:
        return env  # infos as they are; copies are taken only where an episode callback keeps them

    def make_module(self) -> None:
        """Creates the module with its value function, whose outputs are recorded with the actions.

        Raises:
            UsageError: A module whose value function RLlib would not send to env runners, or whose state does not reset
                inside a sequence; a minibatch shorter than a sequence; more learners than fragments.
        """
        spec = self.config.get_rl_module_spec(
            env=None if self.env is None else self.env.unwrapped,
            spaces=self.get_spaces(),
            inference_only=False,
        )
        self.module = spec.build()
        check_module(self.module)
        minibatch = self.config.minibatch_size
        longest = min(self._max_seq_len(), self.config.get_rollout_fragment_length(self.worker_index or 0))
        if self.module.is_stateful() and minibatch is not None and minibatch < longest:
            raise UsageError(
                f"minibatch_size: got {minibatch}, allowed is at least one sequence, which has {longest} steps "
                "(max_seq_len, or the fragment if that is shorter)"
            )
        if not self.config.in_evaluation:
            check_learners(self.config)
        self.module.to(self._device)
        self._acts_in_one_pass = _acts_in_one_pass(type(self.module))
        self._convolves = any(isinstance(part, torch.nn.Conv2d) for part in self.module.modules())

    # --- sampling -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _sample(self, **arguments: Any) -> list[Fragment]:
        threads = contextlib.nullcontext() if self._convolves else torch_on_one_thread()
        with threads, memory_left_unfilled(), weights_unchanged():
            return self._collect(**arguments)

    def _collect(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool,
        random_actions: bool = False,
        force_reset: bool = False,
    ) -> list[Fragment]:
        if num_timesteps == 0 or num_episodes == 0:
            return []
        self.set_generators_of_checkpoint()
        asked = num_timesteps or num_episodes or 0
        self._recorded, self._ended = 0, []
        if force_reset or num_episodes is not None or self._needs_initial_reset:
            self._reset_envs_and_episodes(explore)
        if num_episodes is not None:
            self._needs_initial_reset = True

        planned = math.ceil(num_timesteps / self.num_envs) if num_timesteps is not None else None
        spacing = self._sequence_spacing(planned)
        recorder = self._recorder = Recorder(planned or _STEPS_OF_EPISODES)
        lengths = self._lengths.copy()
        self._initial_state = None
        self._inference_seconds: list[float] = []
        steps = episodes = t = 0
        while (steps if planned is not None else episodes) < asked:
            # Steps in which an environment only reset do not count; those that make up for them prolong the last
            # sequence.
            begins_sequence = t % spacing == 0 and (planned is None or t < planned)
            if begins_sequence and self.module.is_stateful() and not self.config.in_evaluation:
                recorder.begin_sequence(self._current_state())
            valid, done = self._step(t, recorder, explore, random_actions)
            steps += int(valid.sum())
            episodes += int(done.sum())
            t += 1

        fragment = self._fragment(recorder, t, spacing, lengths, complete_episodes=planned is None)
        trains = self.config.batch_mode == "complete_episodes" or num_episodes is None
        if trains or self.config.in_evaluation:
            self._finished.extend(self._ended)
        else:  # RLlib evaluates with the runner that trains, where it has no other
            self._judged.extend(self._ended)
        if planned is not None and self._keeps_episodes:
            self._cut_episodes()
        self.metrics.log_value(RLMODULE_INFERENCE_TIMER, statistics.fmean(self._inference_seconds), reduce="ema")
        self._log_env_steps(metric=self._metrics_num_env_steps_sampled, num_steps=steps)
        self._increase_sampled_metrics(steps, episodes)
        return [fragment]

    def _reset_envs_and_episodes(self, explore: bool) -> None:
        # Only seed (if seed provided) upon initial reset. Environment i of a runner takes the seed plus i, and RLlib's
        # seed of a runner is one more than that of the runner before.
        seed = self._seed if self._needs_initial_reset else None
        if seed is not None:
            seed += max((self.worker_index or 0) - 1, 0) * (self.num_envs - 1)
        observations, infos = self._try_env_reset(seed=seed)
        self._needs_initial_reset = False
        self._is_first = np.ones(self.num_envs, dtype=bool)  # an episode begins with the current observation
        self._only_resets = np.zeros(self.num_envs, dtype=bool)  # the coming step only resets this environment
        self._lengths = np.zeros(self.num_envs, dtype=np.int64)
        self._returns = np.zeros(self.num_envs)
        self._started = np.full(self.num_envs, time.perf_counter())
        self._state = None
        self._observations = self._process(observations)
        if self._keeps_episodes:
            self._observations = copied(self._observations)
            self._begin_all_episodes(self._observations, infos)

    def _process(self, observations: Any, indices: np.ndarray | None = None) -> Any:
        """Raw observations -> the module's, checked for NaN and infinities."""
        for transform in self._to_module:
            observations = transform(observations)
        self._check_observations(observations, indices)
        return observations

    def _check_raw(self, observations: Any) -> None:
        """Done in ``_process``, behind the connectors."""

    def _check_raw_rewards(self, rewards: np.ndarray) -> None:
        """Done once a fragment, in ``_fragment``."""

    def _lost(self) -> tuple[int, int]:
        columns = self._recorder.columns(self._recorded) if self._recorded else {}
        steps = int(columns["valid"].sum()) if columns else 0
        return steps, len(self._ended) + int((self._lengths > 0).sum())

    def _step_of(self, index: int, under_way: bool = False) -> int:
        return int(self._lengths[index]) + under_way

    def _step(self, t: int, recorder: Recorder, explore: bool, random_actions: bool) -> tuple[np.ndarray, np.ndarray]:
        """Acts, steps the environments and records step ``t``.

        Returns:
            ``(valid, done)``, each ``[B]`` bool: which environments did more than reset, and which ended an episode.
        """
        self._recorded = t  # steps
        outputs = self._act(explore, random_actions)
        actions = outputs[Columns.ACTIONS]
        if not self.config.in_evaluation:  # before the environment steps: it may write into its observations
            recorder.put(t, {Columns.OBS: self._observations, **outputs})
        actions_for_env = actions
        for transform in [] if random_actions else self._to_env:
            actions_for_env = transform(actions_for_env)
        observations, rewards, terminated, truncated, infos = self._try_env_step(actions_for_env)

        valid = ~self._only_resets
        done = (terminated | truncated) & valid
        rewards_of_valid = np.where(valid, rewards, 0.0)
        self._lengths += valid
        self._returns += rewards_of_valid
        for callbacks in self._callbacks:
            if hasattr(callbacks, "on_vector_step"):
                callbacks.on_vector_step(valid=valid, done=done, lengths=self._lengths, returns=self._returns)
        ended = np.flatnonzero(done)
        finals = None  # the module's view of the final observations, [len(ended), ...]
        final_infos, reset_infos = infos, infos
        final_values = np.zeros(self.num_envs, dtype=np.float32)
        if self._autoreset is AutoresetMode.NEXT_STEP:
            begins, self._only_resets = self._only_resets, done
        else:
            begins = done
            if len(ended):
                if self._autoreset is AutoresetMode.SAME_STEP:
                    finals = self._final_observations(infos, ended)
                    final_infos = infos.get("final_info", {})
                else:
                    finals = tree.map_structure(lambda o: np.asarray(o)[ended], observations)
                    # The reset may write over them.
                    rewards, terminated, truncated = rewards.copy(), terminated.copy(), truncated.copy()
                    if self._keeps_episodes:
                        infos = final_infos = copied(infos)
                    try:
                        observations, reset_infos = self.env.reset(options={"reset_mask": done})
                    except Exception as error:
                        self._environment_failed(error, "as it was reset")
                finals = self._process(finals, ended)
                if not self.config.in_evaluation:
                    final_values[ended] = self._values(finals, torch.from_numpy(ended), explore)
        recorder.put(
            t,
            {
                "valid": valid,
                "is_first": self._is_first,
                "done": done,
                "terminated": terminated & valid,
                Columns.REWARDS: rewards_of_valid.astype(np.float32),
                "final_values": final_values,
            },
        )
        self._observations = self._process(observations)
        if self._keeps_episodes:
            # An environment may write its next step into the same arrays. Only here do they outlive this step.
            self._observations = copied(self._observations)
            self._add_to_episodes(
                Step(
                    outputs={name: value for name, value in outputs.items() if name != Columns.ACTIONS},
                    actions=actions,
                    rewards=rewards,
                    terminated=terminated,
                    truncated=truncated,
                    valid=valid,
                    ended=ended,
                    observations=self._observations,
                    final_observations=finals,
                    begins=begins,
                    infos=infos,
                    final_infos=final_infos,
                    reset_infos=reset_infos,
                )
            )
        self._end_episodes(ended)
        self._is_first = begins
        return valid, done

    def _final_observations(self, infos: dict, ended: np.ndarray) -> Any:
        """The last observations of the episodes that ended, ``[len(ended), ...]``, from same-step autoreset's infos."""
        if "final_obs" not in infos:
            self._environment_failed(self._unfit("no final_obs among the infos of an episode's end"), AT_A_STEP)
        given = finals = infos["final_obs"]
        rows, space = len(ended), self.env.single_observation_space
        try:
            if isinstance(given, np.ndarray) and given.dtype == object:  # one observation an environment
                finals = tree.map_structure(lambda *leaves: np.stack(leaves), *[given[index] for index in ended])
            else:
                finals = tree.map_structure(lambda leaf: np.asarray(leaf)[ended], given)
            what = batch_misfit(space, finals, rows)
        except (ValueError, TypeError, IndexError) as error:
            what = f"that are no batch ({type(error).__name__}: {error})"
        if what:
            told = self._unfit(f"final observations {what}")
            for index in ended[::-1] if isinstance(given, np.ndarray) and len(given) == self.num_envs else ():
                if of_one := misfit(space, given[index]):
                    told = self._unfit_of(index, f"a final observation {of_one}", self._step_of(index))
            self._environment_failed(told, AT_A_STEP)
        return finals

    def _end_episodes(self, ended: np.ndarray) -> None:
        if not len(ended):
            return
        now = time.perf_counter()
        for index in ended:
            seconds = now - self._started[index]
            self._ended.append((int(self._lengths[index]), float(self._returns[index]), seconds))
        self._lengths[ended] = 0
        self._returns[ended] = 0.0
        self._started[ended] = now

    # --- the module ---------------------------------------------------------------------------------------------

    def _act(self, explore: bool, random_actions: bool) -> dict[str, Any]:
        """One pass of the module over the current observations, which advances the recurrent state.

        Returns:
            Arrays ``[B, ...]``: the actions, and what is recorded of the module's outputs.
        """
        state = self._current_state()
        with self.around_acting():
            outputs = self._forward(self._observations, state, explore, overwrite_state=True)
        self.check_outputs(outputs, self._observations)
        self._state = outputs.get(Columns.STATE_OUT)
        distribution = action_distribution(self.module, outputs, explore)
        if random_actions:
            outputs[Columns.ACTIONS] = convert_to_torch_tensor(self.env.action_space.sample(), device=self._device)
        elif Columns.ACTIONS not in outputs:
            outputs[Columns.ACTIONS] = distribution.sample()
        if Columns.ACTION_LOGP not in outputs and not self.config.in_evaluation:
            outputs[Columns.ACTION_LOGP] = distribution.logp(outputs[Columns.ACTIONS])
        return {name: to_arrays(outputs[name]) for name in (Columns.ACTIONS, *_RECORDED_OUTPUTS) if name in outputs}

    def _forward(self, observations: Any, state: Any, explore: bool, overwrite_state: bool = False) -> dict[str, Any]:
        """The module's outputs ``[B, ...]`` with ``vf_preds``."""
        module = self.module

        def forward(batch: dict[str, Any]) -> dict[str, Any]:
            if self._acts_in_one_pass:
                return module.forward_rollout(batch, overwrite_state)
            if explore:
                outputs = module.forward_exploration(batch, t=self.num_env_steps_sampled_lifetime)
            else:
                outputs = module.forward_inference(batch)
            return {**outputs, Columns.VF_PREDS: module.compute_values(batch)}

        begun = time.perf_counter()
        outputs = forward_one_step(forward, observations, state, self._device)
        self._inference_seconds.append(time.perf_counter() - begun)
        return outputs

    def _current_state(self) -> Any:
        """The state for the current observations: the initial one where an episode begins; None without state."""
        if not self.module.is_stateful():
            return None
        if self._state is None or self._is_first.any():
            if self._initial_state is None:  # of these weights
                self._initial_state = convert_to_torch_tensor(self.module.get_initial_state(), device=self._device)
            initial = self._initial_state
            if self._state is None:
                self._state = tree.map_structure(
                    lambda leaf: leaf.unsqueeze(0).repeat(self.num_envs, *[1] * leaf.dim()), initial
                )
            else:
                first = torch.from_numpy(np.flatnonzero(self._is_first))
                tree.map_structure(lambda s, i: s.index_put_((first,), i), self._state, initial)
        return self._state

    def _values(self, observations: Any, rows: torch.Tensor | slice, explore: bool) -> np.ndarray:
        """V of the module's observations ``[len(rows), ...]``, seen with the current state of these environments."""
        state = None if self._state is None else tree.map_structure(lambda s: s[rows], self._state)
        return to_arrays(self._forward(observations, state, explore)[Columns.VF_PREDS])

    # --- from the record to a fragment --------------------------------------------------------------------------

    def _max_seq_len(self) -> int:
        return self.module.model_config.get("max_seq_len", DefaultModelConfig.max_seq_len)

    def _sequence_spacing(self, planned: int | None) -> int:
        """Steps from one sequence's start to the next: at most ``max_seq_len``, and about equal lengths."""
        if not self.module.is_stateful():
            return planned or 2**31
        longest = self._max_seq_len()
        return longest if planned is None else math.ceil(planned / math.ceil(planned / longest))

    def _fragment(
        self, recorder: Recorder, steps: int, spacing: int, lengths: np.ndarray, complete_episodes: bool
    ) -> Fragment:
        """The first ``steps`` of the record, with advantages.

        Args:
            recorder: What was recorded.
            steps: How many are counted.
            spacing: Steps from one sequence's start to the next.
            lengths: ``[B]``, how many steps the episodes had before them.
            complete_episodes: Whether unfinished ones are left out.
        """
        columns = recorder.columns(steps)
        mask, is_first, done, terminated, final_values, rewards = (
            columns.pop(name) for name in ("valid", "is_first", "done", "terminated", "final_values", Columns.REWARDS)
        )
        if not np.abs(rewards).max() <= LARGEST_REWARD:
            self._refuse_rewards(rewards, mask, is_first, lengths)
        if complete_episodes:  # what follows an environment's last finished episode is left out
            mask = mask & (np.cumsum(done[:, ::-1], axis=1)[:, ::-1] > 0)
        if self.config.in_evaluation:
            return Fragment(mask=mask, is_first=is_first)

        values = columns.pop(Columns.VF_PREDS)
        self._current_state()
        value_now = self._values(self._observations, slice(None), explore=True)
        # V(s_{t+1}): in the middle of an episode the next step's; at a truncation the final observation's, which
        # under next-step autoreset is the next step's, too; behind the fragment's end an extra pass.
        next_values = np.concatenate([values[:, 1:], value_now[:, None]], axis=1)
        if self._autoreset is not AutoresetMode.NEXT_STEP:
            next_values = np.where(done, final_values, next_values)
        goes_on = ~terminated if self._setting("bootstrap_truncated", True) else ~done
        advantages = generalized_advantages(
            rewards=rewards,
            values=values,
            next_values=np.where(goes_on, next_values, 0.0),
            episode_ends=done,
            gamma=self.config.gamma,
            lambda_=self.config.lambda_ if self.config.use_gae else 1.0,
        ).astype(np.float32)
        if not np.isfinite(advantages).all():
            self._refuse_values(final_values, value_now, mask, is_first, lengths)
        columns["advantages"] = advantages
        columns["value_targets"] = advantages + values
        return Fragment(
            mask=mask,
            is_first=is_first,
            columns=columns,
            state_in=recorder.states(),
            sequence_starts=tuple(range(0, spacing * max(recorder.sequences, 1), spacing)),
            largest=self._largest,
            standardize_advantages=self._setting("standardize_advantages", True),
        )

    def _refuse_rewards(self, rewards: np.ndarray, mask: np.ndarray, is_first: np.ndarray, lengths: np.ndarray) -> None:
        """Raises for the first reward ``[B, T]`` that no loss can be computed from."""
        for t, index in np.argwhere(~(np.abs(rewards.T) <= LARGEST_REWARD)):
            self._check_reward(int(index), float(rewards[index, t]), _step_of(index, t, mask, is_first, lengths))

    def _refuse_values(
        self,
        final_values: np.ndarray,
        value_now: np.ndarray,
        mask: np.ndarray,
        is_first: np.ndarray,
        lengths: np.ndarray,
    ) -> None:
        """Raises for values that are not finite, though the rewards are, and those of the observations acted upon."""
        for t, index in np.argwhere(~np.isfinite(final_values.T)):
            step = _step_of(index, t, mask, is_first, lengths)
            raise NonFiniteError(
                f"{self._which(int(index))}: the value of its final observation, at step {step} of its episode, is not "
                f"finite; the largest observation so far: {self._largest[0]:g}, of {self._largest[1]}"
            )
        for index in np.flatnonzero(~np.isfinite(value_now)):
            raise NonFiniteError(
                f"{self._which(int(index))}: the value of its observation at step {self._step_of(int(index))} of its "
                f"episode is not finite; the largest observation so far: {self._largest[0]:g}, of {self._largest[1]}"
            )
        raise NonFiniteError(
            f"env runner {self._number}: advantages are not finite, though rewards and values are: they overflow"
        )

    def _setting(self, name: str, default: bool) -> bool:
        return getattr(self.config, name, self.config.learner_config_dict.get(name, default))

    # --- metrics ------------------------------------------------------------------------------------------------

    def get_metrics(self):
        """Logs the finished episodes under RLlib's names and returns the reduced metrics.

        In training these are the last ``metrics_num_episodes_for_smoothing``. RLlib's logger would forget them after
        each iteration, and its means are of as few as ended in the last one. In evaluation these are all since the
        last call.
        """
        if self._failure is not None:
            return super().get_metrics()
        ended, self._judged = self._judged or self._finished, []
        if ended:
            episodes = np.array(ended)
            self._log_episode_metrics(*episodes.mean(0).tolist())  # one call for hundreds of episodes
            names = ((EPISODE_LEN_MIN, EPISODE_LEN_MAX), (EPISODE_RETURN_MIN, EPISODE_RETURN_MAX))
            for (least, most), values in zip(names, episodes.T[:2], strict=True):
                self.metrics.log_value(least, float(values.min()), reduce="min")
                self.metrics.log_value(most, float(values.max()), reduce="max")
        if self.config.in_evaluation:
            self._finished.clear()
        return self.metrics.reduce()


def _acts_in_one_pass(kind: type) -> bool:
    """Whether ``forward_rollout`` gives what a module's other passes give; not where a user's class overrides these."""
    if not issubclass(kind, MemoryRLModule) or kind.overridden("forward_rollout"):
        return hasattr(kind, "forward_rollout")
    return not kind.overridden(*_PASSES)


def check_module(module: Any) -> None:
    """Refuses a module that cannot be run on sequences that go on over the ends of episodes, with its values recorded.

    Raises:
        UsageError: RLlib would not send its value function to env runners, or its state is not reset in a sequence.
    """
    if not isinstance(module, ValueFunctionAPI) or (
        isinstance(module, InferenceOnlyAPI) and module.get_non_inference_attributes()
    ):
        raise UsageError(
            f"batched rollouts: got module {type(module).__name__}, allowed are modules with a value function "
            "whose get_non_inference_attributes() is empty, such as rllib_stpn.models.MemoryRLModule"
        )
    if module.is_stateful() and not encoders(module):
        raise UsageError(
            f"batched rollouts: got {type(module).__name__} with a recurrent encoder that is not ours, "
            "allowed are memoryless models and the layers of recurrent_spec ('lstm' is one): sequences go on over "
            "the ends of episodes, and the encoder has to reset its state there"
        )


def _step_of(index: int, t: int, mask: np.ndarray, is_first: np.ndarray, lengths: np.ndarray) -> int:
    """Which step of its episode step ``t`` of a fragment was, counted from 1, in environment ``index``."""
    begun = np.flatnonzero(is_first[index, : t + 1])
    start = int(begun[-1]) if len(begun) else 0
    return int(mask[index, start : t + 1].sum()) + (0 if len(begun) else int(lengths[index]))
