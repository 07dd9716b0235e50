"""What the trials of an experiment are compared by."""

from typing import NamedTuple

from rllib_stpn.experiments import searches
from rllib_stpn.experiments.experiment import Experiment, env_or_task
from rllib_stpn.experiments.keys import TOP_METRICS, TOP_METRICS_OLD_STACK
from rllib_stpn.report.groups import lower_is_better


class Goal(NamedTuple):
    """A metric, and whether more of it is better.

    Attributes:
        metric: Its path in a result, such as ``env_runners/episode_return_mean``.
        mode: ``"max"`` or ``"min"``.
    """

    metric: str
    mode: str


def default_goal(experiment: Experiment) -> Goal:
    """The mean return of episodes; in supervised training validation accuracy, or perplexity where a task has that."""
    if env_or_task(experiment.algorithm) == "env":
        return Goal("env_runners/episode_return_mean", "max")
    from rllib_stpn.supervised import TASKS

    metric = TASKS[searches.choices(experiment.config["task"])[0]].metric
    return Goal(f"validation_{metric}", "min" if metric == "perplexity" else "max")


def goal_of_scheduler(experiment: Experiment) -> Goal:
    """The metric and mode of the experiment's ``scheduler_config``; without a mode there, that of the metric."""
    default, arguments = default_goal(experiment), experiment.scheduler_config
    metric = arguments.get("metric")
    mode = default.mode if metric in (None, default.metric) else "min" if lower_is_better(metric) else "max"
    return Goal(metric or default.metric, arguments.get("mode") or mode)


def goal_of(experiment: Experiment) -> Goal:
    """The metric that the experiment's scheduler, its checkpoints' score or its stop criteria name; else the default.

    A stop criterion that counts, such as ``training_iteration``, is none. Criteria are met from below.
    """
    checkpoint = experiment.checkpoint
    if experiment.scheduler_config.get("metric"):
        return goal_of_scheduler(experiment)
    if score := checkpoint.get("checkpoint_score_attribute"):
        return Goal(score, checkpoint.get("checkpoint_score_order") or "max")
    measures = [metric for metric in experiment.stop if not _counts(metric)]
    return Goal(measures[0], "max") if len(measures) == 1 else default_goal(experiment)


def _counts(metric: str) -> bool:
    """Whether a metric grows with every iteration, whatever is learned."""
    known = (*TOP_METRICS, *TOP_METRICS_OLD_STACK)
    return metric in known or metric.split("/")[-1].startswith(("num_", "time_"))
