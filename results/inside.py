"""Looks inside a trained STPN: what its fast weights hold, and what is lost without them.

    python results/inside.py retrieval ~/ray_results/art_stpn
    python results/inside.py maze maze_stpn

Each takes a checkpoint, an experiment's newest one or, for the maze, an agent of the package, and writes a figure and
the numbers behind it into ./inside, or where --out says; those of the documentation are in results/inside.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

import rllib_stpn
from rllib_stpn.agents.checkpoints import find_checkpoint
from rllib_stpn.models import encoders
from rllib_stpn.report.palette import COLOURS
from rllib_stpn.supervised.trainable import load as load_supervised

F, H = COLOURS["stpn"], COLOURS["lstm"]
SEQUENCES = 10_000  # half to fit the decoders, half to test them
DIGITS = "0123456789"


def states_of(layer: Any, inputs: torch.Tensor, change: Callable[[int, dict, dict], dict] | None = None) -> Iterator:
    """Runs a layer step by step; yields after each step its output ``[B, H]`` and its state.

    Args:
        layer: The layer.
        inputs: ``[B, T, I]``.
        change: ``change(t, before, after)`` is the state ``[B, ...]`` that the layer goes on with after step t.
    """
    state = layer.initial_state(len(inputs))
    for t in range(inputs.shape[1]):
        before = {key: leaf.clone() for key, leaf in state.items()}
        output, state = layer(inputs[:, t : t + 1], state)
        if change is not None:
            state = change(t, before, state)
        yield output[:, 0], state


def decoded(features: torch.Tensor, labels: torch.Tensor) -> float:
    """Accuracy of a linear decoder by ridge regression ``[N, features]`` -> ``[N]``, fitted to the first half."""
    features = torch.cat([features.flatten(1), torch.ones(len(features), 1)], dim=1).double()
    features[:, :-1] /= features[:, :-1].std(0) + 1e-9
    half = len(features) // 2
    targets = torch.nn.functional.one_hot(labels, len(DIGITS)).double()
    known = features[:half]
    ridge = known.T @ known + torch.eye(features.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(ridge, known.T @ targets[:half])
    return float(((features[half:] @ weights).argmax(1) == labels[half:]).double().mean())


def without(leaf: str, at: int) -> Callable[[int, dict, dict], dict]:
    """Sets a part of the state to zero after step ``at``."""
    return lambda t, before, after: after | {leaf: torch.zeros_like(after[leaf])} if t == at else after


def frozen(at: int) -> Callable[[int, dict, dict], dict]:
    """Writes nothing to the fast weights from step ``at`` on."""
    return lambda t, before, after: after | {"F": before["F"]} if t >= at else after


@torch.no_grad()
def retrieval(path: Path | str, out: Path) -> None:
    """Decodes the digits from the fast weights at each step, and cuts the memory at each step."""
    task, module = load_supervised(find_checkpoint(path))
    tokens, answers = task.sample(np.random.default_rng(0), SEQUENCES)
    inputs, layer = module.encoder(tokens), module.layer
    pairs, steps = task.num_pairs, tokens.shape[1]
    digit_tokens = torch.unique(answers)
    digits = [torch.searchsorted(digit_tokens, tokens[:, 2 * pair + 1].contiguous()) for pair in range(pairs)]

    found: dict[str, list[list[float]]] = {"F": [[] for _ in digits], "h": [[] for _ in digits]}
    for output, state in states_of(layer, inputs):
        for pair, labels in enumerate(digits):
            found["F"][pair].append(decoded(state["F"], labels))
            found["h"][pair].append(decoded(output, labels))

    def accuracy(change: Callable[[int, dict, dict], dict] | None) -> float:
        *_, (output, _) = states_of(layer, inputs, change)
        logits = module.readout(output[:, None])
        return float((logits.argmax(-1) == answers).double().mean())

    cuts = {
        "F set to zero after this step": [accuracy(without("F", t)) for t in range(steps - 1)],
        "h set to zero after this step": [accuracy(without("h", t)) for t in range(steps - 1)],
        "F frozen from this step on": [accuracy(frozen(t)) for t in range(steps - 1)],
    }
    *_, energy = layer(inputs, return_energy=True)
    energy = energy.sum(-1).mean(0)  # [T]

    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    shown = [*(symbol for pair in range(1, pairs + 1) for symbol in (f"letter {pair}", f"digit {pair}"))]
    shown = [*shown, "?", "?", "query"]
    for part, colour in (("F", F), ("h", H)):
        for pair, dash in enumerate(("-", "--", ":", "-.") * pairs):
            if pair < pairs:
                label = f"digit {pair + 1} from {part}"
                axes[0, 0].plot(found[part][pair], dash, color=colour, label=label, marker="o", markersize=3)
    axes[0, 0].axhline(1 / len(DIGITS), color="grey", linewidth=0.8)
    axes[0, 0].set(title="What a linear decoder reads", ylabel="accuracy", ylim=(0, 1.03))
    for (label, values), colour, dash in zip(cuts.items(), (F, H, F), ("-", "-", "--"), strict=True):
        axes[0, 1].plot(values, dash, color=colour, label=label, marker="o", markersize=3)
    axes[0, 1].set(title="What the answer needs", ylabel="accuracy", ylim=(0, 1.03))
    axes[1, 1].bar(range(steps), energy, color=F)
    axes[1, 1].set(title="Energy of each step", ylabel="energy")
    for axis in (axes[0, 0], axes[0, 1], axes[1, 1]):
        axis.set_xticks(range(steps), shown, rotation=60)
    for axis in (axes[0, 0], axes[0, 1]):
        axis.legend(fontsize=7)
    rates(axes[1, 0], layer)
    save(
        figure,
        out / "retrieval",
        {"symbols": shown, "decoded": found, "accuracy": accuracy(None), **cuts, "energy": energy.tolist()},
    )


def rates(axis: Any, layer: Any) -> None:
    """How far the rates of writing and of keeping have moved: histograms of Λ and Γ beside those they began with."""
    k = (layer.hidden_size if layer.recurrent else layer.input_size) ** -0.5
    start = layer.gamma_init_scale * k
    retention, rate = (parameter.detach().flatten().numpy() for parameter in (layer.weight_lambda, layer.weight_gamma))
    bins = np.linspace(min(retention.min(), rate.min(), 0), max(retention.max(), rate.max(), 1), 60)
    axis.hist(retention, bins, color=F, alpha=0.7, label="Λ, what a step keeps")
    axis.hist(rate, bins, color=H, alpha=0.7, label="Γ, what a step writes")
    axis.axvspan(0, 1, ymax=0.04, color=F, alpha=0.3)
    axis.axvspan(-start, start, ymax=0.04, color=H)
    axis.set(title="Rates after training; along the axis, where they began", ylabel="synapses", yscale="log")
    axis.legend(fontsize=7)


@torch.no_grad()
def maze(path: Path | str, out: Path, envs: int = 256) -> None:
    """Plays episodes with the fast weights cleared or frozen at a step, and measures energy over an episode."""
    agent = rllib_stpn.load(path)
    (encoder,) = encoders(agent.module).values()

    def play(change: Callable[[int, dict, dict], dict] | None) -> tuple[np.ndarray, np.ndarray]:
        """Rewards ``[T, envs]`` and energies ``[T, envs]`` of an episode each."""
        env, state, first = agent.make_env(num_envs=envs), None, np.ones(envs, bool)
        observations, _ = env.reset(seed=0)
        rewards, energies, generator = [], [], torch.Generator().manual_seed(0)
        alive, t = np.ones(envs, bool), 0
        while alive.any():
            before = state
            actions, state, energy = agent.step(
                observations, state, first, explore=True, generator=generator, return_energy=True
            )
            if change is not None and before is not None:
                state = change_leaves(change, t, before, state)
            observations, reward, terminated, truncated, _ = env.step(actions)
            first = terminated | truncated
            rewards.append(np.where(alive, reward, 0.0))
            energies.append(np.where(alive, energy.numpy(), np.nan))
            alive &= ~first
            t += 1
        env.close()
        return np.array(rewards), np.array(energies)

    rewards, energies = play(None)
    steps = len(rewards)
    half = steps // 2
    played = {
        "whole": rewards,
        f"F set to zero after step {half}": play(without("F", half))[0],
        f"h set to zero after step {half}": play(without("h", half))[0],
        f"F frozen from step {half} on": play(frozen(half))[0],
        "F frozen from the first step on": play(frozen(0))[0],
    }
    figure, axes = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
    looks = (("black", "-"), (F, "-"), (H, "-"), (F, "--"), (F, ":"))
    for (label, each), (colour, dash) in zip(played.items(), looks, strict=True):
        axes[0].plot(each.mean(1).cumsum(), dash, color=colour, label=f"{label}: {each.sum(0).mean():.1f}")
    axes[0].set(title=f"Return so far, mean of {envs} episodes", xlabel="step", ylabel="return")
    axes[0].legend(fontsize=7)
    rates(axes[1], encoder.layer)
    axes[2].plot(np.nanmean(energies, 1), color=F)
    axes[2].set(title="Energy of each decision", xlabel="step", ylabel="energy", ylim=(0, None))
    numbers: dict[str, Any] = {
        label: {"return": float(each.sum(0).mean()), "standard error": float(each.sum(0).std(ddof=1) / envs**0.5)}
        for label, each in played.items()
    }
    save(figure, out / "maze", numbers | {"energy": np.nanmean(energies, 1).tolist()})


def change_leaves(change: Callable[[int, dict, dict], dict], t: int, before: Any, after: Any) -> Any:
    """Applies a change to the layer's part of an agent's state, however deep it lies."""
    if "F" in after:
        return change(t, before, after)
    return {key: change_leaves(change, t, before[key], value) for key, value in after.items()}


def save(figure: Any, path: Path, numbers: dict[str, Any]) -> None:
    """Writes a figure, and the numbers that it shows with four digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path.with_suffix(".png"), dpi=90)
    rounded = json.loads(json.dumps(numbers), parse_float=lambda text: float(f"{float(text):.4g}"))
    path.with_suffix(".json").write_text(json.dumps(rounded, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(rounded, indent=1, ensure_ascii=False))


def main() -> None:
    """Makes the figure of the task that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("retrieval", "maze"))
    parser.add_argument("checkpoint", help="a checkpoint, an experiment's directory or an agent of the package")
    parser.add_argument("--out", type=Path, default=Path("inside"), help="where to write (default: %(default)s)")
    args = parser.parse_args()
    {"retrieval": retrieval, "maze": maze}[args.task](args.checkpoint, args.out)


if __name__ == "__main__":
    main()
