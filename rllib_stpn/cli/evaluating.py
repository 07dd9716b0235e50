"""Evaluating a checkpoint: what is printed and written."""

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_stpn import checks, pretrained, provenance
from rllib_stpn.cli.progress import duration
from rllib_stpn.cli.terminal import live, tell, tell_where_kernels_are
from rllib_stpn.errors import UsageError
from rllib_stpn.plain import plain

if TYPE_CHECKING:
    import numpy as np

    from rllib_stpn.agents.episode import Episode
    from rllib_stpn.agents.evaluation import Evaluation

_PROGRESS_EVERY = 5.0  # seconds


def run(args: argparse.Namespace, given: Sequence[str] = ()) -> None:
    """Evaluates a checkpoint as the options of ``rllib evaluate`` say, and prints and writes what came of it.

    Args:
        args: The options.
        given: The names of those that agents alone have, and that the user gave.

    Raises:
        UsageError: A wrong option, a checkpoint or an environment that cannot be used, or a file that cannot be
            written.
    """
    for name, least in (("episodes", 1), ("num_envs", 1), ("seed", 0)):
        checks.integer(f"--{name.replace('_', '-')}", getattr(args, name), least)
    for option, file in (("--out", args.out), ("--video", args.video)):
        path = Path(file or "").expanduser().absolute()
        if file is not None and (path.is_dir() or not os.access(path.parent, os.W_OK)):
            raise UsageError(f"{option}: {file} cannot be written, allowed is a file in a directory that can")
    path = _find(args)
    from rllib_stpn.agents.checkpoints import is_supervised

    tell_where_kernels_are()
    results = _supervised(args, given, path) if is_supervised(path) else _agent(args, path)
    if args.out is not None:
        results |= {"versions": provenance.versions()}
        text = json.dumps(plain(results), indent=2, default=str)
        with _writing("--out", args.out):
            Path(args.out).expanduser().write_text(text, encoding="utf-8")
        print(f"results     {args.out}")


@contextlib.contextmanager
def _writing(option: str, file: str) -> Iterator[None]:
    """Within, a full disk and its like are told in a line; what came of the evaluation is printed by then."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{option}: {file}: cannot be written: {error.strerror or error}") from error


def _find(args: argparse.Namespace) -> Path:
    """The checkpoint, or the file of weights, that is to be evaluated."""
    if (args.checkpoint is None) == (args.pretrained is None):
        given = "nothing" if args.checkpoint is None else "both"
        raise UsageError(f"evaluate: got {given}, allowed are either a CHECKPOINT or --pretrained NAME")
    if args.pretrained is not None:
        return pretrained.find(args.pretrained)
    if args.checkpoint.endswith(pretrained.SUFFIX):
        return Path(args.checkpoint).expanduser()
    from rllib_stpn.agents.checkpoints import find_checkpoint

    return find_checkpoint(args.checkpoint, lambda note: tell([note]))


def _tell_origin(path: Path) -> None:
    """Prints how the agent of a file of weights was trained."""
    from rllib_stpn.agents.agent_files import origin

    told = origin(path)
    if "command" in told:
        print(f"trained by  {told['command']}")
    if "return_mean" in told:
        spread = f" ± {told['return_std']:.3g}" if told["return_std"] else ""
        print(f"stated      return {told['return_mean']:.4g}{spread} over {told['episodes']:,} episodes")


def _agent(args: argparse.Namespace, path: Path) -> dict[str, Any]:
    """Some episodes of an agent."""
    from rllib_stpn.agents import evaluate
    from rllib_stpn.agents.evaluation import opened

    recorder = None
    if args.video is not None:
        from rllib_stpn.agents.video import Recorder

        recorder = Recorder(args.video)
    agent = opened(path)
    print(
        f"{agent.algorithm} on {agent.env_id}: {_episodes(args.episodes, args.seed)}, "
        f"{'sampled' if args.explore else 'greedy'} actions"
    )
    print(f"checkpoint  {path}", flush=True)
    if path.suffix == pretrained.SUFFIX:
        _tell_origin(path)
    evaluation = evaluate(
        agent,
        args.episodes,
        seed=args.seed,
        explore=args.explore,
        num_envs=args.num_envs,
        energy=args.energy,
        recorder=recorder,
        watch=_Progress(args.episodes, filmed=recorder is not None),
    )
    summary, episodes = evaluation.summary(), evaluation.by_episode()
    if args.verbose:
        _tell_each(episodes)
    _tell(evaluation)
    if recorder is not None:
        with _writing("--video", args.video):
            saved = recorder.save()
        print(f"video       {args.video} ({saved})")
    return {
        "checkpoint": str(path),
        "algorithm": agent.algorithm,
        "env": agent.env_id,
        "env_config": agent.env_config,
        "explore": args.explore,
        "num_envs": args.num_envs,
        **summary,
        "episodes": episodes,
    }


def _episodes(number: int, seed: int) -> str:
    """Such as ``"5 episodes, seeds 0 to 4"``."""
    return f"1 episode, seed {seed}" if number == 1 else f"{number:,} episodes, seeds {seed} to {seed + number - 1}"


def _supervised(args: argparse.Namespace, given: Sequence[str], path: Path) -> dict[str, Any]:
    """Loss and metrics on the test data of the checkpoint's task, in batches as large as in training."""
    from rllib_stpn.supervised import evaluate
    from rllib_stpn.supervised.trainable import load_with_settings

    if args.video is not None:
        raise UsageError("--video: got a checkpoint of supervised training, allowed are those of agents")
    for name in given:
        tell([f"--{name.replace('_', '-')} has no effect: a checkpoint of supervised training has no episodes"])
    task, module, settings = load_with_settings(path)
    print(f"{task.name}: {module.layer.name}, test data")
    print(f"checkpoint  {path}", flush=True)
    metrics = evaluate(task, module, "test", settings.train_batch_size, measure_energy=args.energy)
    for name, value in metrics.items():
        print(f"{name.removeprefix('test_').replace('_', ' '):<11} {value:.6g}")
    return {"checkpoint": str(path), "task": task.name, "model": module.layer.name, **metrics}


