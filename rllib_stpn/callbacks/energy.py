"""Energy of the layers' synapses as metrics of training and evaluation."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from ray.rllib.callbacks.callbacks import RLlibCallback

from rllib_stpn.errors import UsageError
from rllib_stpn.layers import Layer
from rllib_stpn.models.energy import acting_layers, energies_of
from rllib_stpn.rollouts.env_runner import BatchedEnvRunner

_SHARE_EVERY = 17
"""Of the measured steps, how many there are for each that tells recurrent synapses apart, which costs another pass; the
first is not among them, since all states are zero there. A prime, not to meet the same step of every episode."""


class EnergyMetricsCallback(RLlibCallback):
    """Measures the energy of choosing actions (:func:`rllib_stpn.kernels.energy`) where environments are stepped.

    ::

        config.callbacks(EnergyMetricsCallback)
        config.callbacks(functools.partial(EnergyMetricsCallback, ignore_inputs=[12], every_n_steps=10))

    and in a YAML file ``callbacks: energy``, or ``callbacks: {energy: {ignore_inputs: [12], every_n_steps: 10}}``.

    For RLlib's new API stack and single agents, with batched rollouts and with RLlib's own runner. Results of training
    have under ``env_runners/energy``, those of evaluation under ``evaluation/env_runners/energy``:

    - ``per_step``: mean over environment steps of the sum over units of all layers that lead to the action;
    - ``per_episode``: mean over the episodes that ended last, in training ``metrics_num_episodes_for_smoothing``;
    - ``per_reward``: their energy by their returns; left out where these do not sum up to more than 0;
    - ``recurrent_share``: the part of the energy that recurrent synapses spend, the rest being that of input synapses;
      measured at one of 17 measured steps;
    - ``layers/<name>``: ``per_step`` of each layer.

    Metrics without a value, as of episodes where none ended, are missing or NaN. Left out are biases, encoders in front
    of the layers, read-outs, and the value function, unless it shares the layers. Steps are not changed in any way.

    Args:
        ignore_inputs: Inputs of the first layer, by index, whose synapses are left out of the energy (not of the
            computation): the reward of 10 that the maze shows as input 12 counts 100 when squared. Costs another pass
            of the layer at measured steps.
        every_n_steps: Measures one of so many steps of the environments. The energy of an episode is then so many times
            that of its measured steps, which is right in the mean over episodes.

    Raises:
        UsageError: An option that cannot be; in the env runner: a model without layers of this package, the old API
            stack, several agents.
    """

    def __init__(self, *, ignore_inputs: Sequence[int] = (), every_n_steps: int = 1) -> None:
        if isinstance(every_n_steps, bool) or not isinstance(every_n_steps, int) or every_n_steps < 1:
            raise UsageError(f"energy: every_n_steps: got {every_n_steps!r}, allowed are whole numbers from 1")
        if not isinstance(ignore_inputs, (list, tuple)) or not all(
            isinstance(index, int) and not isinstance(index, bool) and index >= 0 for index in ignore_inputs
        ):
            raise UsageError(f"energy: ignore_inputs: got {ignore_inputs!r}, allowed is a list of indices from 0")
        self._ignored = list(ignore_inputs)
        self._every = every_n_steps
        self._module: Any = None
        self._spent: np.ndarray | None
        self._recurrent: np.ndarray | None

    # --- where the module acts ----------------------------------------------------------------------------------

    def on_environment_created(self, *, env_runner: Any, **kwargs: Any) -> None:
        """Starts anew, for the number of environments that the runner has now."""
        if env_runner.config.is_multi_agent:
            raise UsageError("energy: got a multi-agent config, allowed are single-agent ones")
        self._forwards = 0
        self._measurements = 0
        self._sums = np.zeros(env_runner.num_envs)  # of the episodes under way
        config = env_runner.config
        window = math.ceil(config.metrics_num_episodes_for_smoothing / (config.num_env_runners or 1))
        self._episodes: deque[tuple[float, float]] = deque(maxlen=max(window, 1))  # energy and return
        self._clear()
        if isinstance(env_runner, BatchedEnvRunner):
            env_runner.around_acting = lambda: self._measuring(env_runner.module)

    def on_sub_environment_created(self, **kwargs: Any) -> None:
        """Refuses the old API stack, which alone calls this."""
        raise UsageError("energy: got the old API stack, allowed is the new one; rllib evaluate --energy measures both")

    def on_episode_created(self, *, env_runner: Any, **kwargs: Any) -> None:
        """Wraps the forward passes of a module that RLlib's own runner acts with."""
        module = env_runner.module
        if isinstance(env_runner, BatchedEnvRunner) or module is self._module:
            return
        self._module = module
        for name in ("forward_exploration", "forward_inference"):
            setattr(module, name, self._measured(module, getattr(module, name)))

    def _measured(self, module: Any, forward: Callable) -> Callable:
        def measured(*args: Any, **kwargs: Any) -> Any:
            with self._measuring(module):
                return forward(*args, **kwargs)

        return measured

    @contextlib.contextmanager
    def _measuring(self, module: Any) -> Iterator[None]:
        self._spent = self._recurrent = None
        self._forwards += 1
        if self._forwards % self._every:
            yield
            return
        layers = acting_layers(module)
        if self._forwards == self._every:
            self._check_ignored(module, layers[0])
        share = self._measurements % _SHARE_EVERY == 1
        self._measurements += 1
        with energies_of(layers, self._ignored, recurrent=share) as energies:
            yield
        rows = [
            part.sum((1, 2))
            for layer, energy in zip(layers, energies, strict=True)
            for part in _parts(layer, energy.total)
        ]
        self._spent = torch.stack(rows).cpu().numpy().astype(np.float64)
        self._names = _names(layers)
        if share:
            parts = [energy.recurrent.sum((1, 2)) for energy in energies if energy.recurrent is not None]
            self._recurrent = torch.stack(parts).sum(0).cpu().numpy().astype(np.float64)

    def _check_ignored(self, module: Any, layer: Layer) -> None:
        if not self._ignored:
            return
        if any(
            getattr(part, name, None) is not None for part in module.modules() for name in ("tokenizer", "projection")
        ):
            raise UsageError(
                "energy: ignore_inputs: got a model whose layer reads the features of an encoder, allowed are models "
                "whose layer reads the observation itself (fcnet_hiddens: [])"
            )
        if max(self._ignored) >= layer.input_size:
            raise UsageError(
                f"energy: ignore_inputs: got {max(self._ignored)}, allowed are 0 to {layer.input_size - 1}, the "
                f"inputs of {layer.name}"
            )

    # --- what was spent, by step and by episode -----------------------------------------------------------------

    def on_vector_step(
        self, *, valid: np.ndarray, done: np.ndarray, lengths: np.ndarray, returns: np.ndarray, **kwargs: Any
    ) -> None:
        """A step of all environments of the batched runner."""
        begins = valid & (lengths == 1)
        self._sums[begins] = 0
        if self._spent is not None:
            spent = np.where(valid, self._spent, 0.0)
            self._sums += spent.sum(0)
            self._count_steps(spent.sum(1), int(valid.sum()))
            if self._recurrent is not None:
                self._count_share(float(self._recurrent[valid].sum()), float(spent.sum()))
        for index in np.flatnonzero(done).tolist():
            self._end_episode(index, returns[index])

    def on_episode_step(self, *, episode: Any, env_runner: Any, env_index: int, **kwargs: Any) -> None:
        """A step of one environment of RLlib's own runner."""
        if isinstance(env_runner, BatchedEnvRunner):  # Has its episodes for another callback.
            return
        if episode.t == 1:
            self._sums[env_index] = 0
        if self._spent is None:
            return
        spent = self._spent[:, env_index]
        self._sums[env_index] += spent.sum()
        self._count_steps(spent, 1)
        if self._recurrent is not None:
            self._count_share(self._recurrent[env_index], spent.sum())

    def on_episode_end(
        self, *, episode: Any, env_runner: Any, env_index: int, prev_episode_chunks: Sequence[Any] = (), **kwargs: Any
    ) -> None:
        """The end of an episode of RLlib's own runner."""
        if isinstance(env_runner, BatchedEnvRunner):
            return
        total = sum(chunk.get_return() for chunk in [episode, *prev_episode_chunks])
        self._end_episode(env_index, total)

    def on_sample_end(self, *, env_runner: Any, metrics_logger: Any, **kwargs: Any) -> None:
        """Logs what this sample spent."""

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
            energy, reward = np.sum(self._episodes, axis=0)
            log(float(energy / len(self._episodes)), "per_episode")
            if reward > 0:
                log(float(energy / reward), "per_reward")
        if env_runner.config.in_evaluation:
            self._episodes.clear()
        self._clear()

    def _clear(self) -> None:
        self._spent = self._recurrent = None  # [layers, B] and [B], of the step under way
        self._steps = 0
        self._by_layer: Any = 0.0  # [layers]
        self._share = np.zeros(2)  # recurrent, all

    def _count_steps(self, by_layer: np.ndarray, steps: int) -> None:
        self._by_layer = self._by_layer + by_layer
        self._steps += steps

    def _count_share(self, recurrent: float, total: float) -> None:
        self._share += recurrent, total

    def _end_episode(self, index: int, reward: float) -> None:
        # Episodes without a measured step count, too: the short ones among them would be missing from the mean.
        self._episodes.append((float(self._sums[index]) * self._every, float(reward)))


def _parts(layer: Layer, energy: torch.Tensor) -> Sequence[torch.Tensor]:
    """The energies of a stack's layers, which have as many units each."""
    return energy.chunk(getattr(layer, "num_layers", 1), -1)


def _names(layers: Sequence[Layer]) -> list[str]:
    """The layers' names, numbered where there are several."""
    names = [layer.name for layer in layers for _ in range(getattr(layer, "num_layers", 1))]
    return names if len(names) == 1 else [f"{name}_{index}" for index, name in enumerate(names)]
