"""What agents of the study `trials` learn within a trial: the mean reward of each of its episodes.

    python results/run.py trials --storage-path ~/studies
    python results/within_trial.py ~/studies

Plays new trials with the last checkpoint of every training, actions drawn as in training, and writes the curves and the
numbers behind them to results/within_trial.
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

import rllib_stpn
from rllib_stpn.report.palette import COLOURS

OUT = Path(__file__).parent / "within_trial"
LAYERS = ("stpn", "lstm", "mlp")
ARMS = 3


def rewards_of(trial: Path, trials: int) -> np.ndarray:
    """The mean reward of each episode of a trial, ``[episodes]``, by the newest checkpoint of a training."""
    agent = rllib_stpn.load(trial)
    env, generator = agent.make_env(num_envs=trials), torch.Generator().manual_seed(0)
    observations, _ = env.reset(seed=0)
    state, first, rewards = None, np.ones(trials, bool), []
    while not rewards or not first.any():
        actions, state = agent.step(observations, state, first, explore=True, generator=generator)
        observations, reward, terminated, truncated, _ = env.step(actions)
        first = terminated | truncated
        rewards.append(reward.mean())
    env.close()
    return np.array(rewards)


def main() -> None:
    """Plays, draws and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("storage", type=Path, help="where results/run.py put its trainings")
    parser.add_argument("--trials", type=int, default=8000, help="how many trials each agent plays")
    args = parser.parse_args()
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    curves = {}
    for layer in LAYERS:
        found = sorted(args.storage.expanduser().glob(f"trials_bandit_{layer}/*/result.json"))
        seeds = np.array([rewards_of(result.parent, args.trials) for result in found])
        curves[layer] = seeds.round(4).tolist()
        episodes = np.arange(1, seeds.shape[1] + 1)
        axis.plot(episodes, seeds.mean(0), color=COLOURS[layer], label=f"{layer}, {len(seeds)} seeds")
        axis.fill_between(episodes, seeds.min(0), seeds.max(0), color=COLOURS[layer], alpha=0.2, linewidth=0)
    axis.axhline(0.5, color="grey", linewidth=0.8, linestyle=":", label="an arm at random")
    best = ARMS / (ARMS + 1)  # the mean of the largest of three chances, uniform in 0 to 1
    axis.axhline(best, color="grey", linewidth=0.8, linestyle="--", label="the best arm")
    axis.set(xlabel="episode of the trial", ylabel="mean reward", xticks=episodes[::2])
    axis.legend(fontsize=8)
    OUT.mkdir(exist_ok=True)
    figure.savefig(OUT / "bandit.png", dpi=90)
    (OUT / "bandit.json").write_text(json.dumps(curves, indent=1) + "\n", encoding="utf-8")
    for layer, seeds in curves.items():
        shown = "; ".join(f"{seed[0]:.2f}, {seed[4]:.2f}, {seed[9]:.2f}, {seed[-1]:.2f}" for seed in seeds)
        print(f"{layer:5} episodes 1, 5, 10 and the last, each seed: {shown}")


if __name__ == "__main__":
    main()
