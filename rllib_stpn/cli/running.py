"""Running experiments from the command line: what is printed, signals and exit codes."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import ray

from rllib_stpn.cli import outcome
from rllib_stpn.cli.progress import REINFORCEMENT, Progress, ShownMetrics, supervised
from rllib_stpn.cli.ray_session import Machine, ray_running
from rllib_stpn.cli.signals import Signals
from rllib_stpn.cli.terminal import tell, tell_where_kernels_are
from rllib_stpn.cli.waiting import Waiting
from rllib_stpn.errors import StorageError, UsageError
from rllib_stpn.experiments import running
from rllib_stpn.experiments.building import TRAINABLES, default_config
from rllib_stpn.experiments.differences import names_in
from rllib_stpn.experiments.experiment import Experiment
from rllib_stpn.experiments.interruption import Interruption
from rllib_stpn.experiments.resources import Cluster
from rllib_stpn.experiments.resuming import can_go_on
from rllib_stpn.experiments.trial_result import TrialResult


def run(experiments: Sequence[Experiment], machine: Machine, signals: Signals, strict_resources: bool = False) -> int:
    """Runs experiments one after the other.

    Args:
        experiments: Checked ones, see :func:`rllib_stpn.experiments.validation.check`.
        machine: Where to run them.
        signals: Those that end it.
        strict_resources: Refuse what does not fit in place of folding it.

    Returns:
        The exit code, see :func:`rllib_stpn.cli.main.main`.
    """
    experiments = [_prepared(experiment) for experiment in experiments]
    if machine.address is None:  # What is wrong is told before Ray starts.
        this = Cluster.of_this_machine(machine.cpus_before_start())
        runs = ray.is_initialized()  # and has what it has
        experiments = [_fitted(each, this, strict_resources, may_grow=runs, whole=True) for each in experiments]
    tell_where_kernels_are()
    code = 0
    with ray_running(machine) as cluster, signals.ending_orderly():
        signals.keep_listening()
        for experiment in experiments:
            if machine.address is not None:
                experiment = _fitted(experiment, cluster, strict_resources, may_grow=True, whole=False)
            code = max(code, _run_one(experiment, signals, machine.verbosity))
            if signals.signal is not None:
                return signals.exit_code
    return code


def _prepared(experiment: Experiment) -> Experiment:
    experiment, notes = running.prepare(experiment)
    tell(notes)
    return experiment


def _fitted(experiment: Experiment, cluster: Cluster, strict: bool, may_grow: bool, whole: bool) -> Experiment:
    experiment, notes = running.fit(experiment, cluster, strict=strict, may_grow=may_grow, whole=whole)
    tell(notes, f"folded: {experiment.name}")
    return experiment


def _run_one(experiment: Experiment, interruption: Interruption, verbosity: int) -> int:
    print(f"{outcome.label(experiment, experiment.config)}: results in {outcome.directory_of(experiment)}", flush=True)
    if not experiment.stop:
        tell(["no stop criterion: it runs until interrupted (Ctrl-C)"])
    if experiment.resume and not can_go_on(experiment):
        tell(["--resume: nothing there to go on with: it starts"])
    shown = _shown_metrics(experiment)
    try:
        defaults = default_config(experiment.algorithm, experiment.base)
        differing = names_in(experiment)
        progress = Progress(experiment.num_trials, experiment.stop, shown=shown, differing=differing, defaults=defaults)
        results = running.run(experiment, interruption, callbacks=[Waiting(), progress])
    except StorageError as error:
        print(f"rllib: error: {error}; {_how_to_go_on(experiment)}", file=sys.stderr)
        return 1
    outcome.tell(experiment, results, shown)
    # last, where users look
    code = max((_tell_failure(experiment, result, verbosity) for result in results if result.error), default=0)
    return interruption.exit_code if interruption.signal is not None else code


def _shown_metrics(experiment: Experiment) -> ShownMetrics:
    if experiment.algorithm not in TRAINABLES:
        return REINFORCEMENT
    from rllib_stpn.supervised import TASKS

    return supervised(TASKS[experiment.envs_or_tasks(experiment.config)[0]].metric)


def _tell_failure(experiment: Experiment, result: TrialResult, verbosity: int) -> int:
    """Prints why a trial failed; returns the exit code."""
    cause = result.cause
    assert cause is not None
    told = str(cause)
    if cause.kind in (StorageError.__name__, "ProcessDied"):
        told += f"; {_how_to_go_on(experiment)}"
    if verbosity:
        print(result.error, file=sys.stderr)
    error_file = Path(result.path) / "error.txt"
    where = f" (traceback: {error_file})" if error_file.exists() or "://" in result.path else ""
    print(f"rllib: error: {told}{where}", file=sys.stderr)
    return 2 if cause.kind == UsageError.__name__ else 1


def _how_to_go_on(experiment: Experiment) -> str:
    command = shlex.join(
        ["rllib", "train", "--resume", "--storage-path", experiment.storage_path, "-n", experiment.name]
    )
    return f"once that is mended, it goes on from its last whole checkpoint with: {command}"
