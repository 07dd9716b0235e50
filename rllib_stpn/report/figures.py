"""The figures of a report: one line, bar or point per group, and the interval over its seeds.

Within ``matplotlib.rc_context(palette.DARK)`` they are drawn, and have to be saved, for a dark page.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from rllib_stpn.report.groups import ENERGY, SECONDS, Group, Section
from rllib_stpn.report.numbers import count, interquartile_mean_alone
from rllib_stpn.report.palette import DARK, Look, looks
from rllib_stpn.report.statistics import bootstrap_interval, interquartile_mean

_POINTS = 300
_RESAMPLES = 1000  # for each point of a curve
# Letters in a line of a legend, beside bars, and along an axis; more leave no room for what is drawn.
_IN_LEGEND, _BESIDE_BARS, _ALONG_AXIS = 56, 40, 45


def learning_curves(section: Section, threshold: float | None) -> Figure:
    """The metric over steps and over wall time.

    Interquartile mean and interval up to the last step that all seeds of a group reached; beyond it, a line per seed.
    """
    figure = _figure(10, 4.6)
    by_steps, by_time = figure.subplots(1, 2, sharey=True)
    times = np.concatenate([trial.metrics[SECONDS] for group in section.groups for trial in group.trials])
    seconds, unit = _unit_of_time(max(times[np.isfinite(times)], default=0.0))
    for group, look, label in _shown(section, _IN_LEGEND):
        _curve(by_steps, group, [t.column(*section.steps) for t in group.trials], section.metric, look, label)
        _curve(by_time, group, [t.metrics[SECONDS] / seconds for t in group.trials], section.metric, look, None)
    by_steps.set_xlabel(section.unit_of_steps)
    by_steps.xaxis.set_major_formatter(FuncFormatter(lambda x, _: count(x)))
    by_steps.set_ylabel(_in_lines(section.name_of_metric, _ALONG_AXIS))
    by_time.set_xlabel(f"wall time ({unit})")
    for axes in (by_steps, by_time):
        axes.set_xlim(left=0)
        if threshold is not None:
            name = f"threshold {threshold:g}" if axes is by_steps else None
            axes.axhline(threshold, label=name, color="0.5", linewidth=1, linestyle=(0, (6, 3)), zorder=0)
    _legend(figure)
    return figure


def final_performance(section: Section) -> Figure:
    """Bars of the metric's last values."""
    values = [group.last(section.metric) for group in section.groups]
    return _bars(section, values, _in_lines(f"final {section.name_of_metric}", _ALONG_AXIS), log=False)


def energy(section: Section) -> Figure | None:
    """Bars of the energy per step, points where it spans decades; None where it was not measured."""
    values = [group.last(*ENERGY) for group in section.groups]
    if not np.isfinite(np.concatenate(values)).any():
        return None
    return _bars(section, values, _energy_label(section), log=_spans_decades(values))


def energy_against_performance(section: Section) -> Figure | None:
    """A point per group, and a small one per seed; None where energy was not measured."""
    energies = [group.last(*ENERGY) for group in section.groups]
    if not np.isfinite(np.concatenate(energies)).any():
        return None
    figure = _figure(6.4, 4.6)
    axes = figure.subplots()
    for (group, look, label), spent in zip(_shown(section, _IN_LEGEND), energies, strict=True):
        known = np.isfinite(spent)
        if not known.any():
            continue
        spent, score = spent[known], group.last(section.metric)[known]
        if len(spent) > 1:
            axes.scatter(spent, score, s=18, alpha=0.6, linewidths=0, color=look.colour, marker=look.marker)
        point = interquartile_mean(spent), interquartile_mean(score)
        axes.errorbar(*point, xerr=_error(spent), yerr=_error(score), color=look.colour, capsize=3)
        axes.plot(*point, look.marker, color=look.colour, markersize=8, label=label)
    axes.margins(0.15)
    if _spans_decades(energies):
        _log_scale(axes, energies)
    else:
        axes.set_xlim(left=0)
    axes.set_xlabel(_energy_label(section))
    axes.set_ylabel(_in_lines(f"final {section.name_of_metric}", _ALONG_AXIS))
    _legend(figure)
    return figure


def _log_scale(axes: Axes, values: Sequence[np.ndarray]) -> None:
    """Ticks at 1, 2 and 5 times the powers of ten; at the powers alone where the values span three decades."""
    known = np.concatenate(values)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if np.nanmax(known) < 1e3 * np.nanmin(known) else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: count(x)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained", dpi=150)


