"""Groups of trials that differ only in their seed, their names and their values."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rllib_stpn.errors import one_of
from rllib_stpn.report.trials import ITERATION, TIMESTAMP, Trial

METRICS = ("env_runners/episode_return_mean", "validation_perplexity", "validation_accuracy")
"""The default measures of success: the first of these that a trial has. Only language modelling has a perplexity."""
STEPS = ("num_env_steps_sampled_lifetime", "num_sequences_trained_lifetime")
SECONDS = "time_total_s"
PARAMETERS = (
    "num_parameters",
    "learners/default_policy/num_trainable_parameters",
    "learners/__all_modules__/num_trainable_parameters",
)
ENERGY = ("env_runners/energy/per_step", "evaluation/env_runners/energy/per_step", "energy_per_sequence")
_NOT_COMPARED = ("seed", "env", "task", "num_cpus_for_main_process")  # of a section, and of the machine
_LONGEST_SETTING = 30  # characters of one in a label


@dataclasses.dataclass
class Group:
    """The trials of one experiment with one layer and the same settings, except for the seed.

    Attributes:
        experiment: Its name; behind those of directories above it, where another experiment has the same name.
        layer: Name of the layer.
        trials: One per seed.
        label: Its name in tables and figures.
    """

    experiment: str
    layer: str
    trials: list[Trial]
    label: str = ""

    @property
    def seeds(self) -> list[Any]:
        """The trials' seeds; None for one without."""
        return [trial.settings.get("seed") for trial in self.trials]

    def last(self, *paths: str) -> np.ndarray:
        """Each trial's last finite value of the first of these metrics it has, ``[trials]``; NaN where it has none."""
        columns = [trial.column(*paths) for trial in self.trials]
        return np.array(
            [column[np.isfinite(column)][-1] if np.isfinite(column).any() else np.nan for column in columns]
        )

    def best(self, metric: str) -> np.ndarray:
        """Each trial's best value, ``[trials]``."""
        best = np.nanmin if lower_is_better(metric) else np.nanmax
        return np.array([best(trial.metrics[metric]) for trial in self.trials])

    def reached(self, metric: str, threshold: float, steps: Sequence[str] = STEPS) -> np.ndarray:
        """Steps and seconds at each trial's first result as good as the threshold, ``[trials, 2]``; NaN for never."""
        found = np.full((len(self.trials), 2), np.nan)
        for row, trial in zip(found, self.trials, strict=True):
            values = trial.metrics[metric]
            good = values <= threshold if lower_is_better(metric) else values >= threshold
            if good.any():
                row[:] = trial.column(*steps)[good.argmax()], trial.metrics[SECONDS][good.argmax()]
        return found


@dataclasses.dataclass
class Section:
    """The groups of one environment or task, which are compared with each other.

    Attributes:
        subject: The environment or the task.
        metric: What success is measured by.
        groups: In the order in which their first trials were found.
        name_of_labels: What the labels of the groups are, as the head of their column, e.g. ``"layer"``.
    """

    subject: str
    metric: str
    groups: list[Group]
    name_of_labels: str

    @property
    def name_of_metric(self) -> str:
        """The metric as tables and axes call it, e.g. ``"episode return"``."""
        return name_of_metric(self.metric)

    @property
    def steps(self) -> Sequence[str]:
        """The metrics that count steps; iterations stand in for all where a trial has none beside its metric."""
        trials = [trial for group in self.groups for trial in group.trials]
        known = all(np.isfinite(trial.column(*STEPS) + trial.metrics[self.metric]).any() for trial in trials)
        return STEPS if known else (ITERATION,)

    @property
    def unit_of_steps(self) -> str:
        """What steps are."""
        if self.steps != STEPS:
            return "training iterations"
        return "training sequences" if self._supervised else "environment steps"

    @property
    def name_of_energy(self) -> str:
        """The energy as tables and axes call it."""
        return f"energy per {'sequence' if self._supervised else 'environment step'}"

    @property
    def _supervised(self) -> bool:
        return bool(np.isfinite(self.groups[0].trials[0].metrics[STEPS[1]]).any())

    def group(self, name: str) -> Group | None:
        """The group that has this label, layer or experiment; None where there is none.

        Raises:
            UsageError: Several have this layer or experiment.
        """
        found = [group for group in self.groups if name == group.label]
        found = found or [group for group in self.groups if name in (group.layer, group.experiment)]
        if len(found) > 1:
            raise one_of(f"report: --baseline: several trainings on {self.subject}", name, [g.label for g in found])
        return found[0] if found else None


def name_of_metric(metric: str) -> str:
    """A metric as tables and axes call it, e.g. ``"episode return"``."""
    return metric.replace("env_runners/", "").replace("/", " ").replace("_", " ").removesuffix(" mean")


