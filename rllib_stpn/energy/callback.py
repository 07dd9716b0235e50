"""Energy of the layers' synapses as metrics of training and evaluation."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, EVALUATION_RESULTS

from rllib_stpn.energy import old_stack
from rllib_stpn.energy.meter import Meter, Reading
from rllib_stpn.errors import UsageError
from rllib_stpn.rollouts.env_runner import BatchedEnvRunner

_RETURN = "return_per_episode"


class EnergyMetricsCallback(RLlibCallback):
    """Measures the energy of choosing actions where environments are stepped.

    ::

        config.callbacks(EnergyMetricsCallback)
        config.callbacks(functools.partial(EnergyMetricsCallback, ignore_inputs=[12], every_n_steps=10))

    and in a YAML file ``callbacks: energy``, or ``callbacks: {energy: {ignore_inputs: [12], every_n_steps: 10}}``.

    For single agents on both API stacks, with batched rollouts and with RLlib's own runners. Results of training have
    under ``env_runners/energy``, those of evaluation under ``evaluation/env_runners/energy``:

    - ``per_step``: mean over environment steps of the sum over units of all layers that lead to the action;
    - ``per_episode``: mean over the episodes that ended last, in training ``metrics_num_episodes_for_smoothing``;
    - ``per_reward``: that by their mean return; left out where this is not above 0;
    - ``recurrent_share``: the part of the energy that recurrent synapses spend, the rest being that of input synapses;
      measured at one of 32 steps of each environment (one of four measured steps, where fewer are measured), drawn at
      random;
    - ``layers/<name>``: ``per_step`` of each layer.

    On the old stack all of them are of those episodes, since it knows no other metrics; on the new one ``per_step`` and
    what follows from it is of the steps of the iteration. A metric without a value, such as ``per_episode`` where no
    episode ended, is missing or NaN. Left out are biases, encoders in front of the layers, read-outs, and the value
    function, unless it shares the layers. The steps themselves do not change.

    Args:
        ignore_inputs: Inputs of the first layer, by index, whose synapses are left out of the energy (not of the
            computation): the reward of 10 that the maze shows as input 12 counts 100 when squared. Costs another pass
            of the layer at measured steps.
        every_n_steps: Measures one of so many steps of the environments. The energy of an episode is then so many times
            that of its measured steps, which is right in the mean over episodes.

    Raises:
        UsageError: A wrong option; where environments are stepped, a model without layers of this package, a layer of
            your own that leaves its energy out, several agents, or the Atari wrappers of the old API stack.
    """

    def __init__(self, *, ignore_inputs: Sequence[int] = (), every_n_steps: int = 1) -> None:
        self._meter = Meter(ignore_inputs, every_n_steps)
        self._module: Any = None

    # --- where the module acts ----------------------------------------------------------------------------------

    def on_environment_created(self, *, env_runner: Any, **kwargs: Any) -> None:
        """Starts anew, for the number of environments that the runner has now."""
        config = env_runner.config
        if config.is_multi_agent:
            raise UsageError("energy: got a multi-agent config, allowed are single-agent ones")
        self._sums = np.zeros(env_runner.num_envs)  # of the episodes under way
        window = math.ceil(config.metrics_num_episodes_for_smoothing / (config.num_env_runners or 1))
        self._episodes: deque[tuple[float, float]] = deque(maxlen=max(window, 1))  # energy and return
        self._clear()
        if isinstance(env_runner, BatchedEnvRunner):
            env_runner.around_acting = lambda: self._meter.measuring(env_runner.module)

    def on_episode_created(self, *, env_runner: Any = None, **kwargs: Any) -> None:
        """Wraps the forward passes of a module that RLlib's own runner acts with."""
        if env_runner is None or isinstance(env_runner, BatchedEnvRunner) or env_runner.module is self._module:
            return
        self._module = module = env_runner.module
        for name in ("forward_exploration", "forward_inference"):
            setattr(module, name, self._measured(module, getattr(module, name)))

    def _measured(self, module: Any, forward: Callable) -> Callable:
        def measured(*args: Any, **kwargs: Any) -> Any:
            with self._meter.measuring(module):
                return forward(*args, **kwargs)

        return measured

    # --- the old API stack ---------------------------------------------------------------------------------------

    def on_sub_environment_created(self, *, worker: Any, sub_environment: Any, **kwargs: Any) -> None:
        """Refuses environments that cannot be measured."""
        old_stack.check_worker(worker, sub_environment)

    def on_create_policy(self, *, policy_id: str, policy: Any) -> None:
        """Wraps the forward passes that choose actions."""
        old_stack.watch(policy, self._meter)

    def on_train_result(self, *, result: dict, **kwargs: Any) -> None:
        """Sums up the old stack's episodes, and puts the energy of the new one's in proportion to their returns."""
        sum_up_training(result=result)

    def on_evaluate_end(self, *, evaluation_metrics: dict, **kwargs: Any) -> None:
        """The same for those of an evaluation."""
        sum_up_evaluation(evaluation_metrics=evaluation_metrics)

    # --- what was spent, by step and by episode -----------------------------------------------------------------

    def on_vector_step(
        self, *, valid: np.ndarray, done: np.ndarray, lengths: np.ndarray, returns: np.ndarray, **kwargs: Any
    ) -> None:
        """A step of all environments of the batched runner."""
        self._sums[valid & (lengths == 1)] = 0
        reading = self._meter.reading
        if reading is not None:
            spent = np.where(valid, reading.layers, 0.0)
            self._sums += spent.sum(0)
            share = None if reading.share is None else reading.share @ valid
            self._count(reading, spent.sum(1), int(np.count_nonzero(valid)), share)
        for index in np.flatnonzero(done).tolist():
            self._end_episode(index, returns[index])

    def on_episode_step(self, *, episode: Any, env_runner: Any = None, env_index: int, **kwargs: Any) -> None:
        """A step of one environment of RLlib's own runner."""
        if env_runner is None or isinstance(env_runner, BatchedEnvRunner):  # whose episodes are for other callbacks
            return
        if episode.t == 1:
            self._sums[env_index] = 0
        reading = self._meter.reading
        if reading is None:
            return
        spent = reading.layers[:, env_index]
        self._sums[env_index] += spent.sum()
        self._count(reading, spent, 1, None if reading.share is None else reading.share[:, env_index])

    def on_episode_end(
        self,
        *,
        episode: Any,
        env_runner: Any = None,
        env_index: int,
        prev_episode_chunks: Sequence[Any] = (),
        **kwargs: Any,
    ) -> None:
        """The end of an episode of RLlib's own runner, or of the old API stack's."""
        if env_runner is None:
            old_stack.end(episode)
        elif not isinstance(env_runner, BatchedEnvRunner):
            self._end_episode(env_index, sum(chunk.get_return() for chunk in [episode, *prev_episode_chunks]))

    def on_sample_end(self, *, env_runner: Any = None, metrics_logger: Any = None, **kwargs: Any) -> None:
        """Logs what this sample spent."""
        if env_runner is None:
            return

        def log(value: float, *key: str) -> None:
            metrics_logger.log_value(("energy", *key), value, reduce="mean")

        if self._steps:
            per_layer = self._by_layer / self._steps
            log(float(per_layer.sum()), "per_step")
            for name, value in zip(self._names, per_layer, strict=True):
                log(float(value), "layers", name)
        if self._share[1] > 0:
            log(float(self._share[0] / self._share[1]), "recurrent_share")
        if self._episodes:
            energy, reward = np.mean(self._episodes, axis=0)
            log(float(energy), "per_episode")
            log(float(reward), _RETURN)  # for the proportion of the means over all env runners
        if env_runner.config.in_evaluation:
            self._episodes.clear()
        self._clear()

    def _clear(self) -> None:
        self._meter.reading = None
        self._steps = 0
        self._by_layer: Any = 0.0  # [layers]
        self._names: list[str] = []
        self._share = np.zeros(2)  # recurrent, all

    def _count(self, reading: Reading, by_layer: np.ndarray, steps: int, share: np.ndarray | None) -> None:
        self._names = reading.names
        self._by_layer = self._by_layer + by_layer
        self._steps += steps
        if share is not None:
            self._share += share

    def _end_episode(self, index: int, reward: float) -> None:
        # Episodes without a measured step count, too: the short ones among them would be missing from the mean.
        self._episodes.append((float(self._sums[index]) * self._meter.every_n_steps, float(reward)))


def sum_up_training(*, result: dict, **kwargs: Any) -> None:
    """``on_train_result`` as a function, for a config that has the callback in its ``evaluation_config`` alone."""
    _sum_up(result)
    _sum_up(result.get(EVALUATION_RESULTS) or {})


def sum_up_evaluation(*, evaluation_metrics: dict, **kwargs: Any) -> None:
    """``on_evaluate_end`` as a function, likewise."""
    _sum_up(evaluation_metrics)


def _sum_up(results: dict) -> None:
    metrics = results.get(ENV_RUNNER_RESULTS, {})
    old_stack.summarise(metrics)
    energy = metrics.get("energy", {})
    reward = energy.pop(_RETURN, 0.0)
    if reward > 0:
        energy["per_reward"] = energy["per_episode"] / reward
