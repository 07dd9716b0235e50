"""Writes a report of the trainings in some directories."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import yaml

from rllib_stpn import provenance
from rllib_stpn.errors import UsageError, one_of
from rllib_stpn.report import document, figures, palette, tables
from rllib_stpn.report.document import Block, Code, Heading, Items, Paragraph
from rllib_stpn.report.groups import Group, Section, lower_is_better, make_sections, needed_metrics
from rllib_stpn.report.trials import ITERATION, read_trials

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LONGEST_NAME = 100  # bytes; a file system takes 255 with a figure's kind and a number


def write_report(
    directories: Sequence[Path],
    out: Path,
    metric: str | None = None,
    threshold: float | None = None,
    baseline: str | None = None,
) -> list[str]:
    """Writes ``report.md``, ``report.html`` and their figures.

    Args:
        directories: Of Tune trials, of experiments or above them.
        out: The directory to write into; made if it does not exist.
        metric: Path of the metric that tells success, e.g. ``evaluation/env_runners/episode_return_mean``. By default
            ``env_runners/episode_return_mean``; of supervised training ``validation_accuracy``, or
            ``validation_perplexity`` where there is one.
        threshold: A value of the metric; the report tells how long it took to get there.
        baseline: The layer or experiment whose energy is 1 in ratios; by default that of the first trial found.

    Returns:
        A line on each file that was missing or broken.

    Raises:
        UsageError: A directory without results, a metric that no result has, a baseline that no section or more than
            one training of a section has, or ``out`` cannot be written.
    """
    trials, notes = read_trials(directories, needed_metrics(metric))
    sections = make_sections(trials, metric, notes)
    if not sections:
        raise UsageError(f"report: nothing to report: {'; '.join(notes)}")
    baselines = _baselines(sections, baseline)
    try:
        out.mkdir(parents=True, exist_ok=True)
        blocks: list[Block] = [Heading("Training report", 1), Paragraph(_summary(sections))]
        taken: set[str] = set()
        for section, compared_with in zip(sections, baselines, strict=True):
            blocks += _section(section, out, threshold, compared_with, taken)
        if notes:
            blocks += [Heading("Notes", 2), Items(notes)]
        document.write(blocks, out)
    except OSError as error:
        raise UsageError(f"report: {out} cannot be written: {error.strerror}") from error
    return notes


def _baselines(sections: Sequence[Section], name: str | None) -> list[Group | None]:
    """The group of each section that ratios are to; None where a section has none of this name."""
    if name is None:
        return [section.groups[0] for section in sections]
    found = [section.group(name) for section in sections]
    if not any(found):
        raise one_of("report: --baseline", name, dict.fromkeys(g.label for section in sections for g in section.groups))
    return found


def _summary(sections: Sequence[Section]) -> str:
    groups = [group for section in sections for group in section.groups]
    trainings = sum(len(group.trials) for group in groups)
    text = (
        f"{trainings} training{'s' * (trainings > 1)} of {len(groups)} kind{'s' * (len(groups) > 1)} on "
        f"{', '.join(section.subject for section in sections)}."
    )
    seeds = {len(group.trials) for group in groups}
    if seeds == {1}:
        return text
    text += (
        " a ± b is the mean over seeds and the sample's standard deviation, without ± where all have the same value; "
        "a (b to c) is the interquartile mean over seeds and its 95 % bootstrap interval."
    )
    if seeds & {2, 3, 4}:
        text += (
            " With two to four seeds that interval reaches from the lowest to the highest, and holds the value of many "
            "seeds less often than in 95 % of cases."
        )
    return text


def _section(
    section: Section, out: Path, threshold: float | None, baseline: Group | None, taken: set[str]
) -> list[Block]:
    name = section.name_of_metric
    stem = _file_name(section.groups[0].trials[0].bare_subject, taken)
    blocks: list[Block] = [
        Heading(section.subject, 2),
        Paragraph(f"Metric: {name} ({section.metric})."),
        tables.results(section, threshold),
        tables.costs(section, baseline),
    ]
    light = _draw(section, threshold)
    with matplotlib.rc_context(palette.DARK):
        dark = _draw(section, threshold)
    for (kind, png, caption), (_, in_the_dark, _) in zip(light, dark, strict=True):
        file = f"{stem}_{kind}.png"
        (out / file).write_bytes(png)
        blocks.append(document.Figure(file, caption, in_the_dark))
    return [*blocks, *_how(section, out, taken)]


def _draw(section: Section, threshold: float | None) -> list[tuple[str, bytes, str]]:
    """The figures of which there are numbers: kind, PNG and caption."""
    name = section.name_of_metric
    better = "lower" if lower_is_better(section.metric) else "upper"
    middle = "interquartile mean and 95 % interval over seeds"
    drawn: list[tuple[str, Figure | None, str]] = [
        (
            "learning_curves",
            figures.learning_curves(section, threshold),
            f"{name} over {section.unit_of_steps} and over wall time: {middle} as far as all seeds of a line go, then "
            "the seeds that go on, one thin line each.",
        ),
        ("final", figures.final_performance(section), f"Final {name}: {middle}; a dot is a seed."),
        ("energy", figures.energy(section), f"{section.name_of_energy} at the last result: {middle}; a dot is a seed."),
        (
            "energy_against_performance",
            figures.energy_against_performance(section),
            f"{section.name_of_energy} against {name}, both at the last result: {middle}; {better} left is better.",
        ),
    ]
    found = []
    for kind, figure, caption in drawn:
        if figure is not None:
            png = io.BytesIO()
            figure.savefig(png)
            found.append((kind, png.getvalue(), caption[0].upper() + caption[1:]))
    return found


def _how(section: Section, out: Path, taken: set[str]) -> list[Block]:
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
    files = {group.label: _write_settings(group, out, taken) for group in silent}
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


def _write_settings(group: Group, out: Path, taken: set[str]) -> Path | None:
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
    file = out / f"{_file_name(f'{group.experiment} {group.label}', taken)}.yaml"
    file.write_text(yaml.safe_dump({trial.experiment: experiment}, sort_keys=False), encoding="utf-8")
    return file


def _file_name(text: str, taken: set[str]) -> str:
    """The letters that a file's name can have, and a number where such a name is taken, to which this one is added."""
    plain = re.sub(r"[^\w.=-]+", "_", text).strip("_")
    plain = plain.encode()[:_LONGEST_NAME].decode(errors="ignore")
    names = (f"{plain}_{number}" if number > 1 else plain for number in itertools.count(1))
    name = next(name for name in names if name.casefold() not in taken)  # not all file systems tell cases apart
    taken.add(name.casefold())
    return name
