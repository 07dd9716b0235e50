"""Prints the table of results/popgym/README.md, made from the committed runs, and draws docs/popgym.png of them.

    python results/popgym.py
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from rllib_stpn.layers import make_layer
from rllib_stpn.report.groups import METRICS, PARAMETERS, Group, make_sections, needed_metrics
from rllib_stpn.report.palette import looks
from rllib_stpn.report.trials import read_trials

RESULTS = Path(__file__).resolve().parent
INPUTS = 128  # of a layer: the features in front of it

#: By environment, the best mean return of a GRU of 256 in 15M steps, over three trials: POPGym's table, second-hand.
PUBLISHED = {
    "RepeatFirstEasy": 1.000,
    "RepeatPreviousEasy": 1.000,
    "AutoencodeEasy": -0.283,
    "HigherLowerEasy": 0.529,
    "PositionOnlyCartPoleEasy": 1.000,
    "NoisyPositionOnlyCartPoleEasy": 0.995,
    "MultiarmedBanditEasy": 0.619,
}


@dataclass(frozen=True)
class Row:
    """A layer of one size.

    Attributes:
        name: Such as ``"STPN of 12"``.
        layer: Its name in a ``model`` block.
        state: Numbers that it carries from step to step.
        parameters: Heads and features included, where it observes most.
        best: By environment, the best mean return of each seed, ``[seeds]``.
    """

    name: str
    layer: str
    state: int
    parameters: int
    best: dict[str, np.ndarray]

    def mean(self) -> float:
        """Over environments, of the means over seeds; NaN where one was not run."""
        return float(np.mean([np.mean(self.best[env]) if env in self.best else np.nan for env in PUBLISHED]))


def rows() -> list[Row]:
    """The best mean over environments first; behind them those that were not run in all, in the order of the sweep."""
    found: dict[str, dict[str, Group]] = {}
    trials, _ = read_trials([RESULTS / "popgym/runs"], needed_metrics(None))
    for section in make_sections(trials, None, []):
        for group in section.groups:
            env = section.subject.split("/")[-1].removesuffix("-v0")
            found.setdefault(group.experiment, {})[env] = group
    made = [_row(groups) for groups in found.values()]
    return sorted(made, key=lambda row: -np.nan_to_num(row.mean(), nan=-np.inf))


def _row(groups: dict[str, Group]) -> Row:
    model = next(iter(groups.values())).trials[0].settings["model"]
    layer, config = model["custom_model"], model["custom_model_config"]
    state = make_layer(layer, input_size=INPUTS, **config).initial_state(1)
    name = re.sub(r"\b(stpn|rnn|lstm|gru|mlp)\b", lambda found: found[0].upper(), layer.replace("_", " "))
    name = name.replace("hebbff", "HebbFF")
    return Row(
        f"{name} of {config['hidden_size']}",
        layer,
        sum(tensor.numel() for tensor in state.values()),
        int(max(group.last(*PARAMETERS).max() for group in groups.values())),
        {env: group.best(METRICS[0]) for env, group in groups.items()},
    )


def table(found: list[Row]) -> str:
    """In Markdown: means over seeds."""

    def cells(name: str, state: int, parameters: str, best: dict[str, float], mean: float) -> str:
        values = [*(best.get(env, np.nan) for env in PUBLISHED), mean]
        numbers = ["-" if np.isnan(value) else f"{value:.3f}" for value in values]
        return "| " + " | ".join([name, f"{state:,}", parameters, *numbers]) + " |"

    head = ["best mean return", "state", "parameters", *(env.removesuffix("Easy") for env in PUBLISHED), "mean"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    lines.append(
        cells("GRU of 256, 15M steps, published", 256, "", PUBLISHED, float(np.mean(list(PUBLISHED.values()))))
    )
    for row in found:
        means = {env: float(np.mean(values)) for env, values in row.best.items()}
        lines.append(cells(row.name, row.state, f"{row.parameters:,}", means, row.mean()))
    return "\n".join(lines)


def figure(found: list[Row]) -> Figure:
    """A panel for each environment: a dot for each seed, a bar to their mean, a line at the published GRU."""
    drawn = Figure(figsize=(12, 1.2 + 0.26 * len(found)), layout="constrained", dpi=100)
    panels = drawn.subplots(1, len(PUBLISHED), sharey=True)
    colours = [look.colour for look in looks([row.layer for row in found], dark=False)]
    for axes, (env, published) in zip(panels, PUBLISHED.items(), strict=True):
        left = min([published, *(value for row in found for value in row.best.get(env, ()))]) - 0.05
        for place, (row, colour) in enumerate(zip(found, colours, strict=True)):
            values = row.best.get(env, np.array([]))
            if len(values):
                axes.barh(place, values.mean() - left, left=left, height=0.62, color=colour, alpha=0.55)
                axes.plot(values, [place] * len(values), "o", color="white", markeredgecolor="black", markersize=4)
        axes.axvline(published, color="0.4", linewidth=1, linestyle=(0, (4, 2)))
        axes.set_title(env.removesuffix("Easy").replace("PositionOnly", "PositionOnly\n"), fontsize=9)
        axes.tick_params(labelsize=8)
        axes.set_xlim(left=left)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(found)), [row.name for row in found], fontsize=9)
    panels[0].invert_yaxis()
    drawn.supxlabel("best mean return; dashed: a GRU of 256 in 15M steps, as published", fontsize=9)
    return drawn


def main(file: Path = RESULTS.parent / "docs/popgym.png") -> None:
    """Prints the table and draws the figure."""
    found = rows()
    print(table(found))
    figure(found).savefig(file)


if __name__ == "__main__":
    main()
