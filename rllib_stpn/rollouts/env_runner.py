"""The batched EnvRunner: whole arrays per step, recurrent state stored once per sequence.

RLlib's ``SingleAgentEnvRunner`` keeps one Python object per environment and every module output, recurrent state
included, for every step. For an STPN on Pong that is 680 KB a step. This runner steps the vector environment and the
module on whole arrays and returns a ``Fragment``. What does not concern sampling is inherited.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import tree
from gymnasium.vector import AutoresetMode, VectorEnv
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, ValueFunctionAPI
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.env.env_runner import ENV_STEP_FAILURE
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import (
    EPISODE_LEN_MAX,
    EPISODE_LEN_MIN,
    EPISODE_RETURN_MAX,
    EPISODE_RETURN_MIN,
    RLMODULE_INFERENCE_TIMER,
    WEIGHTS_SEQ_NO,
)
from ray.rllib.utils.spaces.space_utils import unbatch
from ray.rllib.utils.torch_utils import convert_to_torch_tensor

from rllib_stpn.errors import UsageError
from rllib_stpn.kernels import torch_on_one_thread
from rllib_stpn.models import encoders
from rllib_stpn.models.lean_distributions import lean_distribution
from rllib_stpn.rollouts.advantages import generalized_advantages
from rllib_stpn.rollouts.connectors import action_transforms, observation_transforms
from rllib_stpn.rollouts.copies import copied
from rllib_stpn.rollouts.episode_runner import EpisodeEnvRunner
from rllib_stpn.rollouts.fragment import Fragment

_RECORDED_OUTPUTS = (Columns.ACTION_LOGP, Columns.ACTION_DIST_INPUTS, Columns.VF_PREDS)
_PLAIN = (np.dtype(np.float32), np.dtype(np.uint8), np.dtype(np.int64))  # whose arrays are tensors as they are
_EPISODE_CALLBACKS = ("on_episode_created", "on_episode_start", "on_episode_step", "on_episode_end")


class BatchedEnvRunner(EpisodeEnvRunner):
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

    def _construct(self, *, config, **kwargs) -> None:
        super()._construct(config=config, **kwargs)
        self._to_module = observation_transforms(self._env_to_module)
        self._to_env = action_transforms(self._module_to_env)
        window = math.ceil(self.config.metrics_num_episodes_for_smoothing / (self.config.num_env_runners or 1))
        self._finished: deque[tuple[int, float, float]] = deque(maxlen=max(window, 1))  # (length, return, seconds)
        self._keeps_episodes = any(getattr(self.config, f"callbacks_{which}") for which in _EPISODE_CALLBACKS) or any(
            getattr(type(callbacks), which) is not getattr(RLlibCallback, which)
            for callbacks in self._callbacks
            for which in _EPISODE_CALLBACKS
            if not hasattr(callbacks, "on_vector_step")
        )

    # --- construction -------------------------------------------------------------------------------------------

    def make_env(self) -> None:
        """Creates the vector environment."""
        super().make_env()
        self._autoreset = self.env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        self._autoreset = AutoresetMode(getattr(self._autoreset, "value", self._autoreset))

    def _presented(self, env: VectorEnv) -> VectorEnv:
        return env  # infos as they are; copies are taken only where an episode callback keeps them

    def make_module(self) -> None:
        """Creates the module with its value function, whose outputs are recorded with the actions.

        Raises:
            UsageError: A module whose value function RLlib would not send to env runners, or whose state does not reset
                inside a sequence; a minibatch shorter than a sequence.
        """
        spec = self.config.get_rl_module_spec(
            env=None if self.env is None else self.env.unwrapped,
            spaces=self.get_spaces(),
            inference_only=False,
        )
        self.module = spec.build()
        if not isinstance(self.module, ValueFunctionAPI) or (
            isinstance(self.module, InferenceOnlyAPI) and self.module.get_non_inference_attributes()
        ):
            raise UsageError(
                f"batched rollouts: got module {type(self.module).__name__}, allowed are modules with a value function "
                "whose get_non_inference_attributes() is empty, such as rllib_stpn.models.MemoryRLModule"
            )
        if self.module.is_stateful() and not encoders(self.module):
            raise UsageError(
                f"batched rollouts: got {type(self.module).__name__} with a recurrent encoder that is not ours, "
                "allowed are memoryless models and the layers of recurrent_spec ('lstm' is one): sequences go on over "
                "the ends of episodes, and the encoder has to reset its state there"
            )
        minibatch = self.config.minibatch_size
        longest = min(self._max_seq_len(), self.config.get_rollout_fragment_length(self.worker_index or 0))
        if self.module.is_stateful() and minibatch is not None and minibatch < longest:
            raise UsageError(
                f"minibatch_size: got {minibatch}, allowed is at least one sequence, which has {longest} steps "
                "(max_seq_len, or the fragment if that is shorter)"
            )
        self.module.to(self._device)
        self._on_cpu = torch.device(self._device).type == "cpu"
        self._convolves = any(isinstance(part, torch.nn.Conv2d) for part in self.module.modules())
        self._distribution = lean_distribution(self.module.get_exploration_action_dist_cls())

    # --- sampling -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _sample(self, **arguments: Any) -> list[Fragment]:
        with contextlib.nullcontext() if self._convolves else torch_on_one_thread():
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
        asked = num_timesteps or num_episodes or 0
        if force_reset or num_episodes is not None or self._needs_initial_reset:
            self._reset_envs_and_episodes(explore)
        if num_episodes is not None:
            self._needs_initial_reset = True

        planned = math.ceil(num_timesteps / self.num_envs) if num_timesteps is not None else None
        spacing = self._sequence_spacing(planned)
        recorder = _Recorder(planned or 256, self.num_envs)
        states: list[Any] = []
        self._initial_state = None
        self._inference_seconds: list[float] = []
        steps = episodes = t = 0
        while (steps if planned is not None else episodes) < asked:
            # Steps beyond the planned ones, taken for those in which an environment only reset, prolong the last
            # sequence.
            if t % spacing == 0 and (planned is None or t < planned) and not self.config.in_evaluation:
                states.append(self._copy_of_state())
            outcome = self._step(t, recorder, explore, random_actions)
            if outcome is None:  # the environment failed and was made again: what it did before is of no use
                self._reset_envs_and_episodes(explore)
                states, steps, episodes, t = [], 0, 0, 0
                continue
            valid, done = outcome
            steps += int(valid.sum())
            episodes += int(done.sum())
            t += 1

        starts = tuple(range(0, spacing * max(len(states), 1), spacing))
        fragment = self._fragment(recorder.columns(t), states, starts, complete_episodes=planned is None)
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
            self._ongoing_episodes_for_metrics.clear()
            self._observations = copied(self._observations)
            for index in range(self.num_envs):
                self._new_episode(index)
                self._begin_episode(index, self._observations, infos)

    def _process(self, observations: Any, indices: np.ndarray | None = None) -> Any:
        """Raw observations -> the module's, checked for NaN and infinities."""
        for transform in self._to_module:
            observations = transform(observations)
        self._check_observations(observations, indices)
        return observations

    def _check_raw(self, observations: Any) -> None:
        """Done in ``_process``, behind the connectors."""

    def _step_of(self, index: int, under_way: bool = False) -> int:
        return int(self._lengths[index]) + under_way

    def _act(self, explore: bool, random_actions: bool) -> dict[str, Any]:
        """One pass of the module over the current observations; advances the recurrent state."""
        state = self._current_state()
        with self.around_acting():
            outputs = self._forward(self._observations, state, explore, overwrite_state=True)
        self.check_outputs(outputs, self._observations)
        self._state = outputs.get(Columns.STATE_OUT)
        if explore:
            distribution = self._distribution(outputs[Columns.ACTION_DIST_INPUTS])
        else:
            distribution = (
                self.module.get_inference_action_dist_cls()
                .from_logits(outputs[Columns.ACTION_DIST_INPUTS])
                .to_deterministic()
            )
        if random_actions:
            outputs[Columns.ACTIONS] = convert_to_torch_tensor(self.env.action_space.sample())
        elif Columns.ACTIONS not in outputs:
            outputs[Columns.ACTIONS] = distribution.sample()
        if Columns.ACTION_LOGP not in outputs and not self.config.in_evaluation:
            outputs[Columns.ACTION_LOGP] = distribution.logp(outputs[Columns.ACTIONS])
        return outputs

    def _forward(self, observations: Any, state: Any, explore: bool, overwrite_state: bool = False) -> dict[str, Any]:
        """Returns the module's outputs with ``vf_preds``, without the time axis."""
        batch = {Columns.OBS: self._to_tensors(observations)}
        if state is not None:
            batch = {Columns.OBS: _map(_with_time, batch[Columns.OBS]), Columns.STATE_IN: state}
        begun = time.perf_counter()
        if hasattr(self.module, "forward_rollout"):
            outputs = dict(self.module.forward_rollout(batch, overwrite_state))
        else:
            forward = self.module.forward_exploration if explore else self.module.forward_inference
            arguments = {"t": self.num_env_steps_sampled_lifetime} if explore else {}
            outputs = dict(forward(batch, **arguments))
            outputs[Columns.VF_PREDS] = self.module.compute_values(batch)
        self._inference_seconds.append(time.perf_counter() - begun)
        if state is not None:
            for key, value in outputs.items():
                if key != Columns.STATE_OUT:
                    outputs[key] = _map(_without_time, value)
        return outputs

    def _to_tensors(self, value: Any) -> Any:
        """Arrays as tensors on the module's device, without a copy on the CPU."""
        plain = isinstance(value, np.ndarray) and value.flags.writeable and value.dtype in _PLAIN
        if plain and self._on_cpu:
            return torch.from_numpy(value)
        return convert_to_torch_tensor(value, device=self._device)

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

    def _step(
        self, t: int, recorder: _Recorder, explore: bool, random_actions: bool
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Acts, steps the environments and records step ``t``.

        Returns:
            ``(valid, done)``, each ``[B]`` bool: which environments did more than reset, and which ended an
            episode; None if the environments failed and were made again.
        """
        outputs = self._act(explore, random_actions)
        actions = _to_numpy(outputs[Columns.ACTIONS])
        if not self.config.in_evaluation:  # before the environment steps: it may write into its observations
            recorder.put(
                t,
                {
                    Columns.OBS: self._observations,
                    Columns.ACTIONS: actions,
                    **{column: _to_numpy(outputs[column]) for column in _RECORDED_OUTPUTS},
                },
            )
        actions_for_env = actions
        for transform in [] if random_actions else self._to_env:
            actions_for_env = transform(actions_for_env)
        results = self._try_env_step(actions_for_env)
        if isinstance(results, str) and results == ENV_STEP_FAILURE:
            return None
        observations, rewards, terminated, truncated, infos = results

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
        ended_infos, reset_infos = infos, infos
        final_values = np.zeros(self.num_envs, dtype=np.float32)
        if self._autoreset is AutoresetMode.NEXT_STEP:
            next_first, self._only_resets = self._only_resets, done
        else:
            next_first = done
            if len(ended):
                if self._autoreset is AutoresetMode.SAME_STEP:
                    finals = _final_observations(observations, infos, ended)
                    ended_infos = infos.get("final_info", {})
                else:
                    finals = tree.map_structure(lambda o: np.asarray(o)[ended], observations)
                    if self._keeps_episodes:  # the reset may write over them
                        infos = ended_infos = copied(infos)
                    observations, reset_infos = self.env.reset(options={"reset_mask": done})
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
            self._update_episodes(
                _Step(
                    outputs=outputs,
                    actions=unbatch(actions),
                    rewards=rewards,
                    terminated=terminated,
                    truncated=truncated,
                    valid=valid,
                    ended=ended,
                    finals=finals,
                    begins=next_first,
                    infos=infos,
                    ended_infos=ended_infos,
                    reset_infos=reset_infos,
                )
            )
        self._end_episodes(ended)
        self._is_first = next_first
        return valid, done

    def _values(self, observations: Any, rows: torch.Tensor | slice, explore: bool) -> np.ndarray:
        """V of the module's observations ``[len(rows), ...]``, seen with the current state of these environments."""
        state = None if self._state is None else tree.map_structure(lambda s: s[rows], self._state)
        return _to_numpy(self._forward(observations, state, explore)[Columns.VF_PREDS])

    def _end_episodes(self, ended: np.ndarray) -> None:
        if not len(ended):
            return
        now = time.perf_counter()
        for index in ended:
            seconds = now - self._started[index]
            self._finished.append((int(self._lengths[index]), float(self._returns[index]), seconds))
        self._lengths[ended] = 0
        self._returns[ended] = 0.0
        self._started[ended] = now

    # --- from the record to a fragment --------------------------------------------------------------------------

    def _max_seq_len(self) -> int:
        return self.module.model_config.get("max_seq_len", DefaultModelConfig.max_seq_len)

    def _sequence_spacing(self, planned: int | None) -> int:
        """Steps from one sequence's start to the next: at most ``max_seq_len``, and about equal lengths."""
        if not self.module.is_stateful():
            return planned or 2**31
        longest = self._max_seq_len()
        return longest if planned is None else math.ceil(planned / math.ceil(planned / longest))

    def _copy_of_state(self) -> Any:
        state = self._current_state()
        return None if state is None else tree.map_structure(lambda s: s.detach().cpu().numpy().copy(), state)

    def _fragment(
        self, columns: dict[str, Any], states: list[Any], starts: tuple[int, ...], complete_episodes: bool
    ) -> Fragment:
        mask, is_first, done, terminated, final_values, rewards = (
            columns.pop(name) for name in ("valid", "is_first", "done", "terminated", "final_values", Columns.REWARDS)
        )
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
        columns["advantages"] = advantages
        columns["value_targets"] = advantages + values
        has_state = states and states[0] is not None
        return Fragment(
            mask=mask,
            is_first=is_first,
            columns=columns,
            state_in=tree.map_structure(lambda *s: np.stack(s, axis=1), *states) if has_state else None,
            sequence_starts=starts,
            standardize_advantages=self._setting("standardize_advantages", True),
        )

    def _setting(self, name: str, default: bool) -> bool:
        return getattr(self.config, name, self.config.learner_config_dict.get(name, default))

    # --- metrics ------------------------------------------------------------------------------------------------

    def get_metrics(self):
        """Logs the finished episodes under RLlib's names and returns the reduced metrics.

        In training these are the last ``metrics_num_episodes_for_smoothing``. RLlib's logger would forget them after
        each iteration, and its means are of as few as ended in the last one.
        """
        if self._failure is not None:
            return super().get_metrics()
        if self._finished:
            episodes = np.array(self._finished)
            self._log_episode_metrics(*episodes.mean(0).tolist())  # one call for hundreds of episodes
            names = ((EPISODE_LEN_MIN, EPISODE_LEN_MAX), (EPISODE_RETURN_MIN, EPISODE_RETURN_MAX))
            for (least, most), values in zip(names, episodes.T[:2], strict=True):
                self.metrics.log_value(least, float(values.min()), reduce="min")
                self.metrics.log_value(most, float(values.max()), reduce="max")
        if self.config.in_evaluation:
            self._finished.clear()
        return self.metrics.reduce()

    # --- RLlib's episode objects, only where callbacks ask for them ---------------------------------------------

    def _begin_episode(self, index: int, observations: Any, infos: Any) -> None:
        self._ongoing_episodes[index].add_env_reset(
            observation=tree.map_structure(lambda o: o[index], observations), infos=_info(infos, index)
        )
        self._make_on_episode_callback("on_episode_start", index, self._ongoing_episodes)

    def _new_episode(self, env_index, episodes=None):
        episodes = self._ongoing_episodes if episodes is None else episodes
        episodes[env_index] = SingleAgentEpisode(
            observation_space=self._env_to_module.observation_space, action_space=self.env.single_action_space
        )
        self._make_on_episode_callback("on_episode_created", env_index, episodes)

    def _update_episodes(self, step: _Step) -> None:
        kept = {column: _to_numpy(step.outputs[column]) for column in _RECORDED_OUTPUTS if column in step.outputs}
        for index in range(self.num_envs):
            ends = index in step.ended
            if step.valid[index]:
                observations, row = self._observations, index
                if ends and step.finals is not None:
                    observations, row = step.finals, int(np.searchsorted(step.ended, index))
                outputs = {c: tree.map_structure(lambda v, i=index: v[i], value) for c, value in kept.items()}
                self._ongoing_episodes[index].add_env_step(
                    observation=tree.map_structure(lambda o, i=row: o[i], observations),
                    action=step.actions[index],
                    reward=float(step.rewards[index]),
                    infos=_info(step.ended_infos if ends else step.infos, index),
                    terminated=bool(step.terminated[index]),
                    truncated=bool(step.truncated[index]),
                    extra_model_outputs={**outputs, WEIGHTS_SEQ_NO: self._weights_seq_no},
                )
                self._make_on_episode_callback("on_episode_step", index, self._ongoing_episodes)
            if ends:
                self._make_on_episode_callback("on_episode_end", index, self._ongoing_episodes)
                self._ongoing_episodes_for_metrics.pop(self._ongoing_episodes[index].id_, None)
                self._new_episode(index)
            if step.begins[index]:
                self._begin_episode(index, self._observations, step.reset_infos)

    def _cut_episodes(self) -> None:
        for index, episode in enumerate(self._ongoing_episodes):
            if episode.is_reset and len(episode):
                self._ongoing_episodes[index] = episode.cut(len_lookback_buffer=self.config.episode_lookback_horizon)
                self._ongoing_episodes_for_metrics[episode.id_].append(episode)


class _Step(NamedTuple):
    """What one step of all environments brought, for the episode objects."""

    outputs: dict[str, Any]
    actions: list[Any]
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    valid: np.ndarray  # [B] bool: did more than reset
    ended: np.ndarray  # indices of the environments whose episode ended
    finals: Any  # their last observations, where these are not the current ones
    begins: np.ndarray  # [B] bool: the current observation begins an episode
    infos: Any
    ended_infos: Any
    reset_infos: Any


class _Recorder:
    """Arrays ``[B, T, ...]`` filled step by step; copies, since an environment may reuse its own arrays."""

    def __init__(self, capacity: int, num_envs: int) -> None:
        self.capacity = capacity
        self._num_envs = num_envs
        self._arrays: dict[str, Any] = {}

    def put(self, t: int, record: dict[str, Any]) -> None:
        if t >= self.capacity:  # episodes that end leave steps that only reset: a few more are taken
            grown = self.capacity + max(8, self.capacity // 4)
            self._arrays = tree.map_structure(lambda a: self._grow(a, grown), self._arrays)
            self.capacity = grown
        for name, value in record.items():
            if name not in self._arrays:
                self._arrays[name] = _map(self._allocate, value)
            if isinstance(value, np.ndarray):
                self._arrays[name][:, t] = value
            else:
                tree.map_structure(lambda array, v: array.__setitem__((slice(None), t), v), self._arrays[name], value)

    def columns(self, steps: int) -> dict[str, Any]:
        return {name: tree.map_structure(lambda a: a[:, :steps], arrays) for name, arrays in self._arrays.items()}

    def _allocate(self, value: Any) -> np.ndarray:
        value = np.asarray(value)
        return np.empty((self._num_envs, self.capacity, *value.shape[1:]), dtype=value.dtype)

    def _grow(self, array: np.ndarray, capacity: int) -> np.ndarray:
        grown = np.empty((self._num_envs, capacity, *array.shape[2:]), dtype=array.dtype)
        grown[:, : array.shape[1]] = array
        return grown


def _map(function: Callable, value: Any, *others: Any) -> Any:
    """``tree.map_structure``, at no cost for what most values are: one array."""
    if isinstance(value, np.ndarray | torch.Tensor):
        return function(value, *others)
    return tree.map_structure(function, value, *others)


def _with_time(leaf: torch.Tensor) -> torch.Tensor:
    return leaf.unsqueeze(1)


def _without_time(leaf: torch.Tensor) -> torch.Tensor:
    return leaf.squeeze(1)


def _to_numpy(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.numpy(force=True)
    return tree.map_structure(lambda leaf: leaf.numpy(force=True) if isinstance(leaf, torch.Tensor) else leaf, value)


def _final_observations(observations: Any, infos: dict, ended: np.ndarray) -> Any:
    """The last observations of the episodes that ended, ``[len(ended), ...]``, from same-step autoreset's infos."""
    finals = infos["final_obs"]
    if isinstance(finals, np.ndarray) and finals.dtype == object:  # one observation an environment
        return tree.map_structure(lambda *leaves: np.stack(leaves), *[finals[index] for index in ended])
    return tree.map_structure(lambda leaf: np.asarray(leaf)[ended], finals)


def _info(infos: Any, index: int) -> dict:
    """A copy of one environment's info out of gymnasium's vector info (a dict of arrays with a mask ``_key`` each)."""
    if isinstance(infos, (list, tuple)):
        return copied(infos[index])
    single = {}
    for key, values in infos.items():
        if key.startswith("_"):
            continue
        present = infos.get(f"_{key}")
        if present is not None and not present[index]:
            continue
        single[key] = _info(values, index) if isinstance(values, dict) else copied(values[index])
    return single
