"""The figures of a report: one line, bar or point per group, and the standard deviation over its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from rllib_stpn.report.groups import ENERGY, SECONDS, STEPS, Group, Section

# Okabe and Ito's palette, which colour-blind readers can tell apart; more groups differ in their dashes.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", ":", "-.")
_MARKERS = "osD^vPX*<>p"  # not a multiple of the colours, so that the pairs last
_POINTS = 300
Look = dict[str, Any]


def metric_name(metric: str) -> str:
    """A metric as axes and tables call it, e.g. ``"episode return"``."""
    name = metric.replace("env_runners/", "").replace("/", " ").replace("_", " ")
    return name.removesuffix(" mean")


def learning_curves(section: Section, threshold: float | None) -> Figure:
    """The metric over steps and over wall time.

    Mean and standard deviation up to the last step that all seeds of a group reached; beyond it, a line per seed.
    """
    figure = _figure(10, 4.6)
    by_steps, by_time = figure.subplots(1, 2, sharey=True)
    seconds, unit = _unit_of_time(max(np.nanmax(t.metrics[SECONDS]) for g in section.groups for t in g.trials))
    for index, group in enumerate(section.groups):
        look: Look = {"color": _colour(index), "linestyle": _DASHES[index // len(_COLOURS) % len(_DASHES)]}
        label = f"{group.label} ({_seeds(group)})"
        _curve(by_steps, group, [t.column(*STEPS) for t in group.trials], section.metric, look, label)
        _curve(by_time, group, [t.metrics[SECONDS] / seconds for t in group.trials], section.metric, look, None)
    by_steps.set_xlabel(section.unit_of_steps)
    by_steps.xaxis.set_major_formatter(FuncFormatter(lambda x, _: count(x)))
    by_steps.set_ylabel(metric_name(section.metric))
    by_time.set_xlabel(f"wall time ({unit})")
    for axes in (by_steps, by_time):
        axes.set_xlim(left=0)
    if threshold is not None:
        look = {"color": "0.4", "linewidth": 1, "linestyle": (0, (6, 3)), "zorder": 0}
        by_steps.axhline(threshold, label=f"threshold {threshold:g}", **look)
        by_time.axhline(threshold, **look)
    _legend(figure)
    return figure


def final_performance(section: Section) -> Figure:
    """Bars of the metric's last values."""
    values = [group.last(section.metric) for group in section.groups]
    return _bars(section, values, f"final {metric_name(section.metric)}")


def energy(section: Section) -> Figure | None:
    """Bars of the energy per step, None where it was not measured."""
    values = [group.last(*ENERGY) for group in section.groups]
    return _bars(section, values, _energy_label(section)) if np.isfinite(np.concatenate(values)).any() else None


def energy_against_performance(section: Section) -> Figure | None:
    """A point per group, and a small one per seed; None where energy was not measured."""
    figure = _figure(6.4, 4.6)
    axes = figure.subplots()
    means: list[float] = []
    for index, group in enumerate(section.groups):
        spent, score = group.last(*ENERGY), group.last(section.metric)
        known = np.isfinite(spent)
        if not known.any():
            continue
        spent, score = spent[known], score[known]
        look: Look = {"color": _colour(index), "marker": _MARKERS[index % len(_MARKERS)]}
        if len(spent) > 1:
            axes.scatter(spent, score, s=14, alpha=0.5, linewidths=0, **look)
        axes.errorbar(
            spent.mean(), score.mean(), xerr=spent.std(), yerr=score.std(), markersize=8, capsize=3, linestyle="none",
            label=f"{group.label} ({_seeds(group)})", **look,
        )  # fmt: skip
        means.append(spent.mean())
    if not means:
        return None
    if min(means) > 0 and max(means) > 20 * min(means):
        axes.set_xscale("log")
    axes.margins(0.15)
    if axes.get_xscale() == "linear":
        axes.set_xlim(left=0)
    axes.set_xlabel(_energy_label(section))
    axes.set_ylabel(f"final {metric_name(section.metric)}")
    _legend(figure)
    return figure


