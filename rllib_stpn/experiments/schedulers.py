"""Tune's schedulers, which decide which trials of an experiment go on, and with which settings."""

import inspect
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, PopulationBasedTraining, TrialScheduler
from ray.tune.schedulers.pb2 import PB2, has_sklearn

from rllib_stpn import checks
from rllib_stpn.errors import UsageError, unknown
from rllib_stpn.experiments import searches
from rllib_stpn.experiments.experiment import Experiment
from rllib_stpn.experiments.goal import goal_of_scheduler
from rllib_stpn.experiments.keys import MUTATIONS

_CLASSES: dict[str, type[TrialScheduler]] = {
    "fifo": FIFOScheduler,
    "asha": AsyncHyperBandScheduler,
    "pbt": PopulationBasedTraining,
    "pb2": PB2,
}


_NEVER = 10**15  # of whatever time is counted in


def make_scheduler(experiment: Experiment) -> TrialScheduler:
    """The experiment's scheduler.

    It goes by the mean return of episodes, or by validation accuracy (perplexity where a task has that). ASHA's
    ``max_t`` is where the experiment's own ``stop`` ends a trial, in the unit of ``time_attr``.
    ``experiment.scheduler_config`` has arguments of Tune's class.

    Args:
        experiment: Whose scheduler.

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
            raise unknown(where, "key", key, allowed)
    if experiment.scheduler == "fifo":
        return kind()
    arguments = {key: _numbers(value) for key, value in experiment.scheduler_config.items()}
    arguments |= goal_of_scheduler(experiment)._asdict()
    for key in MUTATIONS:
        if key in arguments:
            arguments[key] = _mutations(arguments[key])
    try:
        arguments = tune_space(arguments)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: {error}") from error
    if experiment.scheduler == "asha":
        # Tune's own default ends every trial at 100.
        last = int(experiment.stop.get(arguments.get("time_attr", "training_iteration"), _NEVER))
        arguments.setdefault("max_t", max(last, checks.as_number(arguments.get("grace_period")) or 1))
    else:
        arguments.setdefault("require_attrs", False)  # Without an episode that ended, there is no return.
    try:
        return kind(**arguments)
    except Exception as error:  # They check by assertions, ValueError, TypeError and TuneError.
        raise UsageError(f"{where}: {' '.join(str(error).split()) or type(error).__name__}") from error


def _mutations(value: Any) -> Any:
    """Mutations with a list in place of each ``choice``.

    Tune moves to a neighbour in a list, and multiplies what it has drawn of a choice.
    """
    if searches.kind(value) == "choice":
        return value["choice"]
    return {key: _mutations(below) for key, below in value.items()} if isinstance(value, dict) else value


def _numbers(value: Any) -> Any:
    """Arguments with numbers in place of texts such as ``"1e-4"``, which YAML does not read as numbers."""
    if isinstance(value, dict):
        return {key: _numbers(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_numbers(below) for below in value]
    number = checks.as_number(value)
    return value if number is None or not isinstance(value, str) else number


def tune_space(value: Any) -> Any:
    """Settings for Tune, with each search as Tune's own object."""
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
