"""Running a trained agent for some episodes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
import tree
from ray.rllib.utils.spaces.space_utils import get_base_struct_from_space

from rllib_stpn import checks
from rllib_stpn.agents.agent import Agent, read
from rllib_stpn.agents.episode import Episode
from rllib_stpn.agents.several import SeveralAgents
from rllib_stpn.errors import UsageError

if TYPE_CHECKING:
    from rllib_stpn.agents.video import Recorder

_WIDTH = 8
"""Rows of each call of the module. Matrix products round differently for different numbers of rows. With one
fixed number, an episode does not depend on how many others run beside it."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Some episodes of an agent, as arrays in the order of their seeds.

    Attributes:
        seeds: ``[N]`` int, that of each episode's reset.
        returns: ``[N]`` float, the sum of its rewards.
        lengths: ``[N]`` int, its steps.
        energies: ``[N]`` float, what its synapses spent (docs/energy.md); None where it was not measured.
        by_agent: The returns ``[N]`` of each of several agents, which sum up to ``returns``; None for one agent.
    """

    seeds: np.ndarray
    returns: np.ndarray
    lengths: np.ndarray
    energies: np.ndarray | None = None
    by_agent: dict[Hashable, np.ndarray] | None = None

    def summary(self) -> dict[str, Any]:
        """Means and the sample's standard deviations over the episodes, as ``rllib evaluate --out`` writes them.

        Deviations are there from two episodes on, energy where it was measured, and its ratio to the reward where the
        returns sum up to more than 0. Several agents have their mean returns in ``return_mean_by_agent``.
        """
        summary: dict[str, Any] = {
            "return_mean": float(self.returns.mean()),
            "return_min": float(self.returns.min()),
            "return_max": float(self.returns.max()),
            "length_mean": float(self.lengths.mean()),
        }
        if len(self.returns) > 1:
            summary["return_std"] = float(self.returns.std(ddof=1))
            summary["length_std"] = float(self.lengths.std(ddof=1))
        if self.energies is not None:
            spent, reward = float(self.energies.sum()), float(self.returns.sum())
            summary["energy_per_step"] = spent / int(self.lengths.sum())
            summary["energy_per_episode"] = spent / len(self.energies)
            if reward > 0:
                summary["energy_per_reward"] = spent / reward
        if self.by_agent is not None:
            means = {str(agent): float(returns.mean()) for agent, returns in self.by_agent.items()}
            summary["return_mean_by_agent"] = means
        return summary

    def by_episode(self) -> list[dict[str, float]]:
        """The seed, return, length and, where it was measured, energy of each episode, and each of several agents'."""
        columns = {"seed": self.seeds, "return": self.returns, "length": self.lengths}
        columns |= {} if self.energies is None else {"energy": self.energies}
        columns |= {f"return of {agent}": returns for agent, returns in (self.by_agent or {}).items()}
        return [
            dict(zip(columns, row, strict=True)) for row in zip(*(c.tolist() for c in columns.values()), strict=True)
        ]


class Watch(Protocol):
    """Methods that are called while episodes run."""

    def stepped(self, steps: int) -> None:
        """After each step of all environments: how many environments took one."""

    def ended(self, episode: Episode) -> None:
        """After the last step of an episode."""


def opened(checkpoint: Any) -> Agent | SeveralAgents:
    """The agent of a checkpoint, or all of several: what :func:`evaluate` plays.

    Raises:
        UsageError: There is no checkpoint that can be loaded.
    """
    found = read(checkpoint)
    return SeveralAgents(found) if found.config.is_multi_agent else Agent(found)


def evaluate(
    agent: Agent | SeveralAgents | str | Path,
    episodes: int = 10,
    *,
    seed: int = 0,
    explore: bool = False,
    num_envs: int = 8,
    energy: bool = False,
    recorder: Recorder | None = None,
    watch: Watch | None = None,
) -> Evaluation:
    """Runs an agent for some episodes, without starting Ray.

    ::

        evaluation = rllib_stpn.evaluate("~/ray_results/maze_stpn", episodes=20, energy=True)
        print(evaluation.returns.mean(), evaluation.energies.sum() / evaluation.lengths.sum())

    Args:
        agent: An agent, or what :func:`rllib_stpn.load` takes: a checkpoint, or the directory of an experiment. Of
            several agents all play, each with its policy, one episode at a time.
        episodes: How many. The i-th starts from a reset with seed ``seed + i``, and what happens in it does not depend
            on how many others there are.
        seed: That of the first episode.
        explore: Whether actions are sampled, with random numbers of the episode's seed; by default they are greedy.
        num_envs: How many environments run side by side.
        energy: Whether to measure the energy of choosing actions.
        recorder: Gets the frames of the first episode; its ``save()`` then writes them as a GIF.
        watch: Is told of each step of all environments, and of each end of an episode.

    Returns:
        The episodes' returns, lengths and energies.

    Raises:
        UsageError: A number out of its range; a checkpoint or an environment that cannot be used; energy or a video of
            several agents, or one policy of theirs alone.
        RolloutError: What an environment raised, or returned that is not as gymnasium has it; the message has the seed
            of its episode and the step.
    """
    for name, value, least in (("episodes", episodes, 1), ("num_envs", num_envs, 1), ("seed", seed, 0)):
        checks.integer(f"evaluate: {name}", value, least)
    agent = agent if isinstance(agent, Agent | SeveralAgents) else opened(agent)
    if isinstance(agent, SeveralAgents):
        if energy or recorder is not None:
            what = "energy" if energy else "video"
            raise UsageError(f"evaluate: {what}: got several agents ({agent.env_id}), allowed is one")
        return _play_together(agent, episodes, seed, explore, watch)
    if agent.among_others:
        raise UsageError(
            f"evaluate: got one policy of several agents, allowed are all of them: evaluate({str(agent.checkpoint)!r})"
        )
    played = _play(agent, episodes, seed, explore, num_envs, energy, recorder, watch)
    return Evaluation(
        np.array([episode.seed for episode in played]),
        np.array([episode.reward for episode in played]),
        np.array([episode.length for episode in played]),
        np.array([episode.energy for episode in played]) if energy else None,
    )


