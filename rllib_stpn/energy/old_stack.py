"""Energy on RLlib's old API stack, whose episodes carry it to the results."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from ray.rllib.env.wrappers.atari_wrappers import MonitorEnv, get_wrapper_by_cls

from rllib_stpn.energy.meter import Meter, Reading
from rllib_stpn.errors import UsageError

_KEY = "energy"


@dataclasses.dataclass
class EpisodeEnergy:
    """What an episode spent at its measured steps."""

    every_n_steps: int
    steps: int = 0
    layers: Counter[str] = dataclasses.field(default_factory=Counter)
    share: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(2))  # recurrent, all
    reward: float = 0.0

    def add(self, reading: Reading, row: int) -> None:
        """Counts one step."""
        self.steps += 1
        self.layers.update(dict(zip(reading.names, reading.layers[:, row].tolist(), strict=True)))
        if reading.share is not None:
            self.share += reading.share[:, row]

    def total(self) -> float:
        """The energy of all steps, measured or not."""
        return sum(self.layers.values()) * self.every_n_steps


def check_worker(worker: Any, env: Any) -> None:
    """Raises a UsageError where episodes are not one agent's, or do not carry anything to the results."""
    if worker.config.is_multi_agent:
        raise UsageError("energy: got a multi-agent config, allowed are single-agent ones")
    if hasattr(env, "unwrapped") and get_wrapper_by_cls(env, MonitorEnv):
        raise UsageError(
            "energy: got the Atari wrappers of the old API stack, whose results hold no metrics of callbacks; "
            "allowed is preprocessor_pref: null, with an environment that preprocesses by itself"
        )


def watch(policy: Any, meter: Meter) -> None:
    """Measures the forward passes that choose actions for episodes."""
    if "compute_actions_from_input_dict" not in vars(policy):  # RLlib announces policies again when it adds one.
        act = policy.compute_actions_from_input_dict
        policy.compute_actions_from_input_dict = functools.partial(_act, act, policy, meter)


def _act(act: Any, policy: Any, meter: Meter, *args: Any, episodes: Sequence[Any] | None = None, **kwargs: Any) -> Any:
    if not episodes:  # asked for by somebody else than the sampler
        return act(*args, episodes=episodes, **kwargs)
    with meter.measuring(policy.model):
        result = act(*args, episodes=episodes, **kwargs)
    for row, episode in enumerate(episodes):
        spent = episode.user_data.setdefault(_KEY, EpisodeEnergy(meter.every_n_steps))
        if meter.reading is not None:
            spent.add(meter.reading, row)
    return result


def end(episode: Any) -> None:
    """Hands an episode's energy to what RLlib sends to the driver; a failed environment's is dropped, as its return."""
    if not isinstance(episode, Exception):
        spent = episode.user_data[_KEY]
        spent.reward = episode.total_reward
        episode.hist_data[_KEY] = [spent]


def summarise(results: dict[str, Any]) -> None:
    """Turns the energies of a result's episodes, which stand among its histograms, into metrics."""
    episodes: list[EpisodeEnergy] = results.get("hist_stats", {}).pop(_KEY, [])
    steps = sum(episode.steps for episode in episodes)
    if not steps:
        return
    names = dict.fromkeys(name for episode in episodes for name in episode.layers)
    layers = {name: sum(episode.layers[name] for episode in episodes) / steps for name in names}
    energy, reward = np.sum([(episode.total(), episode.reward) for episode in episodes], axis=0)
    recurrent, of = np.sum([episode.share for episode in episodes], axis=0)
    metrics = {"per_step": sum(layers.values()), "per_episode": energy / len(episodes), "layers": layers}
    if reward > 0:
        metrics["per_reward"] = energy / reward
    if of > 0:
        metrics["recurrent_share"] = recurrent / of
    results[_KEY] = metrics
