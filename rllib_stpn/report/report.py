"""Writes a report of the trainings in some directories."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from rllib_stpn import provenance
from rllib_stpn.errors import UsageError
from rllib_stpn.report import document, figures
from rllib_stpn.report.document import Block, Code, Heading, Items, Paragraph, Table
from rllib_stpn.report.groups import (
    ENERGY,
    PARAMETERS,
    STEPS,
    Group,
    Section,
    lower_is_better,
    make_sections,
    needed_metrics,
)
from rllib_stpn.report.trials import ITERATION, read_trials

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_report(
    directories: Sequence[Path], out: Path, metric: str | None = None, threshold: float | None = None
) -> list[str]:
    """Writes ``report.md``, ``report.html`` and their figures.

    Args:
        directories: Of Tune trials, of experiments or above them.
        out: The directory to write into; made if it does not exist.
        metric: Path of the metric that tells success, e.g. ``evaluation/env_runners/episode_return_mean``. By default
            ``env_runners/episode_return_mean``, or ``validation_accuracy`` of supervised training.
        threshold: A value of the metric; the report tells how long it took to get there.

    Returns:
        A line on each file that was missing or broken.

    Raises:
        UsageError: A directory without results, a metric that no result has, or ``out`` cannot be written.
    """
    trials, notes = read_trials(directories, needed_metrics(metric))
    sections = make_sections(trials, metric, notes)
    if not sections:
        raise UsageError(f"report: nothing to report: {'; '.join(notes)}")
    try:
        out.mkdir(parents=True, exist_ok=True)
        blocks: list[Block] = [Heading("Training report", 1), Paragraph(_summary(sections))]
        for section in sections:
            blocks += _section(section, out, threshold)
        if notes:
            blocks += [Heading("Left out", 2), Items(notes)]
        document.write(blocks, out)
    except OSError as error:
        raise UsageError(f"report: {out} cannot be written: {error.strerror}") from error
    return notes


def _summary(sections: Sequence[Section]) -> str:
    groups = [group for section in sections for group in section.groups]
    trainings = sum(len(group.trials) for group in groups)
    return (
        f"{trainings} training{'s' * (trainings > 1)} of {len(groups)} kind{'s' * (len(groups) > 1)} on "
        f"{', '.join(section.subject for section in sections)}. Values are mean ± standard deviation over seeds."
    )


def _section(section: Section, out: Path, threshold: float | None) -> list[Block]:
    name = figures.metric_name(section.metric)
    blocks: list[Block] = [
        Heading(section.subject, 2),
        Paragraph(f"Metric: {name} ({section.metric})."),
        _table(section, threshold),
    ]
    spent = f"per {section.unit_of_energy}"
    better = "lower" if lower_is_better(section.metric) else "upper"
    drawn: list[tuple[str, Figure | None, str]] = [
        (
            "learning_curves",
            figures.learning_curves(section, threshold),
            f"{name} over {section.unit_of_steps} and over wall time: mean ± standard deviation as far as all seeds of "
            "a line go, then the seeds that go on, one thin line each.",
        ),
        ("final", figures.final_performance(section), f"Last {name}: mean ± standard deviation; a dot is a seed."),
        ("energy", figures.energy(section), f"Energy {spent} at the last result, mean ± standard deviation."),
        (
            "energy_against_performance",
            figures.energy_against_performance(section),
            f"Energy {spent} against {name}, both at the last result; {better} left is better.",
        ),
    ]
    for kind, figure, caption in drawn:
        if figure is not None:
            file = f"{_file_name(section.subject)}_{kind}.png"
            figure.savefig(out / file)
            blocks.append(document.Figure(file, caption[0].upper() + caption[1:]))
    return [*blocks, *_how(section, out)]


def _table(section: Section, threshold: float | None) -> Table:
    name = figures.metric_name(section.metric)
    headings = ["layer", "experiment", "parameters", "seeds", section.unit_of_steps, f"final {name}", f"best {name}"]
    if threshold is not None:
        headings += [f"{section.unit_of_steps} to {threshold:g}", f"minutes to {threshold:g}"]
    energies = [group.last(*ENERGY) for group in section.groups]
    measured = any(np.isfinite(values).any() for values in energies)
    first = _mean(energies[0])
    if measured:
        headings += [f"energy per {section.unit_of_energy}", "energy ratio to the first"]
    rows = []
    for group, spent in zip(section.groups, energies, strict=True):
        parameters = group.last(*PARAMETERS)
        row = [
            group.label,
            group.experiment,
            f"{parameters[0]:,.0f}" if np.isfinite(parameters[0]) else "-",
            str(len(group.trials)),
            _pm(group.last(*STEPS), figures.count),
            _pm(group.last(section.metric)),
            _pm(group.best(section.metric)),
        ]
        if threshold is not None:
            steps, seconds = group.reached(section.metric, threshold).T
            there = np.isfinite(steps).sum()
            of = "" if there == len(steps) else f" ({there} of {len(steps)} seeds)"
            row += [
                _pm(steps, figures.count) + of if there else "not reached",
                _pm(seconds / 60, "{:.3g}".format) if there else "-",
            ]
        if measured:
            row += [_pm(spent), f"{_mean(spent) / first:.3g}" if first > 0 and np.isfinite(spent).any() else "-"]
        rows.append(row)
    return Table(headings, rows)


def _how(section: Section, out: Path) -> list[Block]:
    """The commands, versions and machines; for trainings that recorded none, a file of their settings to train from."""
    started: list[dict[str, Any]] = []
    silent = []
    for group in section.groups:
        lines = [line for trial in group.trials for line in provenance.recorded(trial.path.parent)]
        started += lines
        if not lines:
            silent.append(group)
    blocks: list[Block] = [Heading("How to run it again", 3)]
    if started:
        blocks.append(Code("\n".join(dict.fromkeys(line["command"] for line in started))))
    files = {group.label: _write_settings(group, out) for group in silent}
    if any(files.values()):
        blocks += [
            Paragraph(
                "No command was recorded for these trainings. The files hold their settings, and stop after as many "
                "iterations:"
            ),
            Code("\n".join(f"rllib train -f {file}" for file in files.values() if file)),
        ]
    blocks += [
        Paragraph(f"{label}: trained from Python, with objects in its settings that no file holds.")
        for label, file in files.items()
        if file is None
    ]
    machines = {_machine(line) for line in started} or {"Versions and machine of the trainings: not recorded."}
    blocks.append(Items(sorted(machines)))
    return blocks


def _machine(line: dict[str, Any]) -> str:
    return f"{line['machine']}; {', '.join(f'{name} {number}' for name, number in line['versions'].items())}"


def _write_settings(group: Group, out: Path) -> Path | None:
    """Writes a YAML file for ``rllib train`` that repeats the group; None where the settings are not plain."""
    trial = group.trials[0]
    settings = {key: value for key, value in trial.settings.items() if not key.startswith("_")}
    if not settings or "<" in str(settings):  # classes and functions stand as text in Tune's files
        return None
    seeds = [seed for seed in group.seeds if seed is not None]
    config = {key: value for key, value in settings.items() if key not in ("env", "task")}
    if len(seeds) > 1:
        config["seed"] = {"grid_search": sorted(seeds)}
    experiment: dict[str, Any] = {
        **{key: settings[key] for key in ("env", "task") if key in settings},
        "run": trial.algorithm,
        "stop": {ITERATION: int(max(t.metrics[ITERATION][-1] for t in group.trials))},
        "config": config,
    }
    file = out / f"{_file_name(f'{group.experiment} {group.label}')}.yaml"
    file.write_text(yaml.safe_dump({group.experiment: experiment}, sort_keys=False), encoding="utf-8")
    return file


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan


def _pm(values: np.ndarray, form: Callable[[float], str] = "{:.4g}".format) -> str:
    values = values[np.isfinite(values)]
    if not len(values):
        return "-"
    return form(values.mean()) + (f" ± {form(values.std())}" if len(values) > 1 else "")


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.=-]+", "_", text.removeprefix("stpn_envs:")).strip("_")
