"""Running a trained agent for some episodes, and telling how they went."""

import dataclasses
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_stpn.cli.compiled import tell_where_kernels_are
from rllib_stpn.errors import UsageError
from rllib_stpn.report import provenance

if TYPE_CHECKING:
    from rllib_stpn.agent import Agent
    from rllib_stpn.cli.video import Recorder

_PROGRESS_EVERY = 5.0  # seconds
_WIDTH = 8
"""Rows of each call of the module. Matrix products round differently with another number of rows, so this one is kept,
and what happens in an episode does not depend on how many others run beside it."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What to evaluate, as the options of ``rllib evaluate`` say.

    Raises:
        UsageError: A value that cannot be, or a file that cannot be written.
    """

    checkpoint: str
    episodes: int = 10
    seed: int = 0
    explore: bool = False
    num_envs: int = 8
    energy: bool = False
    out: str | None = None
    video: str | None = None
    each_episode: bool = False

    def __post_init__(self) -> None:
        for option, value, least in (
            ("--episodes", self.episodes, 1),
            ("--num-envs", self.num_envs, 1),
            ("--seed", self.seed, 0),
        ):
            if value < least:
                raise UsageError(f"{option}: expected a whole number of at least {least}, got {value}")
        if self.video is not None and Path(self.video).suffix.lower() != ".gif":
            raise UsageError(f"--video: got {self.video!r}, allowed is a file name that ends in .gif")
        for option, file in (("--out", self.out), ("--video", self.video)):
            path = Path(file or "").expanduser().absolute()
            if file is not None and (path.is_dir() or not os.access(path.parent, os.W_OK)):
                raise UsageError(f"{option}: {file} cannot be written, allowed is a file in a directory that can")


@dataclasses.dataclass
class Episode:
    """What came of one episode."""

    seed: int
    reward: float = 0.0  # summed: the return
    length: int = 0
    energy: float = 0.0

    def as_dict(self, energy: bool) -> dict[str, Any]:
        """As it stands in the JSON file."""
        told = {"seed": self.seed, "return": self.reward, "length": self.length}
        return told | ({"energy": self.energy} if energy else {})


def run(request: Request) -> None:
    """Evaluates a checkpoint and prints, and writes, what came of it.

    Raises:
        UsageError: A checkpoint or an environment that cannot be used.
    """
    from rllib_stpn.checkpoints import find_checkpoint, is_supervised

    path = find_checkpoint(request.checkpoint)
    tell_where_kernels_are()
    results = _supervised(request, path) if is_supervised(path) else _agent(request, path)
    if request.out is not None:
        Path(request.out).expanduser().write_text(
            json.dumps(results | {"versions": provenance.versions()}, indent=2, default=str), encoding="utf-8"
        )
        print(f"results     {request.out}")


def _agent(request: Request, path: Path) -> dict[str, Any]:
    import rllib_stpn

    agent = rllib_stpn.load(path)
    recorder = None
    if request.video is not None:
        from rllib_stpn.cli.video import Recorder

        recorder = Recorder(request.video)
    last = request.seed + request.episodes - 1
    print(
        f"{agent.algorithm} on {agent.env_id}: {request.episodes} episodes, seeds {request.seed} to {last}, "
        f"{'sampled' if request.explore else 'greedy'} actions"
    )
    print(f"checkpoint  {path}", flush=True)
    episodes = play(agent, request, recorder)
    summary = summarise(episodes, request.energy)
    _tell(episodes, summary, request)
    if recorder is not None:
        print(f"video       {request.video} ({recorder.save()})")
    return {
        "checkpoint": str(path),
        "algorithm": agent.algorithm,
        "env": agent.env_id,
        "env_config": agent.env_config,
        "explore": request.explore,
        "num_envs": request.num_envs,
        **summary,
        "episodes": [episode.as_dict(request.energy) for episode in episodes],
    }


def play(agent: "Agent", request: Request, recorder: "Recorder | None" = None) -> list[Episode]:
    """Plays the request's episodes, ``num_envs`` at a time.

    Args:
        agent: Who plays.
        request: Which episodes: the i-th starts from a reset with seed ``request.seed + i``.
        recorder: Gets the frames of the first episode.

    Returns:
        The episodes, in the order of their seeds.
    """
    import numpy as np
    import torch

    episodes = [Episode(request.seed + i) for i in range(request.episodes)]
    rounds = math.ceil(request.episodes / request.num_envs)
    num_envs = math.ceil(request.episodes / rounds)  # no more than keep busy
    env: Any = agent.make_env(num_envs) if recorder is None else recorder.make_env(agent, num_envs)
    actor = _Actor(agent, num_envs, request, torch.Generator().manual_seed(request.seed))
    progress = _Progress(request.episodes)
    playing: list[Episode | None] = list(episodes[:num_envs])
    waiting = episodes[num_envs:]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so few rows are not worth sharing out, and environments may have threads of their own
    try:
        observations, _ = env.reset(seed=[episode.seed for episode in playing if episode])
        first, rewards = np.ones(num_envs, bool), np.zeros(num_envs)
        while any(playing):
            actions, energies = actor.act(observations, first, rewards)
            if recorder is not None and playing[0] is episodes[0]:
                recorder.add(env, actor.states[0], episodes[0])
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
                if recorder is not None and episode is episodes[0]:
                    recorder.end(episode)
                progress.ended(episode)
                playing[row] = waiting.pop(0) if waiting else None
                seeds[row] = getattr(playing[row], "seed", None)
            restarted = np.array([seed is not None for seed in seeds])
            if restarted.any():
                observations, _ = env.reset(seed=seeds, options={"reset_mask": restarted})
            progress.stepped(sum(episode is not None for episode in playing))
    finally:
        torch.set_num_threads(threads)
        env.close()
    return episodes


class _Actor:
    """An agent for any number of environments, called for ``_WIDTH`` rows at a time."""

    def __init__(self, agent: "Agent", num_envs: int, request: Request, generator: Any) -> None:
        import numpy as np

        self._agent = agent
        self._num_envs = num_envs
        self._energy = request.energy
        self._options = {"explore": request.explore, "generator": generator, "return_energy": request.energy}
        # The last environment fills the rows that are missing.
        rows = np.minimum(np.arange(math.ceil(num_envs / _WIDTH) * _WIDTH), num_envs - 1)
        self._blocks = np.split(rows, len(rows) // _WIDTH)
        self.states: list[Any] = [None] * len(self._blocks)

    def act(self, observations: Any, first: Any, rewards: Any) -> tuple[Any, Any]:
        """Actions for all environments, and the energy of choosing them (zeros if it is not measured)."""
        import numpy as np
        import tree

        actions, energies = [], []
        for index, rows in enumerate(self._blocks):
            block = tree.map_structure(lambda leaf, rows=rows: leaf[rows], observations)
            chosen, self.states[index], *energy = self._agent.step(
                block, self.states[index], first[rows], rewards=rewards[rows], **self._options
            )
            actions.append(chosen)
            energies.append(energy[0].numpy() if energy else np.zeros(_WIDTH))
        joined = tree.map_structure(lambda *blocks: np.concatenate(blocks)[: self._num_envs], *actions)
        return joined, np.concatenate(energies)[: self._num_envs]


class _Progress:
    """A line on stderr every few seconds."""

    def __init__(self, episodes: int) -> None:
        self._episodes = episodes
        self._returns: list[float] = []
        self._steps = 0
        self._started = self._told = time.monotonic()

    def ended(self, episode: Episode) -> None:
        self._returns.append(episode.reward)

    def stepped(self, steps: int) -> None:
        from rllib_stpn.cli.progress import duration

        self._steps += steps
        now = time.monotonic()
        if now - self._told < _PROGRESS_EVERY:
            return
        self._told = now
        mean = f", mean return {sum(self._returns) / len(self._returns):.4g}" if self._returns else ""
        print(
            f"  {len(self._returns)} of {self._episodes} episodes, {self._steps:,} steps{mean}, "
            f"{duration(now - self._started)}",
            file=sys.stderr,
            flush=True,
        )


def summarise(episodes: list[Episode], energy: bool) -> dict[str, Any]:
    """Means and standard deviations (of the population) over episodes, and energy where it was measured.

    Energy per reward is left out where the rewards do not sum up to more than 0.
    """
    import numpy as np

    returns = np.array([episode.reward for episode in episodes])
    lengths = np.array([episode.length for episode in episodes])
    summary: dict[str, Any] = {
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "return_min": float(returns.min()),
        "return_max": float(returns.max()),
        "length_mean": float(lengths.mean()),
        "length_std": float(lengths.std()),
    }
    if energy:
        spent = sum(episode.energy for episode in episodes)
        summary["energy_per_step"] = spent / int(lengths.sum())
        summary["energy_per_episode"] = spent / len(episodes)
        if returns.sum() > 0:
            summary["energy_per_reward"] = spent / float(returns.sum())
    return summary


def _tell(episodes: list[Episode], summary: dict[str, Any], request: Request) -> None:
    if request.each_episode:
        columns = ("seed", "return", "length", *(("energy",) if request.energy else ()))
        print("".join(name.rjust(12) for name in columns))
        for episode in episodes:
            told = episode.as_dict(request.energy)
            print("".join((f"{told[name]:.6g}" if name != "seed" else str(told[name])).rjust(12) for name in columns))
    print(
        f"return      {summary['return_mean']:.6g} ± {summary['return_std']:.4g} "
        f"(least {summary['return_min']:.6g}, most {summary['return_max']:.6g})"
    )
    print(f"length      {summary['length_mean']:.6g} ± {summary['length_std']:.4g} steps")
    if request.energy:
        parts = [f"{summary[f'energy_per_{what}']:.4g} per {what}" for what in ("step", "episode")]
        if "energy_per_reward" in summary:
            parts.append(f"{summary['energy_per_reward']:.4g} per unit of reward")
        print(f"energy      {', '.join(parts)}")


def _supervised(request: Request, path: Path) -> dict[str, Any]:
    """Loss and metrics on the test data of the checkpoint's task."""
    from rllib_stpn.supervised import evaluate, load

    if request.video is not None:
        raise UsageError("--video: got a checkpoint of supervised training, allowed are those of agents")
    task, module = load(path)
    print(f"{task.name}: {module.layer.name}, test data")
    print(f"checkpoint  {path}", flush=True)
    metrics = evaluate(task, module, "test", 128, measure_energy=request.energy)
    for name, value in metrics.items():
        print(f"{name.removeprefix('test_').replace('_', ' '):<11} {value:.6g}")
    return {"checkpoint": str(path), "task": task.name, "model": module.layer.name, **metrics}