def lower_is_better(metric: str) -> bool:
    """Whether less of this metric is better."""
    return any(word in metric for word in ("loss", "perplexity", "energy"))


def needed_metrics(metric: str | None) -> list[str]:
    """The metrics that a report reads."""
    return [*([metric] if metric else METRICS), *STEPS, SECONDS, *PARAMETERS, *ENERGY]


def make_sections(trials: Sequence[Trial], metric: str | None, notes: list[str]) -> list[Section]:
    """Sorts trials into groups, and groups into sections.

    Args:
        trials: As read.
        metric: What success is measured by, None for the first of ``METRICS`` that a trial of the section has.
        notes: Gets a line on each trial that is left out: it lacks the metric, or another one has its seed.
    """
    names = _names_of_experiments(trials)
    by_subject: dict[str, list[Trial]] = {}
    for trial in trials:
        by_subject.setdefault(trial.bare_subject, []).append(trial)
    sections = []
    for members in by_subject.values():
        known = [m for m in METRICS if metric is None and any(np.isfinite(t.metrics[m]).any() for t in members)]
        measure = metric or (known or METRICS)[0]
        groups: dict[str, Group] = {}
        for trial in members:
            if not np.isfinite(trial.metrics[measure]).any():
                notes.append(f"{trial.path}: its results have no {measure}: skipped")
                continue
            name = names[trial.path.parent]
            key = json.dumps([name, trial.layer, _compared(trial)], sort_keys=True)
            groups.setdefault(key, Group(name, trial.layer, [])).trials.append(trial)
        for group in groups.values():
            group.trials = _one_per_seed(group.trials, notes)
        if groups:
            found = list(groups.values())
            sections.append(Section(members[0].subject, measure, found, _set_labels(found)))
    return sections


def _names_of_experiments(trials: Sequence[Trial]) -> dict[Path, str]:
    """The name of each experiment's directory, behind as many of those above it as tell it from the others."""
    names = {}
    places = {trial.path.parent for trial in trials}
    for place in places:
        length = 1
        while sum(other.parts[-length:] == place.parts[-length:] for other in places) > 1:
            length += 1
        names[place] = "/".join(place.parts[-length:])
    return names


def _one_per_seed(trials: list[Trial], notes: list[str]) -> list[Trial]:
    """Of trainings with the same seed, which are no independent samples, the longest, or the latest of those."""
    by_length = sorted(trials, key=lambda t: (t.metrics[ITERATION][-1], np.nan_to_num(t.metrics[TIMESTAMP][-1])))
    longest = {str(trial.settings.get("seed")): trial for trial in by_length}
    kept = []
    for trial in trials:
        seed = trial.settings.get("seed")
        if seed is None or trial is longest[str(seed)]:
            kept.append(trial)
        else:
            same = longest[str(seed)].path
            notes.append(f"{trial.path}: has the same seed, {seed}, as {same}, and did not go on longer: skipped")
    return kept


def _compared(trial: Trial) -> dict[str, Any]:
    """The settings by their paths, without those that differ between seeds."""
    return {key: value for key, value in _flat(trial.settings) if key not in _NOT_COMPARED}


def _set_labels(groups: list[Group]) -> str:
    """Labels all groups in the same way, and returns what the labels are.

    The layer, where each is of one experiment; else the experiment, where each has one layer; else both. Groups that
    these do not tell apart also have the settings in which they differ.
    """
    pairs = {(group.layer, group.experiment) for group in groups}
    if len(pairs) == len({group.layer for group in groups}):
        name, labels = "layer", [group.layer for group in groups]
    elif len(pairs) == len({group.experiment for group in groups}):
        name, labels = "experiment", [group.experiment for group in groups]
    else:
        name, labels = "layer (experiment)", [f"{group.layer} ({group.experiment})" for group in groups]
    for group, label in zip(groups, labels, strict=True):
        same = [_compared(g.trials[0]) for g, other in zip(groups, labels, strict=True) if other == label]
        own = _compared(group.trials[0])
        differing = [key for key in own if any(other.get(key) != own[key] for other in same)]
        group.label = label + "".join(f", {key.split('/')[-1]} {_short(own[key])}" for key in differing)
    labels = [group.label for group in groups]
    for index, group in enumerate(groups):
        if labels.count(group.label) > 1:
            group.label += f" #{labels[: index + 1].count(group.label)}"
    return name


def _short(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST_SETTING else f"{text[:_LONGEST_SETTING]}..."


def _flat(settings: dict[str, Any], prefix: str = ""):
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}/")
        else:  # an object of Python stands as text, with an address that is another one in each process
            yield f"{prefix}{key}", re.sub(r" at 0x[0-9a-f]+", "", value) if isinstance(value, str) else value
