"""Prints the table in results/maze_rates/README.md, made from the committed runs, and draws docs/maze_rates.png.

    python results/maze_rates.py
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from rllib_stpn.report.groups import ENERGY, METRICS, PARAMETERS, STEPS, Group, make_sections, needed_metrics
from rllib_stpn.report.trials import Trial, read_trials

RESULTS = Path(__file__).resolve().parent
RETURN, ENOUGH = METRICS[0], 100
AT_ONCE = 5  # results that a point of a curve is the mean of

LAYERS = {  # by the names of their directories
    "stpn": "STPN",
    "stpn_post": "STPN as published",
    "modulated": "modulated plastic RNN",
    "lstm": "LSTM",
    "gru": "GRU",
    "mlp": "MLP",
}
COLOURS = {4e-3: "#d55e00", 2e-3: "#0072b2", 1e-3: "#009e73"}


@dataclass(frozen=True)
class Row:
    """A layer.

    Attributes:
        name: Such as ``"STPN as published"``.
        rates: Its trainings by the rate at their start, the highest first.
    """

    name: str
    rates: dict[float, Group]

    def best(self) -> float:
        """The rate with the highest mean over seeds at the end, among those that no seed failed with."""
        whole = {rate: group for rate, group in self.rates.items() if not any(map(failed, group.trials))}
        return max(whole, key=lambda rate: whole[rate].last(RETURN).mean())


def failed(trial: Trial) -> bool:
    """Whether it ended with an error."""
    return (trial.path / "error.txt").exists()


def rows() -> list[Row]:
    """The layers in the order of ``LAYERS``."""
    trials, _ = read_trials([RESULTS / "maze_rates/runs"], needed_metrics(None))
    (section,) = make_sections(trials, None, [])
    found: dict[str, dict[float, Group]] = {}
    for group in section.groups:
        layer, rate = group.experiment.rsplit("_", 1)
        found.setdefault(layer, {})[float(rate)] = group
    return [Row(name, dict(sorted(found[layer].items(), reverse=True))) for layer, name in LAYERS.items()]


def table(found: list[Row]) -> str:
    """In Markdown: the return of each seed at the end, in bold at the best rate, and what that rate brings."""
    lines = [
        "| layer | " + " | ".join(f"from {rate:g}" for rate in COLOURS) + " | parameters | energy per step |"
        f" million steps to {ENOUGH} |",
        "|---|" + "---:|" * (len(COLOURS) + 3),
    ]
    for row in found:
        best = row.rates[row.best()]
        cells = [_cell(row, rate) for rate in COLOURS]
        cells.append(f"{best.last(*PARAMETERS).max():,.0f}")
        cells.append(_each(best.last(*ENERGY), ",.0f"))
        cells.append(_each(best.reached(RETURN, ENOUGH)[:, 0] / 1e6, ".1f"))
        lines.append("| " + " | ".join([row.name, *cells]) + " |")
    return "\n".join(lines)


def _cell(row: Row, rate: float) -> str:
    group = row.rates[rate]
    text = ", ".join(
        f"fails at {trial.column(*STEPS)[-1] / 1e6:.1f}M" if failed(trial) else f"{value:.0f}"
        for trial, value in zip(group.trials, group.last(RETURN), strict=True)
    )
    return f"**{text}**" if rate == row.best() else text


def _each(values: np.ndarray, form: str) -> str:
    return ", ".join("-" if np.isnan(value) else format(value, form) for value in values)


def figure(found: list[Row]) -> Figure:
    """A panel for each layer: a line for each training, in the colour of its rate, dashed for the second seed."""
    drawn = Figure(figsize=(10, 5.6), layout="constrained", dpi=100)
    panels = drawn.subplots(2, 3, sharex=True, sharey=True)
    for axes, row in zip(panels.flat, found, strict=True):
        for rate, group in row.rates.items():
            for number, trial in enumerate(group.trials):
                axes.plot(
                    *_smooth(trial),
                    color=COLOURS[rate],
                    linewidth=1.3,
                    linestyle=("-", (0, (4, 1.5)))[number % 2],
                    label=f"from {rate:g}" if number == 0 else None,
                )
                if failed(trial):
                    axes.plot(*(values[-1] for values in _smooth(trial)), "x", color=COLOURS[rate], markersize=8)
        axes.set_title(row.name, fontsize=10)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0, 0].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1e6:g}M"))
    panels[0, 0].legend(title="learning rate", loc="lower right", fontsize=8, title_fontsize=8)
    drawn.supxlabel("environment steps; dashed: the second seed; x: its gradients were not finite", fontsize=9)
    drawn.supylabel(f"episode return, mean of {AT_ONCE} results", fontsize=9)
    return drawn


def _smooth(trial: Trial) -> tuple[np.ndarray, np.ndarray]:
    kernel = np.ones(AT_ONCE) / AT_ONCE
    return tuple(np.convolve(values, kernel, mode="valid") for values in (trial.column(*STEPS), trial.metrics[RETURN]))


def main(file: Path = RESULTS.parent / "docs/maze_rates.png") -> None:
    """Prints the table and draws the figure."""
    found = rows()
    print(table(found))
    figure(found).savefig(file)


if __name__ == "__main__":
    main()