class _Progress:
    """A live line, or where there can be none a line on stderr every few seconds.

    Args:
        episodes: How many there will be.
        filmed: Whether one of them is filmed, which takes most of the time.
    """

    def __init__(self, episodes: int, filmed: bool) -> None:
        self._episodes = episodes
        self._filmed = ", filming the first" if filmed else ""
        self._returns: list[float] = []
        self._steps = 0
        self._started = self._told = time.monotonic()

    def ended(self, episode: "Episode") -> None:
        self._returns.append(episode.reward)

    def stepped(self, steps: int) -> None:
        self._steps += steps
        now = time.monotonic()
        mean = f", mean return {sum(self._returns) / len(self._returns):.4g}" if self._returns else ""
        line = (
            f"  {len(self._returns)} of {self._episodes} episodes, {self._steps:,} steps{mean}{self._filmed}, "
            f"{duration(now - self._started)}"
        )
        if not live(line) and now - self._told >= _PROGRESS_EVERY:
            self._told = now
            print(line, file=sys.stderr, flush=True)


def _tell_each(episodes: list[dict[str, float]]) -> None:
    widths = {name: max(12, len(name) + 2) for name in episodes[0]}
    print("".join(name.rjust(width) for name, width in widths.items()))
    for episode in episodes:
        values = {name: str(value) if name == "seed" else f"{value:.6g}" for name, value in episode.items()}
        print("".join(value.rjust(widths[name]) for name, value in values.items()))


def _tell(evaluation: "Evaluation") -> None:
    summary = evaluation.summary()
    several = len(evaluation.returns) > 1
    spread = f" (least {summary['return_min']:.6g}, most {summary['return_max']:.6g})" if several else ""
    print(f"return      {_mean(evaluation.returns)}{spread}")
    for agent, returns in (evaluation.by_agent or {}).items():
        print(f"            {_mean(returns)} of {agent}")
    print(f"length      {_mean(evaluation.lengths)} steps")
    units = {"step": "step", "episode": "episode", "reward": "unit of reward"}
    energies = {unit: summary[key] for what, unit in units.items() if (key := f"energy_per_{what}") in summary}
    if energies:
        print(f"energy      {', '.join(f'{energy:.4g} per {unit}' for unit, energy in energies.items())}")


def _mean(values: "np.ndarray") -> str:
    """With the sample's deviation, where the episodes differ."""
    from rllib_stpn.report.numbers import mean_and_deviation

    return mean_and_deviation(values) if len({*values.tolist()}) > 1 else f"{values[0]:,.6g}"