def count(number: float) -> str:
    """A number of steps in three digits, e.g. ``"1.25M"``."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained", dpi=150)


def _legend(figure: Figure) -> None:
    """Below the plots, in as many columns as fit; rows beyond the second make the figure higher."""
    labels = [label for axes in figure.axes for label in axes.get_legend_handles_labels()[1]]
    width, height = figure.get_size_inches()
    columns = min(len(labels), max(1, int(width / (0.65 + 0.078 * max(map(len, labels))))))
    rows = -(-len(labels) // columns)
    figure.set_size_inches(width, height + 0.22 * max(0, rows - 2))
    figure.legend(loc="outside lower center", ncols=columns, frameon=False)


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]


def _seeds(group: Group) -> str:
    return f"{len(group.trials)} seed{'s' if len(group.trials) > 1 else ''}"


def _energy_label(section: Section) -> str:
    return f"energy per {section.unit_of_energy}, Σ |G| u² (arbitrary units)"


def _unit_of_time(longest: float) -> tuple[float, str]:
    for seconds, unit in ((3600.0, "hours"), (60.0, "minutes")):
        if longest > 2 * seconds:
            return seconds, unit
    return 1.0, "seconds"


def _curve(axes: Axes, group: Group, xs: Sequence[np.ndarray], metric: str, look: Look, label: str | None) -> None:
    curves = []
    for x, trial in zip(xs, group.trials, strict=True):
        y = trial.metrics[metric]
        known = np.isfinite(x) & np.isfinite(y)
        curves.append((x[known], y[known]))
    curves = [(x, y) for x, y in curves if len(x)]
    common = min(x[-1] for x, _ in curves)
    first = min(common, max(x[0] for x, _ in curves))
    grid = np.linspace(first, common, _POINTS) if len(curves) > 1 else curves[0][0]
    values = np.array([np.interp(grid, x, y) for x, y in curves])  # [seeds, points]
    mean, deviation = values.mean(0), values.std(0)
    # A single result is a point.
    axes.plot(grid, mean, label=label, linewidth=1.8, marker="o" if len(set(grid)) == 1 else None, **look)
    if len(curves) > 1:
        axes.fill_between(grid, mean - deviation, mean + deviation, color=look["color"], alpha=0.18, linewidth=0)
    for x, y in curves:
        if x[-1] > common:
            tail = np.concatenate([[common], x[x > common]])
            axes.plot(tail, np.interp(tail, x, y), linewidth=0.8, alpha=0.6, **look)


def _bars(section: Section, values: Sequence[np.ndarray], label: str) -> Figure:
    """A bar for each group that has a value, in its colour."""
    shown = [(index, each[np.isfinite(each)]) for index, each in enumerate(values) if np.isfinite(each).any()]
    figure = _figure(7, 1.3 + 0.5 * len(shown))
    axes = figure.subplots()
    for place, (index, each) in enumerate(shown):
        axes.barh(place, each.mean(), height=0.62, color=_colour(index), alpha=0.75)
        if len(each) > 1:
            axes.errorbar(each.mean(), place, xerr=each.std(), color="0.15", capsize=3, linewidth=1)
            axes.plot(each, [place] * len(each), "o", color="0.15", markersize=3)
        end = max(each.mean() + each.std(), each.max(), 0)
        axes.annotate(f"{each.mean():.4g}", (end, place), (5, 0), textcoords="offset points", va="center", fontsize=9)
    groups = [section.groups[index] for index, _ in shown]
    axes.set_yticks(range(len(groups)), [f"{group.label} ({_seeds(group)})" for group in groups])
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.margins(x=0.14)
    axes.set_xlabel(label)
    axes.axvline(0, color="0.2", linewidth=0.8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure
