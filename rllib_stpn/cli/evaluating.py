"""Evaluating a checkpoint, and telling how it went."""

import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_stpn import provenance
from rllib_stpn.cli.compiled import tell_where_kernels_are
from rllib_stpn.cli.progress import duration
from rllib_stpn.errors import UsageError

if TYPE_CHECKING:
    from rllib_stpn.agents.episode import Episode

_PROGRESS_EVERY = 5.0  # seconds


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
                raise UsageError(f"{option}: got {value}, allowed is a whole number of at least {least}")
        if self.video is not None and Path(self.video).suffix.lower() != ".gif":
            raise UsageError(f"--video: got {self.video!r}, allowed is a file name that ends in .gif")
        for option, file in (("--out", self.out), ("--video", self.video)):
            path = Path(file or "").expanduser().absolute()
            if file is not None and (path.is_dir() or not os.access(path.parent, os.W_OK)):
                raise UsageError(f"{option}: {file} cannot be written, allowed is a file in a directory that can")

    def playing(self) -> dict[str, Any]:
        """The arguments of ``agents.evaluation.play``."""
        return {name: getattr(self, name) for name in ("episodes", "seed", "explore", "num_envs", "energy")}


def run(request: Request) -> None:
    """Evaluates a checkpoint and prints, and writes, what came of it.

    Raises:
        UsageError: A checkpoint or an environment that cannot be used.
    """
    from rllib_stpn.agents.checkpoints import find_checkpoint, is_supervised

    path = find_checkpoint(request.checkpoint, lambda note: print(f"note: {note}", flush=True))
    tell_where_kernels_are()
    results = _supervised(request, path) if is_supervised(path) else _agent(request, path)
    if request.out is not None:
        Path(request.out).expanduser().write_text(
            json.dumps(results | {"versions": provenance.versions()}, indent=2, default=str), encoding="utf-8"
        )
        print(f"results     {request.out}")


def _agent(request: Request, path: Path) -> dict[str, Any]:
    import rllib_stpn
    from rllib_stpn.agents.evaluation import play

    agent = rllib_stpn.load(path)
    recorder = None
    if request.video is not None:
        from rllib_stpn.agents.video import Recorder

        recorder = Recorder(request.video)
    last = request.seed + request.episodes - 1
    print(
        f"{agent.algorithm} on {agent.env_id}: {request.episodes} episodes, seeds {request.seed} to {last}, "
        f"{'sampled' if request.explore else 'greedy'} actions"
    )
    print(f"checkpoint  {path}", flush=True)
    episodes = play(agent, **request.playing(), recorder=recorder, watch=_Progress(request.episodes))
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


class _Progress:
    """A line on stderr every few seconds."""

    def __init__(self, episodes: int) -> None:
        self._episodes = episodes
        self._returns: list[float] = []
        self._steps = 0
        self._started = self._told = time.monotonic()

    def ended(self, episode: "Episode") -> None:
        self._returns.append(episode.reward)

    def stepped(self, steps: int) -> None:
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


def summarise(episodes: "list[Episode]", energy: bool) -> dict[str, Any]:
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


def _tell(episodes: "list[Episode]", summary: dict[str, Any], request: Request) -> None:
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