def _play(
    agent: Agent,
    episodes: int,
    seed: int,
    explore: bool,
    num_envs: int,
    energy: bool,
    recorder: Recorder | None,
    watch: Watch | None,
) -> list[Episode]:
    """Plays episodes, ``num_envs`` at a time; they come back in the order of their seeds."""
    played = [Episode(seed + i) for i in range(episodes)]
    rounds = math.ceil(episodes / num_envs)
    num_envs = math.ceil(episodes / rounds)  # no more than keep busy
    env: Any = agent.make_env(num_envs) if recorder is None else recorder.make_env(agent, num_envs)
    actor = _Actor(agent, num_envs, explore, energy)
    playing: list[Episode | None] = list(played[:num_envs])
    waiting = played[num_envs:]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so few rows are not worth sharing out, and environments may have threads of their own
    try:
        observations, _ = env.reset(seed=[episode.seed for episode in playing if episode])
        for generator, starting in zip(actor.generators, played[:num_envs], strict=False):  # the copies have none
            generator.manual_seed(starting.seed)
        first, rewards = np.ones(num_envs, bool), np.zeros(num_envs)
        while any(playing):
            actions, energies = actor.act(observations, first, rewards)
            if recorder is not None and playing[0] is played[0]:
                recorder.add(env, actor.states[0], played[0])
            observations, rewards, terminated, truncated, _ = env.step(actions)
            first = terminated | truncated
            seeds: list[int | None] = [None] * num_envs
            for row, episode in enumerate(playing):
                if episode is None:
                    continue
                episode.reward += float(rewards[row])
                episode.length += 1
                episode.energy += float(energies[row])
                if not first[row]:
                    continue
                if recorder is not None and episode is played[0]:
                    recorder.end(episode)
                if watch is not None:
                    watch.ended(episode)
                playing[row] = following = waiting.pop(0) if waiting else None
                if following is not None:
                    seeds[row] = following.seed
                    actor.generators[row].manual_seed(following.seed)
            restarted = np.array([seed is not None for seed in seeds])
            if restarted.any():
                observations, _ = env.reset(seed=seeds, options={"reset_mask": restarted})
            if watch is not None:
                watch.stepped(sum(episode is not None for episode in playing))
    finally:
        torch.set_num_threads(threads)
        env.close()
    return played


def _play_together(agents: SeveralAgents, episodes: int, seed: int, explore: bool, watch: Watch | None) -> Evaluation:
    """Plays episodes of several agents, one at a time."""
    played: list[Episode] = []
    returns: list[dict[Hashable, float]] = []
    env, threads = agents.make_env(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            for i in range(episodes):
                torch.manual_seed(seed + i)
                by_agent, length = agents.play(env, seed + i, explore)
                played.append(Episode(seed + i, sum(by_agent.values()), length))
                returns.append(by_agent)
                if watch is not None:
                    watch.stepped(length)
                    watch.ended(played[-1])
    finally:
        torch.set_num_threads(threads)
        env.close()
    ordered = dict.fromkeys(agent for each in returns for agent in each)
    return Evaluation(
        np.array([episode.seed for episode in played]),
        np.array([episode.reward for episode in played]),
        np.array([episode.length for episode in played]),
        by_agent={agent: np.array([each.get(agent, 0.0) for each in returns]) for agent in ordered},
    )


class _Actor:
    """An agent for any number of environments, called for ``_WIDTH`` rows at a time.

    Each environment has its own of the ``generators``, to be seeded where an episode begins.
    """

    def __init__(self, agent: Agent, num_envs: int, explore: bool, energy: bool) -> None:
        self._agent = agent
        self._spaces = get_base_struct_from_space(agent.observation_space)
        self._num_envs = num_envs
        self._options = {"explore": explore, "return_energy": energy}
        # The last environment fills the rows that are missing.
        rows = np.minimum(np.arange(math.ceil(num_envs / _WIDTH) * _WIDTH), num_envs - 1)
        self._blocks = np.split(rows, len(rows) // _WIDTH)
        self.generators = [torch.Generator() for _ in rows]  # not the last environment's for its copies: they draw, too
        self.states: list[Any] = [None] * len(self._blocks)

    def act(self, observations: Any, first: Any, rewards: Any) -> tuple[Any, Any]:
        """Actions for all environments, and the energy of choosing them (zeros if it is not measured)."""
        actions, energies = [], []
        # A batch of texts is a tuple of them.
        leaves = [np.asarray(leaf) for leaf in tree.flatten_up_to(self._spaces, observations, check_types=False)]
        for index, rows in enumerate(self._blocks):
            block = tree.unflatten_as(self._spaces, [leaf[rows] for leaf in leaves])
            generators = self.generators[index * _WIDTH : (index + 1) * _WIDTH]
            chosen, self.states[index], *energy = self._agent.step(
                block, self.states[index], first[rows], generator=generators, rewards=rewards[rows], **self._options
            )
            actions.append(chosen)
            energies.append(energy[0].numpy() if energy else np.zeros(_WIDTH))
        joined = tree.map_structure(lambda *blocks: np.concatenate(blocks)[: self._num_envs], *actions)
        return joined, np.concatenate(energies)[: self._num_envs]
