"""Running experiments from the command line: what is printed, signals and exit codes."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rllib_stpn.cli.progress import REINFORCEMENT, Progress, ShownMetrics, duration, supervised
from rllib_stpn.cli.ray_session import Machine, ray_running
from rllib_stpn.cli.signals import Signals, abort
from rllib_stpn.cli.terminal import tell_where_kernels_are
from rllib_stpn.cli.waiting import Waiting
from rllib_stpn.errors import StorageError, UsageError
from rllib_stpn.experiments import running
from rllib_stpn.experiments.building import TRAINABLES, default_config
from rllib_stpn.experiments.experiment import Experiment, env_or_task
from rllib_stpn.experiments.failures import of_storage, root_error
from rllib_stpn.experiments.old import names as old_names
from rllib_stpn.experiments.resources import Cluster
from rllib_stpn.experiments.resuming import can_go_on
from rllib_stpn.experiments.running import TrialResult
from rllib_stpn.experiments.stopping import Interruption
from rllib_stpn.ray_names import how_to_register


def run(experiments: Sequence[Experiment], machine: Machine, strict_resources: bool = False) -> int:
    """Runs experiments one after the other.

    Args:
        experiments: Checked ones, see :func:`rllib_stpn.experiments.validation.check`.
        machine: Where to run them.
        strict_resources: Refuse what does not fit in place of folding it.

    Returns:
        The exit code, see :func:`rllib_stpn.cli.main.main`.
    """
    experiments = [_prepared(experiment) for experiment in experiments]
    if machine.address is None:  # What is wrong is told before Ray starts.
        this = Cluster.of_this_machine(machine.cpus_before_start())
        own = not _ray_runs()
        experiments = [_fitted(each, this, strict_resources, may_grow=not own, whole=True) for each in experiments]
    tell_where_kernels_are()
    interruption = Signals()
    code = 0
    with ray_running(machine) as cluster, interruption.listening():
        for experiment in experiments:
            if machine.address is not None:
                experiment = _fitted(experiment, cluster, strict_resources, may_grow=True, whole=False)
            try:
                code = max(code, _run_one(experiment, interruption, machine.verbosity))
            except KeyboardInterrupt:
                print("rllib: aborted; checkpoints written before are whole", file=sys.stderr)
                abort(interruption.exit_code)
            if interruption.signal is not None:
                return interruption.exit_code
    return code


def _prepared(experiment: Experiment) -> Experiment:
    experiment, notes = running.prepare(experiment)
    for note in notes:
        print(f"note: {note}", flush=True)
    return experiment


def _fitted(experiment: Experiment, cluster: Cluster, strict: bool, may_grow: bool, whole: bool) -> Experiment:
    experiment, notes = running.fit(experiment, cluster, strict=strict, may_grow=may_grow, whole=whole)
    for note in notes:
        print(f"folded: {experiment.name}: {note}", flush=True)
    return experiment


def _ray_runs() -> bool:
    """Whether Ray runs in this process already, and has what it has."""
    import ray

    return ray.is_initialized()


def _run_one(experiment: Experiment, interruption: Interruption, verbosity: int) -> int:
    directory = f"{experiment.storage_path}/{experiment.name}"
    print(f"{experiment.algorithm} on {_envs_or_tasks(experiment)}: results in {directory}", flush=True)
    if not experiment.stop:
        print("note: no stop criterion: it runs until interrupted (Ctrl-C)", flush=True)
    if experiment.resume and not can_go_on(experiment):
        print("note: --resume: nothing there to go on with: it starts", flush=True)
    progress = Progress(experiment.num_trials, experiment.stop, shown=_shown_metrics(experiment))
    try:
        results = running.run(experiment, interruption, callbacks=[Waiting(), progress])
    except StorageError as error:
        print(f"rllib: error: {error}; {_how_to_go_on(experiment)}", file=sys.stderr)
        return 1
    return _tell(experiment, results, interruption, verbosity)


def _envs_or_tasks(experiment: Experiment) -> str:
    """The environment or the task; of a search, all of them."""
    from rllib_stpn.experiments.searches import choices

    value = experiment.config.get(env_or_task(experiment.algorithm), getattr(experiment.base, "env", None))
    return " and ".join(str(getattr(each, "__name__", each)) for each in choices(value))


def _shown_metrics(experiment: Experiment) -> ShownMetrics:
    if experiment.algorithm not in TRAINABLES:
        return REINFORCEMENT
    from rllib_stpn.experiments.searches import choices
    from rllib_stpn.supervised import TASKS

    return supervised(TASKS[choices(experiment.config["task"])[0]].metric)


def _tell(experiment: Experiment, results: Sequence[TrialResult], interruption: Interruption, verbosity: int) -> int:
    """Prints how each trial ended and where its files are; returns the exit code."""
    failures = []
    checkpoint = registration = None
    shown = _shown_metrics(experiment)
    for result in results:
        metrics = result.metrics
        of_trial = result.settings.get(env_or_task(experiment.algorithm), _envs_or_tasks(experiment))
        label = f"{experiment.algorithm} on {of_trial}"
        if result.error is not None:
            print(f"\n{label}: failed", flush=True)
            failures.append(result)
        else:
            steps = metrics.get(shown.counter) or 0
            done = f"{metrics.get('training_iteration', 0)} iterations, {steps:,.0f} {shown.counted}"
            if shown.final and shown.final[1] in metrics:
                done += f", {shown.final[0]} {metrics[shown.final[1]]:.4f}"
            reason = result.stopped or "stopped before its first result"
            print(f"\n{label}: {done}, {duration(metrics.get('time_total_s') or 0)}; stopped: {reason}")
        print(f"results     {result.path}")
        if result.checkpoint:
            checkpoint, registration = result.checkpoint, _registration(experiment, of_trial)
        print(f"checkpoint  {result.checkpoint or 'none'}")
    if checkpoint is not None:
        module, name = "ray.rllib.algorithms.algorithm", "Algorithm"
        if experiment.algorithm in TRAINABLES:
            module, name = "rllib_stpn.supervised", experiment.algorithm
        lines = [f"import rllib_stpn; {registration}"] if registration else []
        lines += [f"from {module} import {name}", f'algorithm = {name}.from_checkpoint("{checkpoint}")']
        lines += ["algorithm.train()"]
        print("continue    " + "\n            ".join(lines))
    print(f"TensorBoard tensorboard --logdir {experiment.storage_path}/{experiment.name}", flush=True)
    # last, where users look
    code = max((_tell_failure(experiment, result, verbosity) for result in failures), default=0)
    return interruption.exit_code if interruption.signal is not None else code


def _registration(experiment: Experiment, env: Any) -> str | None:
    """The call that another process needs before it goes on: for the environment, or the old stack's models."""
    if experiment.algorithm in TRAINABLES:
        return None
    on_new_stack = default_config(experiment.algorithm, experiment.base).enable_rl_module_and_learner
    on_new_stack = on_new_stack and old_names.on_new_stack(experiment.config)
    return how_to_register(env) or (None if on_new_stack else "rllib_stpn.register()")


def _tell_failure(experiment: Experiment, result: TrialResult, verbosity: int) -> int:
    text = result.error or ""
    cause = root_error(text)
    told = of_storage(cause, f"{experiment.storage_path}/{experiment.name}")
    if told or cause.kind == "ProcessDied":
        told = f"{told or cause}; {_how_to_go_on(experiment)}"
    if verbosity:
        print(text, file=sys.stderr)
    error_file = Path(result.path) / "error.txt"
    where = f" (traceback: {error_file})" if error_file.exists() or "://" in result.path else ""
    print(f"rllib: error: {told or cause}{where}", file=sys.stderr)
    return 2 if cause.kind == UsageError.__name__ else 1


def _how_to_go_on(experiment: Experiment) -> str:
    command = f"rllib train --resume --storage-path {shlex.quote(experiment.storage_path)} -n {experiment.name}"
    return f"once that is mended, it goes on from its last whole checkpoint with: {command}"
