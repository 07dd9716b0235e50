"""What draws the values of searches: Tune's random draws, or Optuna, which learns from the trials before."""

import importlib.util
import math
from typing import Any

from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import searches
from rllib_stpn.experiments.experiment import Experiment
from rllib_stpn.experiments.goal import goal_of

_TOGETHER = ("fifo", "asha")


def make_search_algorithm(experiment: Experiment) -> Any:
    """Tune's searcher for an experiment; None for random draws and grids.

    Optuna draws with its default sampler (TPE), which begins with the ``seed`` of the settings. It goes by the metric
    that trials are ranked by (:func:`~rllib_stpn.experiments.goal.goal_of`).

    Args:
        experiment: Whose searches.

    Raises:
        UsageError: Optuna is not installed, or does not go together with the rest.
    """
    if experiment.search_alg is None:
        return None
    where = f"{experiment.where}: search_alg: {experiment.search_alg}"
    if importlib.util.find_spec("optuna") is None:
        raise UsageError(f"{where} needs Optuna: pip install optuna")
    if experiment.scheduler not in _TOGETHER:
        raise UsageError(f"{where}: got the scheduler {experiment.scheduler!r}, allowed are {', '.join(_TOGETHER)}")
    kinds = {searches.kind(search) for _, search in searches.find(experiment.config)}
    if searches.GRID in kinds:
        path = next(path for path, search in searches.find(experiment.config) if searches.kind(search) == searches.GRID)
        raise UsageError(f"{where}: got grid_search for {'.'.join(map(str, path))}, allowed is choice in its place")
    if not kinds:
        raise UsageError(f"{where}: got no search in config, allowed are choice, {', '.join(searches.RANGES)}")
    goal = goal_of(experiment)
    seed = experiment.config.get("seed")
    return _optuna()(metric=goal.metric, mode=goal.mode, seed=seed if isinstance(seed, int) else None)


def _optuna() -> type:
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    class Optuna(OptunaSearch):
        """Tune's, which fails where a result has no metric, such as before the first episode ends."""

        def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
            """Reports a result that has the metric."""
            if math.isfinite(result.get(self.metric, math.nan)):
                super().on_trial_result(trial_id, result)

    return Optuna
