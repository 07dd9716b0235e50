"""How a trial ended, for the caller of a run."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rllib_stpn.causes import Cause, root_error
from rllib_stpn.experiments.building import TRAINABLES, default_config
from rllib_stpn.experiments.experiment import Experiment
from rllib_stpn.experiments.failures import Failures, of_storage
from rllib_stpn.experiments.old import names as old_names
from rllib_stpn.experiments.results import number
from rllib_stpn.experiments.stopping import StoppingScheduler
from rllib_stpn.ray_names import how_to_register


@dataclasses.dataclass(frozen=True, repr=False)
class TrialResult:
    """How a trial ended.

    Attributes:
        settings: Its settings.
        metrics: Its last result, nested as RLlib makes it; empty where there was none.
        path: Its directory, or URI.
        checkpoint: Its last checkpoint's directory, or URI; None without one.
        best_checkpoint: The one with the best ``checkpoint_score_attribute``; the last one where there is no score.
        best_score: That score; None where there is none.
        stopped: Why it ended, such as ``"training_iteration 5 reached 5"`` or ``"SIGINT"``; None where it failed.
        error: The tracebacks of what it failed with, None where it did not fail.
    """

    settings: Mapping[str, Any]
    metrics: Mapping[str, Any]
    path: str
    checkpoint: str | None
    stopped: str | None
    error: str | None
    best_checkpoint: str | None = None
    best_score: float | None = None

    def __repr__(self) -> str:
        """Such as ``TrialResult(~/ray_results/maze/PPO_0, stopped: training_iteration 5 reached 5)``."""
        ended = f"failed: {self.cause}" if self.error is not None else f"stopped: {self.stopped}"
        return f"TrialResult({self.path}, {ended})"

    @property
    def cause(self) -> Cause | None:
        """What it failed with, in a line: ``str(cause)``; None where it did not fail."""
        if self.error is None:
            return None
        cause = root_error(self.error)
        told = of_storage(cause, self.path.rpartition("/")[0])
        return Cause("StorageError", told) if told else cause


def trial_result(
    result: Any, scheduler: StoppingScheduler, failures: Failures, score: str | None = None
) -> TrialResult:
    """How a trial ended, from Tune's result, its scheduler's reasons, the errors that were kept and what scores."""
    metrics = result.metrics or {}
    trial_id = metrics.get("trial_id", "")
    stopped, error = scheduler.reasons.get(trial_id), failures.text(trial_id)
    if stopped is None and error is None and not scheduler.interrupted:
        error = "unknown: it ended before it met a stop criterion, and Tune does not say why"
    last = result.checkpoint.path if result.checkpoint else None
    best, best_score = _best(result, score) if score is not None else (None, None)
    return TrialResult(
        settings=result.config or scheduler.settings.get(trial_id, {}),
        metrics=metrics,
        path=result.path,
        checkpoint=last,
        best_checkpoint=best or last,
        best_score=best_score,
        stopped=stopped if error is None else None,
        error=error,
    )


def python_to_go_on(experiment: Experiment, result: TrialResult) -> list[str]:
    """The lines of Python that load a trial's last checkpoint in another process, and train on."""
    if experiment.algorithm in TRAINABLES:
        register, module, name = None, "rllib_stpn.supervised", experiment.algorithm
    else:
        module, name = "ray.rllib.algorithms.algorithm", "Algorithm"
        on_new_stack = default_config(experiment.algorithm, experiment.base).enable_rl_module_and_learner
        on_new_stack = on_new_stack and old_names.on_new_stack(experiment.config)
        (env, *_) = experiment.envs_or_tasks(result.settings)
        register = how_to_register(env) or (None if on_new_stack else "rllib_stpn.register()")
    return [
        *([f"import rllib_stpn; {register}"] if register else []),
        f"from {module} import {name}",
        f'algorithm = {name}.from_checkpoint("{result.checkpoint}")',
        "algorithm.train()",
    ]


def _best(result: Any, score: str) -> tuple[str | None, float | None]:
    """The checkpoint with the best score, which Tune has last, and that score."""
    for checkpoint, metrics in reversed(result.best_checkpoints or []):
        value = number(metrics, score)
        if value is not None:
            return checkpoint.path, value
    return None, None
