"""What decides between the trials of an experiment: which of them go on, and with which settings."""

import inspect
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, PopulationBasedTraining, TrialScheduler
from ray.tune.schedulers.pb2 import PB2, has_sklearn

from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import searches
from rllib_stpn.experiments.loading import MUTATIONS, Experiment, as_number, subject, unknown_key
from rllib_stpn.experiments.resuming import Finished, unless

_CLASSES: dict[str, type[TrialScheduler]] = {
    "fifo": FIFOScheduler,
    "asha": AsyncHyperBandScheduler,
    "pbt": PopulationBasedTraining,
    "pb2": PB2,
}


def make_scheduler(experiment: Experiment, finished: Finished | None = None) -> TrialScheduler:
    """The experiment's scheduler, for those of its trials that are not finished.

    It goes by the mean return of episodes, or by validation accuracy (perplexity where a task has that). ASHA's
    ``max_t`` is the experiment's own last iteration. ``experiment.scheduler_config`` has arguments of Tune's class.

    Args:
        experiment: Whose scheduler.
        finished: Knows the finished trials; None, to try the arguments, knows none.

    Raises:
        UsageError: An argument that it does not have or does not take.
    """
    if experiment.scheduler == "pb2" and not has_sklearn:
        raise UsageError(f"{experiment.where}: scheduler: pb2 needs scikit-learn: pip install scikit-learn")
    kind = _CLASSES[experiment.scheduler]
    where = f"{experiment.where}: scheduler_config: {experiment.scheduler}"
    allowed = [name for name in inspect.signature(kind.__init__).parameters if name != "self"]
    if experiment.scheduler == "fifo" and experiment.scheduler_config:
        raise UsageError(f"{where}: it has no arguments, got {', '.join(experiment.scheduler_config)}")
    for key in experiment.scheduler_config:
        if key not in allowed:
            raise unknown_key(where, key, allowed, list_all=True)
    if finished is not None:
        kind = unless(finished, kind)
    if experiment.scheduler == "fifo":
        return kind()
    metric, mode = _goal(experiment)
    given = dict(experiment.scheduler_config)
    for key in MUTATIONS:
        if key in given:
            given[key] = _mutations(_numbers(given[key]))
    try:
        arguments = {"metric": metric, "mode": mode, **tune_space(given)}
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: {error}") from error
    if experiment.scheduler == "asha":
        # Tune's own default ends every trial at iteration 100.
        last = int(experiment.stop.get("training_iteration", 1_000_000))
        arguments.setdefault("max_t", max(last, as_number(arguments.get("grace_period")) or 1))
    else:
        arguments.setdefault("require_attrs", False)  # Without an episode that ended, there is no return.
    try:
        return kind(**arguments)
    except Exception as error:  # They check by assertions, ValueError, TypeError and TuneError.
        raise UsageError(f"{where}: {' '.join(str(error).split()) or type(error).__name__}") from error


def _mutations(value: Any) -> Any:
    """With lists in place of ``choice``, to whose neighbours Tune moves; it would multiply what a choice has drawn."""
    if searches.kind(value) == "choice":
        return value["choice"]
    return {key: _mutations(below) for key, below in value.items()} if isinstance(value, dict) else value


def _numbers(value: Any) -> Any:
    """With numbers in place of their texts, as YAML reads 1e-4."""
    if isinstance(value, dict):
        return {key: _numbers(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_numbers(below) for below in value]
    number = as_number(value)
    return value if number is None or not isinstance(value, str) else number


def _goal(experiment: Experiment) -> tuple[str, str]:
    if subject(experiment.run) == "env":
        return "env_runners/episode_return_mean", "max"
    from rllib_stpn.supervised import TASKS

    metric = TASKS[searches.choices(experiment.config["task"])[0]].metric
    return f"validation_{metric}", "min" if metric == "perplexity" else "max"


def tune_space(value: Any) -> Any:
    """Settings for Tune: each search as Tune's own object."""
    from ray import tune

    kind = searches.kind(value)
    if kind == searches.GRID:
        return tune.grid_search(value[kind])
    if kind is not None:
        arguments = [value[kind]] if kind == "choice" else value[kind]
        return getattr(tune, kind)(*arguments)
    if isinstance(value, dict):
        return {key: tune_space(below) for key, below in value.items()}
    if isinstance(value, list):
        return [tune_space(below) for below in value]
    return value
