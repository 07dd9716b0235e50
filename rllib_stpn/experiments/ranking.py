"""The trials of an experiment, ranked: what differs between them, and how good each became."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rllib_stpn.experiments.differences import SEED, names_of_differences, values_of
from rllib_stpn.experiments.experiment import Experiment
from rllib_stpn.experiments.goal import Goal, goal_of
from rllib_stpn.experiments.results import metric, number
from rllib_stpn.experiments.trial_result import TrialResult
from rllib_stpn.report.statistics import interquartile_mean


@dataclasses.dataclass(frozen=True)
class Rank:
    """Trials that differ only in their seed.

    Attributes:
        differs: What is different from other ranks: readable name -> value.
        trials: They themselves.
        numbers: Their numbers among all trials, from 1.
        values: The goal's metric in the last result of each, or the score of its best checkpoint where that result has
            none, such as between two evaluations; NaN without either: ``[trials]``.
    """

    differs: dict[str, Any]
    trials: list[TrialResult]
    numbers: list[int]
    values: np.ndarray

    @property
    def num_seeds(self) -> int:
        """How many seeds there are; a trial without one has its own."""
        seeds = [trial.settings.get("seed") for trial in self.trials]
        return seeds.count(None) + len({repr(seed) for seed in seeds if seed is not None})

    def score(self) -> float:
        """The interquartile mean over the seeds that have a value; NaN where none has."""
        known = self.values[np.isfinite(self.values)]
        return float(interquartile_mean(known)) if len(known) else math.nan


@dataclasses.dataclass(frozen=True)
class Ranking:
    """The ranks of an experiment, the best first; those without a value last.

    Attributes:
        goal: What they are compared by.
        ranks: Trials with the same settings but for the seed.
    """

    goal: Goal
    ranks: list[Rank]

    def best(self) -> TrialResult | None:
        """The best trial of the first rank that has a value and a checkpoint; None where there is none."""
        sign = 1 if self.goal.mode == "max" else -1
        for rank in self.ranks:
            saved = [
                (sign * value, trial)
                for value, trial in zip(rank.values, rank.trials, strict=True)
                if np.isfinite(value) and trial.checkpoint
            ]
            if saved:
                return max(saved, key=lambda pair: pair[0])[1]
        return None


def rank(experiment: Experiment, results: Sequence[TrialResult]) -> Ranking:
    """Ranks trials by the metric that scores or stops them (:func:`rllib_stpn.experiments.goal.goal_of`).

    Args:
        experiment: Whose trials.
        results: How they ended, in Tune's order.
    """
    goal = goal_of(experiment)
    scored = goal.metric == experiment.checkpoint.get("checkpoint_score_attribute")
    names = names_of_differences([result.settings for result in results])
    differing = [values_of({path: name for path, name in names.items() if path != SEED}, r.settings) for r in results]
    groups: dict[str, list[int]] = {}
    for index, own in enumerate(differing):
        groups.setdefault(repr(own), []).append(index)
    ranks = []
    for members in groups.values():
        trials = [results[index] for index in members]
        values = np.array([_value(trial, goal.metric, scored) for trial in trials])
        ranks.append(Rank(differing[members[0]], trials, [index + 1 for index in members], values))
    sign = -1 if goal.mode == "max" else 1

    def place(each: Rank) -> tuple[float, bool]:
        """Those without a score come last, and among them those that failed."""
        score = math.inf if math.isnan(each.score()) else sign * each.score()
        return score, all(trial.error is not None for trial in each.trials)

    ranks.sort(key=place)
    return Ranking(goal, ranks)


def _value(trial: TrialResult, path: str, scored: bool) -> float:
    value = number(trial.metrics, path)
    if scored and metric(trial.metrics, path) is None:
        value = trial.best_score
    return math.nan if value is None else value
