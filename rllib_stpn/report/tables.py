"""The two tables of a section: what came out, and what it took."""

from __future__ import annotations

import numpy as np

from rllib_stpn.report.document import Table
from rllib_stpn.report.groups import ENERGY, PARAMETERS, Group, Section
from rllib_stpn.report.numbers import (
    interquartile_mean_and_interval,
    mean_and_deviation,
    mean_count_and_deviation,
    ratio_and_interval,
)


def results(section: Section, threshold: float | None) -> Table:
    """How good trainings became, and how soon they were as good as the threshold."""
    name, steps = section.name_of_metric, section.unit_of_steps
    headings = [section.name_of_labels, "seeds", f"final {name}", "interquartile mean (95 % interval)", f"best {name}"]
    if threshold is not None:
        headings += [f"{steps} to {threshold:g}", f"minutes to {threshold:g}"]
    rows = []
    for group in section.groups:
        final = group.last(section.metric)
        row = [
            group.label,
            str(len(group.trials)),
            mean_and_deviation(final),
            interquartile_mean_and_interval(final),
            mean_and_deviation(group.best(section.metric)),
        ]
        if threshold is not None:
            reached, seconds = group.reached(section.metric, threshold, section.steps).T
            there = np.isfinite(reached).any()
            row += [mean_count_and_deviation(reached) if there else "not reached", mean_and_deviation(seconds / 60)]
        rows.append(row)
    return Table(headings, rows, texts=1)


def costs(section: Section, baseline: Group | None) -> Table:
    """What trainings took, with the layer beside the experiment, or the other way round.

    Args:
        section: Whose groups are the rows.
        baseline: That which energy ratios are to; None for no ratios.
    """
    others = [name for name in ("layer", "experiment") if name not in section.name_of_labels]
    headings = [section.name_of_labels, *others, "seeds", "parameters", section.unit_of_steps]
    energies = [group.last(*ENERGY) for group in section.groups]
    measured = any(np.isfinite(values).any() for values in energies)
    if measured:
        headings.append(section.name_of_energy)
        if baseline is not None:
            headings.append(f"energy ratio to {baseline.label}")
    rows = []
    for group, spent in zip(section.groups, energies, strict=True):
        parameters = group.last(*PARAMETERS)
        row = [
            group.label,
            *(getattr(group, name) for name in others),
            str(len(group.trials)),
            f"{parameters[0]:,.0f}" if np.isfinite(parameters[0]) else "-",
            mean_count_and_deviation(group.last(*section.steps)),
        ]
        if measured:
            row.append(mean_and_deviation(spent))
            if baseline is not None:
                itself = group is baseline and np.isfinite(spent).any()
                row.append("1" if itself else ratio_and_interval(spent, baseline.last(*ENERGY)))
        rows.append(row)
    return Table(headings, rows, texts=1 + len(others))
