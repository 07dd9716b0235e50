"""Where results go beside Tune's files: TensorBoard, and the services that a file or ``--track`` names."""

import importlib
import importlib.util
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from ray.tune import Callback
from ray.tune.logger import TBXLoggerCallback
from ray.tune.result import TRAINING_ITERATION
from ray.tune.utils import flatten_dict

from rllib_stpn.errors import UsageError, in_one_line
from rllib_stpn.experiments.differences import Path, values_of
from rllib_stpn.experiments.experiment import Experiment

_STEPS = ("num_env_steps_sampled_lifetime", "num_sequences_trained_lifetime")
_POINTS = 1000  # TensorBoard shows so many of a curve.
_PLAIN = (bool, int, float, str)
# What the names of metrics contain that come first in TensorBoard's table of hparams; Tune begins with `done`.
_COMPARED = (
    "episode_return_mean",
    "accuracy",
    "perplexity",
    "energy",
    "episode_len_mean",
    *_STEPS,
    "time_total_s",
)


class _Service(NamedTuple):
    """A service: the module it needs, what pip calls that, and Tune's callback with the names of its own settings.

    Without the folder's setting, wandb and aim would write into Ray's temporary files.
    """

    module: str
    package: str
    home: str
    callback: str
    name_of_experiment: str
    folder: str | None = None


SERVICES = {
    "wandb": _Service("wandb", "wandb", "ray.air.integrations.wandb", "WandbLoggerCallback", "project", "dir"),
    "mlflow": _Service("mlflow", "mlflow", "ray.air.integrations.mlflow", "MLflowLoggerCallback", "experiment_name"),
    "aim": _Service("aim", "aim", "ray.tune.logger.aim", "AimLoggerCallback", "experiment_name", "repo"),
    "comet": _Service("comet_ml", "comet-ml", "ray.air.integrations.comet", "CometLoggerCallback", "project_name"),
}


class _BySteps:
    """Goes before a logger of Tune's, which then counts environment steps (or sequences), and not iterations."""

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        """Logs a result."""
        steps = next((result[name] for name in _STEPS if result.get(name)), None)
        given = result if steps is None else {**result, "timesteps_total": int(steps)}
        super().log_trial_result(iteration, trial, given)  # type: ignore[misc]


class _OfService(_BySteps):
    """Goes before a service's callback: what the service does not take is told in a line."""

    where: str

    def log_trial_start(self, trial: Any) -> None:
        """Begins a trial's log.

        Raises:
            UsageError: The service does not take it, as where its key is missing.
        """
        try:
            super().log_trial_start(trial)  # type: ignore[misc]
        except Exception as error:  # each has errors of its own
            raise UsageError(f"{self.where}: {in_one_line(str(error))}") from error


class TensorBoard(_BySteps, TBXLoggerCallback):
    """Tune's logger for TensorBoard: over environment steps, and with settings as hparams for single runs, too.

    Of the first 1,000 iterations it writes each, of the next 1,000 every second one, then every third, and so on: the
    file of a long run stays small, and TensorBoard shows 1,000 points of a curve in any case. The last result is
    written, and each with an evaluation.

    Args:
        differing: Path and name of the settings that differ between trials; for a single run all its plain ones are
            hparams.
    """

    def __init__(self, differing: Mapping[Path, str]) -> None:
        super().__init__()
        self._differing = dict(differing)
        self._left_out: dict[Any, tuple[int, dict[str, Any]]] = {}

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        """Logs a result, or leaves it out."""
        count = result[TRAINING_ITERATION]
        if count % (1 + count // _POINTS) and "evaluation" not in result:
            self._left_out[trial] = iteration, result
        else:
            self._left_out.pop(trial, None)
            super().log_trial_result(iteration, trial, result)

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        """Writes the last result and the hparams, and closes the file."""
        if trial in self._left_out:
            iteration, last = self._left_out.pop(trial)
            super().log_trial_result(iteration, trial, last)
        settings = values_of(self._differing, trial.config) or flatten_dict(trial.config, delimiter=".")
        plain = {name: _finite(value) for name, value in settings.items() if isinstance(value, _PLAIN)}
        super().log_trial_end(_WithParameters(trial, plain), failed)  # type: ignore[arg-type]

    def _try_log_hparams(self, trial: Any, result: dict[str, Any]) -> None:
        super()._try_log_hparams(trial, dict(sorted(result.items(), key=lambda metric: _place(metric[0]))))


def _place(metric: str) -> int:
    """Where a metric stands in the table: lower comes first."""
    return next((place for place, name in enumerate(_COMPARED) if name in metric), len(_COMPARED))


def _finite(value: Any) -> Any:
    """The setting, as text if it is infinite: TensorBoard would warn of a tensor."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


class _WithParameters:
    """A trial as Tune's logger sees it, with other parameters."""

    def __init__(self, trial: Any, parameters: dict[str, Any]) -> None:
        self._trial = trial
        self.evaluated_params = parameters

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trial, name)

    def __eq__(self, other: object) -> bool:
        return other is self or other is self._trial

    def __hash__(self) -> int:
        return hash(self._trial)


def check(experiment: Experiment) -> None:
    """Makes sure that the services which an experiment names are installed.

    Raises:
        UsageError: One is not; the message has the command that installs it.
    """
    for name in experiment.track:
        service = SERVICES[name]
        if importlib.util.find_spec(service.module) is None:
            raise UsageError(f"{experiment.where}: track: {name} needs its package: pip install {service.package}")


def services(experiment: Experiment) -> list[Callback]:
    """Tune's callbacks for the services that an experiment names.

    They log under the experiment's name, and what they write on this machine goes into its directory, unless told
    otherwise.

    Raises:
        UsageError: One is not installed, or does not take its options.
    """
    check(experiment)
    made = []
    for name, options in experiment.track.items():
        service = SERVICES[name]
        kind = getattr(importlib.import_module(service.home), service.callback)
        usual = {service.name_of_experiment: experiment.name}
        if service.folder is not None and "://" not in experiment.storage_path:
            usual[service.folder] = f"{experiment.storage_path}/{experiment.name}"
        where = f"{experiment.where}: track: {name}"
        try:
            made.append(type(service.callback, (_OfService, kind), {"where": where})(**usual | options))
        except Exception as error:
            raise UsageError(f"{where}: {in_one_line(str(error))}") from error
    return made