def _legend(figure: Figure) -> None:
    """Below the plots, in as many columns as fit; rows beyond the second make the figure higher."""
    labels = [label for axes in figure.axes for label in axes.get_legend_handles_labels()[1]]
    width, height = figure.get_size_inches()
    lines = [label.splitlines() for label in labels]
    longest = max(len(line) for label in lines for line in label)
    columns = min(len(labels), max(1, int(width / (0.65 + 0.078 * longest))))
    rows = -(-len(labels) // columns) * max(map(len, lines))
    figure.set_size_inches(width, height + 0.22 * max(0, rows - 2))
    figure.legend(loc="outside lower center", ncols=columns, frameon=False)


def _shown(section: Section, width: int) -> list[tuple[Group, Look, str]]:
    """The groups, how they look, and their labels in lines of this many letters."""
    dark = rcParams["axes.facecolor"] == DARK["axes.facecolor"]
    own = looks([group.layer for group in section.groups], dark)
    shown = []
    for row, (group, look) in enumerate(zip(section.groups, own, strict=True), 1):
        seeds = f"{len(group.trials)} seed{'s' if len(group.trials) > 1 else ''}"
        label = _in_lines(f"{group.label} ({seeds})", width, f" ... (row {row} of the table, {seeds})")
        shown.append((group, look, label))
    return shown


def _in_lines(text: str, width: int, instead: str = " ...") -> str:
    """The text in at most three lines, with something else instead of what does not fit into them.

    Matplotlib shows all of it: it would read what is between dollars as a formula, and leave a label that begins with
    an underscore out of legends.
    """
    lines = textwrap.fill(text, width, max_lines=3, placeholder=instead).replace("$", r"\$")
    return f" {lines}" if lines.startswith("_") else lines


def _energy_label(section: Section) -> str:
    return f"{section.name_of_energy}, Σ |G| u² (arbitrary units)"


def _spans_decades(values: Sequence[np.ndarray]) -> bool:
    known = np.concatenate(values)
    known = known[np.isfinite(known)]
    return bool(known.min() > 0 and known.max() > 10 * known.min())


def _unit_of_time(longest: float) -> tuple[float, str]:
    for seconds, unit in ((3600.0, "hours"), (60.0, "minutes")):
        if longest > 2 * seconds:
            return seconds, unit
    return 1.0, "seconds"


def _error(values: np.ndarray) -> np.ndarray:
    """How far the interval reaches below and above the interquartile mean, ``[2, 1]``; 0 for one seed."""
    middle, (low, high) = interquartile_mean(values), bootstrap_interval(values)
    return np.nan_to_num([[middle - low], [high - middle]]).clip(min=0)


def _curve(axes: Axes, group: Group, xs: Sequence[np.ndarray], metric: str, look: Look, label: str | None) -> None:
    curves = []
    for x, trial in zip(xs, group.trials, strict=True):
        y = trial.metrics[metric]
        known = np.isfinite(x) & np.isfinite(y)
        curves.append((x[known], y[known]))
    curves = [(x, y) for x, y in curves if len(x)]
    if not curves:  # of trainings that did not measure their time
        return
    common = min(x[-1] for x, _ in curves)
    first = min(common, max(x[0] for x, _ in curves))
    grid = np.linspace(first, common, _POINTS) if len(curves) > 1 else curves[0][0]
    values = np.array([np.interp(grid, x, y) for x, y in curves])  # [seeds, points]
    line: dict[str, Any] = {"color": look.colour, "linestyle": look.dash}
    # A single result is a point.
    single = "o" if len(set(grid)) == 1 else None
    axes.plot(grid, interquartile_mean(values), label=label, linewidth=1.8, marker=single, **line)
    if len(curves) > 1:
        axes.fill_between(grid, *bootstrap_interval(values, _RESAMPLES), color=look.colour, alpha=0.18, linewidth=0)
    for x, y in curves:
        if x[-1] > common:
            tail = np.concatenate([[common], x[x > common]])
            axes.plot(tail, np.interp(tail, x, y), linewidth=0.8, alpha=0.6, **line)


def _bars(section: Section, values: Sequence[np.ndarray], label: str, log: bool) -> Figure:
    """A bar for each group that has a value; on a log axis, where a bar's length says nothing, a point."""
    shown = [
        (name, look, each[np.isfinite(each)])
        for (_, look, name), each in zip(_shown(section, _BESIDE_BARS), values, strict=True)
        if np.isfinite(each).any()
    ]
    lines = max(name.count("\n") + 1 for name, *_ in shown)
    figure = _figure(7, 1.3 + max(0.5, 0.2 * lines) * len(shown))
    axes = figure.subplots()
    if log:
        _log_scale(axes, values)
        axes.grid(axis="x", alpha=0.5)
    for place, (_, look, each) in enumerate(shown):
        middle = interquartile_mean(each)
        if log:
            axes.plot(middle, place, look.marker, color=look.colour, markersize=10, zorder=2)
        else:
            axes.barh(place, middle, height=0.62, color=look.colour, alpha=0.55)
        if len(each) > 1:
            front, back = rcParams["text.color"], rcParams["axes.facecolor"]
            axes.errorbar(middle, place, xerr=_error(each), color=front, capsize=3, linewidth=1.2, zorder=3)
            # Below the interval, and of the page's colour: seen on any bar, and apart where seeds are close.
            heights = place + np.linspace(0.12, 0.28, len(each))
            axes.plot(each, heights, "o", color=back, markeredgecolor=front, markersize=5, zorder=4)
        end = (max(each.max(), 0 if not log else each.max()), place)
        text = interquartile_mean_alone(each)
        axes.annotate(text, end, (8, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(shown)), [name for name, *_ in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.margins(x=0.14)
    axes.set_xlabel(label)
    if not log:
        axes.axvline(0, color=rcParams["axes.edgecolor"], linewidth=0.8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure
