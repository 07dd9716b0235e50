"""What is printed at the end of a run: how its trials ended, which was best, and what to do next."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rllib_stpn.cli.progress import ShownMetrics, duration
from rllib_stpn.experiments.building import TRAINABLES
from rllib_stpn.experiments.differences import brief
from rllib_stpn.experiments.experiment import Experiment
from rllib_stpn.experiments.ranking import Rank, rank
from rllib_stpn.experiments.results import metric, number
from rllib_stpn.experiments.trial_result import TrialResult, python_to_go_on
from rllib_stpn.report.groups import name_of_metric
from rllib_stpn.report.numbers import interquartile_mean_and_interval

_LONGEST = 30  # characters of a value in the table


def directory_of(experiment: Experiment) -> str:
    """The directory, or URI, that holds an experiment's trials."""
    return f"{experiment.storage_path}/{experiment.name}"


def label(experiment: Experiment, settings: Mapping[str, Any]) -> str:
    """Such as ``"PPO on CartPole-v1"``."""
    learned = experiment.envs_or_tasks(settings)
    return f"{experiment.algorithm} on {' and '.join(str(getattr(each, '__name__', each)) for each in learned)}"


def tell(experiment: Experiment, results: Sequence[TrialResult], shown: ShownMetrics) -> None:
    """Prints how trials ended, where their files are, and the commands that go on from there."""
    best: TrialResult | None
    if experiment.num_trials == 1 and len(results) == 1:
        (best,) = results
        _tell_one(experiment, best, shown)
    else:
        best = _tell_ranking(experiment, results, shown)
    _tell_next(experiment, best)


def _tell_one(experiment: Experiment, result: TrialResult, shown: ShownMetrics) -> None:
    print(f"\n{label(experiment, result.settings or experiment.config)}: {_end(result, shown)}", flush=True)
    print(f"results     {result.path}")
    print(f"checkpoint  {result.checkpoint or 'none'}")
    if result.best_score is not None and result.best_checkpoint != result.checkpoint:
        score = name_of_metric(experiment.checkpoint["checkpoint_score_attribute"])
        print(f"best        {result.best_checkpoint} ({score} {result.best_score:.6g})")


def _end(result: TrialResult, shown: ShownMetrics) -> str:
    """How a trial ended, in a line."""
    if result.error is not None:
        return "failed"
    metrics = result.metrics
    iterations = metrics.get("training_iteration", 0)
    done = [f"{iterations:,} {shown.iterated}{'' if iterations == 1 else 's'}"]
    done.append(f"{metrics.get(shown.counter) or 0:,.0f} {shown.counted}")
    for heading, path, style in shown.final:
        value = number(metrics, path)
        if value is not None:
            done.append(f"{heading} {value:{style}}")
    done.append(duration(metrics.get("time_total_s") or 0))
    return f"{', '.join(done)}; stopped: {result.stopped or 'stopped before its first result'}"


def _tell_ranking(experiment: Experiment, results: Sequence[TrialResult], shown: ShownMetrics) -> TrialResult | None:
    """Prints a table of trials, the best first, and returns the best."""
    ranking = rank(experiment, results)
    goal = ranking.goal
    names = {path: heading for heading, path, *_ in shown.measures}
    name = names.get(goal.metric) or name_of_metric(goal.metric)
    by = f", by {name}, the {'highest' if goal.mode == 'max' else 'lowest'} first"
    trials = "1 trial" if len(results) == 1 else f"{len(results)} trials"
    print(f"\n{label(experiment, experiment.config)}: {trials}{by}")
    for line in table(ranking.ranks, name, shown):
        print(line)
    for result in results:
        if result.error is not None:
            print(f"\n{label(experiment, result.settings or experiment.config)}: failed\nresults     {result.path}")
    best = ranking.best()
    print(f"\nresults     {directory_of(experiment)}")
    if best is not None:
        (own,) = (each for each in ranking.ranks if best in each.trials)
        seed = {"seed": best.settings["seed"]} if len(own.trials) > 1 and "seed" in best.settings else {}
        told = ", ".join(f"{key} {brief(value)}" for key, value in (own.differs | seed).items())
        value = own.values[own.trials.index(best)]
        print(f"best        {f'{told}: ' if told else ''}{name} {value:.6g}")
    print(f"checkpoint  {(best.best_checkpoint if best else None) or 'none'}")
    return best


def table(ranks: Sequence[Rank], name: str, shown: ShownMetrics) -> list[str]:
    """The lines of a table of trials: seeds are folded into interquartile mean and 95 % interval.

    Args:
        ranks: Its rows, the best first.
        name: The heading of the goal's metric.
        shown: Tells what counts.
    """
    folded = any(len(each.trials) > 1 for each in ranks)
    differs = list(ranks[0].differs) if ranks else []
    rows = [["rank", *differs, *(["seeds"] if folded else []), name, shown.counted, "trials" if folded else "trial"]]
    for place, each in enumerate(ranks, 1):
        steps = [float(metric(trial.metrics, shown.counter) or 0) for trial in each.trials]
        failed = sum(trial.error is not None for trial in each.trials)
        rows.append(
            [
                str(place),
                *(_cut(brief(value)) for value in each.differs.values()),
                *([str(each.num_seeds)] if folded else []),
                interquartile_mean_and_interval(each.values) + (f" ({failed} failed)" if failed else ""),
                f"{np.mean(steps):,.0f}",
                ", ".join(map(str, each.numbers)),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = {0, len(rows[0]) - 2}  # rank and steps
    return [
        "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _tell_next(experiment: Experiment, best: TrialResult | None) -> None:
    """Prints commands for what usually comes next."""
    if best is not None and best.checkpoint:
        if experiment.new_stack and "://" not in best.checkpoint:
            episodes = "" if experiment.algorithm in TRAINABLES else " --episodes 20"
            print(f"evaluate    rllib evaluate {shlex.quote(best.best_checkpoint or best.checkpoint)}{episodes}")
        print("continue    " + "\n            ".join(python_to_go_on(experiment, best)))
    directory = shlex.quote(directory_of(experiment))
    if "://" not in directory:
        print(f"report      rllib report {directory} --out report")
    print(f"TensorBoard tensorboard --logdir {directory}", flush=True)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
