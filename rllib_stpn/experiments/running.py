"""Running an experiment with Tune: prepared, fitted to the machines, and run."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from ray import tune
from ray.tune.progress_reporter import TrialProgressCallback

import rllib_stpn
from rllib_stpn import provenance
from rllib_stpn.errors import StorageError, UsageError
from rllib_stpn.experiments import loggers
from rllib_stpn.experiments.building import default_config
from rllib_stpn.experiments.differences import directory_names, names_in
from rllib_stpn.experiments.experiment import Experiment
from rllib_stpn.experiments.failures import Failures, broken_off
from rllib_stpn.experiments.folding import fold
from rllib_stpn.experiments.interruption import Interruption
from rllib_stpn.experiments.recovery import TrialLog, recover
from rllib_stpn.experiments.resources import Cluster, TrialResources, refuse_what_never_comes
from rllib_stpn.experiments.result_files import files_in_place
from rllib_stpn.experiments.resuming import Bookkeeping, as_begun, can_go_on, remember
from rllib_stpn.experiments.schedulers import make_scheduler, tune_space
from rllib_stpn.experiments.search_algorithms import make_search_algorithm
from rllib_stpn.experiments.stopping import StoppingScheduler
from rllib_stpn.experiments.trial import trial_class
from rllib_stpn.experiments.trial_result import TrialResult, trial_result

_E = TypeVar("_E", bound=Experiment)
_TUNES_VARIABLES = {
    "RAY_AIR_NEW_OUTPUT": "0",  # Tune's tables: a caller shows progress by callbacks of its own.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # Relative paths in env_config start where the user stands.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # Schedulers wait for the first episode that ends.
}


def prepare(experiment: _E) -> tuple[_E, list[str]]:
    """Creates the storage directory, and restores the original settings of an experiment that is resumed.

    Args:
        experiment: A checked one, see :func:`rllib_stpn.experiments.validation.check`.

    Returns:
        The experiment, and what the user should know.

    Raises:
        UsageError: The scheduler does not take its arguments, the search algorithm cannot be used, the storage path
            cannot be written to, or the experiment was begun with another algorithm.
    """
    make_scheduler(experiment)
    make_search_algorithm(experiment)
    loggers.check(experiment)
    experiment = dataclasses.replace(experiment, storage_path=_storage(experiment.storage_path))
    if "://" in experiment.storage_path or not can_go_on(experiment):
        return experiment, []
    if not experiment.resume:
        there = f"{experiment.storage_path}/{experiment.name}"
        note = f"{there} has a run already: it stays there, but --resume will know only this new one (or name it: -n)"
        return experiment, [note]
    experiment, changed = as_begun(experiment)
    notes = [f"--resume: goes on as begun, not with what is now given for {', '.join(changed)}"] if changed else []
    try:
        return experiment, notes + recover(experiment)
    except OSError as error:
        raise UsageError(
            f"--resume: {broken_off(error, f'{experiment.storage_path}/{experiment.name}') or error}"
        ) from error


def fit(
    experiment: _E, cluster: Cluster, strict: bool = False, may_grow: bool = False, whole: bool = False
) -> tuple[_E, list[str]]:
    """Fits an experiment's settings to the machines.

    Args:
        experiment: A prepared one. One that goes on keeps the settings of its first run, which have to fit.
        cluster: The machines.
        strict: Refuse what does not fit, in place of changing it.
        may_grow: Whether machines may join later, so that a trial may wait for what is missing now.
        whole: Whether no other experiment shares the machines; a single trial then uses all CPUs.

    Returns:
        The experiment with ``folded`` settings, and a note for each change.

    Raises:
        UsageError: It does not fit.
    """
    defaults = default_config(experiment.algorithm, experiment.base)
    if experiment.folded is not None:
        if beyond := TrialResources(experiment.folded, defaults).too_much(cluster):
            raise UsageError(f"--resume: {experiment.name} was begun with {beyond[0]} a trial, {beyond[1]}")
        return experiment, []
    try:
        folded, notes = fold(
            experiment.config, defaults, cluster, strict=strict, alone=whole and experiment.num_trials == 1
        )
    except UsageError as error:
        raise UsageError(f"{experiment.where}: {error}") from None
    experiment = dataclasses.replace(experiment, folded=folded)
    if not may_grow:
        refuse_what_never_comes(experiment, cluster)
    return experiment, notes


def make_tuner(
    experiment: Experiment, interruption: Interruption | None = None, callbacks: Sequence[tune.Callback] = ()
) -> tune.Tuner:
    """The Tuner of an experiment that is fitted to the machines.

    Args:
        experiment: The experiment; with ``resume`` it goes on, where there is something to go on with.
        interruption: Ends every trial after its current iteration, with a checkpoint.
        callbacks: Tune's callbacks, such as one that shows progress.
    """
    scheduler = _scheduler(experiment, interruption)
    return _tuner(experiment, scheduler, Bookkeeping(scheduler), callbacks)


def _scheduler(
    experiment: Experiment, interruption: Interruption | None, log: TrialLog | None = None
) -> StoppingScheduler:
    given_up = log.all_given_up() if log is not None else ()
    return StoppingScheduler(make_scheduler(experiment), experiment.stop, interruption or Interruption(), given_up)


def _tuner(
    experiment: Experiment,
    scheduler: StoppingScheduler,
    bookkeeping: Bookkeeping,
    callbacks: Sequence[tune.Callback],
) -> tune.Tuner:
    for name, value in _TUNES_VARIABLES.items():
        os.environ.setdefault(name, value)
    rllib_stpn.register()
    differing = names_in(experiment)
    return tune.Tuner(
        trial_class(experiment.algorithm, experiment.base, experiment.checkpoint.get("checkpoint_score_attribute")),
        param_space=tune_space(experiment.folded),
        tune_config=tune.TuneConfig(
            num_samples=experiment.num_samples,
            scheduler=scheduler,
            search_alg=make_search_algorithm(experiment),
            trial_dirname_creator=directory_names(differing),
        ),
        run_config=tune.RunConfig(
            name=experiment.name,
            storage_path=experiment.storage_path,
            checkpoint_config=tune.CheckpointConfig(**{"checkpoint_at_end": True, **experiment.checkpoint}),
            failure_config=tune.FailureConfig(max_failures=experiment.max_failures),
            callbacks=[
                bookkeeping,
                *callbacks,
                _NoProgress(),
                loggers.TensorBoard(differing),
                *loggers.services(experiment),
                *([] if remote(experiment) else files_in_place()),
            ],
            verbose=0,
        ),
        _tuner_kwargs=_beginning(experiment),
    )


def run(
    experiment: Experiment, interruption: Interruption | None = None, callbacks: Sequence[tune.Callback] = ()
) -> list[TrialResult]:
    """Runs an experiment that is fitted to the machines, and writes what :mod:`resuming` needs into its directory.

    Args:
        experiment: The experiment.
        interruption: Ends every trial after its current iteration, with a checkpoint.
        callbacks: Tune's callbacks, such as one that shows progress.

    Returns:
        How each trial ended; a failed one raises nothing.

    Raises:
        StorageError: The disk is full, or cannot be written to.
    """
    directory = Path(experiment.storage_path) / experiment.name
    failures = Failures()
    try:
        log = None
        if not remote(experiment):
            provenance.record(directory)
            remember(experiment)
            log = TrialLog(directory)
        scheduler = _scheduler(experiment, interruption, log)
        bookkeeping = Bookkeeping(scheduler, log, goes_on=experiment.resume and can_go_on(experiment))
        results = _tuner(experiment, scheduler, bookkeeping, [*callbacks, failures]).fit()
    except UsageError:
        raise
    except Exception as error:
        if told := broken_off(error, str(directory)):
            raise StorageError(told) from error
        raise
    score = experiment.checkpoint.get("checkpoint_score_attribute")
    return [trial_result(result, scheduler, failures, score) for result in results]


class _NoProgress(TrialProgressCallback):
    """In place of Tune's own callback, which prints a line for each trial that ends without a result."""

    def on_trial_complete(self, *args: Any, **info: Any) -> None:
        """Prints nothing."""


def remote(experiment: Experiment) -> bool:
    """Whether an experiment is not written to a directory of this machine."""
    return "://" in experiment.storage_path


def _storage(path: str) -> str:
    """The storage path, absolute; a local one is made, and tried."""
    if "://" in path:
        return path
    directory = Path(path).expanduser().absolute()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"storage path {directory}: cannot be made: {error.strerror}") from error
    if not os.access(directory, os.W_OK):
        raise UsageError(f"storage path {directory}: cannot be written to")
    return str(directory)


def _beginning(experiment: Experiment) -> dict[str, Any]:
    """Where the trials begin, as arguments of ``ray.tune.run``."""
    if experiment.resume and can_go_on(experiment):
        every = tune.ResumeConfig.ResumeType.RESUME  # the scheduler leaves out those that are finished
        return {"resume_config": tune.ResumeConfig(finished=every, unfinished=every, errored=every)}
    return {} if experiment.restore is None else {"restore": experiment.restore}
