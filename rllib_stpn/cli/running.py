"""Running experiments with Tune, and telling how they went."""

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rllib_stpn import provenance
from rllib_stpn.cli.compiled import tell_where_kernels_are
from rllib_stpn.cli.progress import REINFORCEMENT, Progress, Terms, duration, supervised
from rllib_stpn.cli.ray_session import Machine, ray_running
from rllib_stpn.cli.signals import Signals, abort
from rllib_stpn.cli.waiting import Waiting, refuse_what_never_comes
from rllib_stpn.errors import UsageError
from rllib_stpn.experiments.building import TRAINABLES, default_config
from rllib_stpn.experiments.failures import root_error
from rllib_stpn.experiments.folding import Resources, Room, fold
from rllib_stpn.experiments.loading import Experiment, subject
from rllib_stpn.experiments.old import names as old_names
from rllib_stpn.experiments.resuming import Finished, as_begun, can_go_on, remember
from rllib_stpn.experiments.schedulers import make_scheduler, tune_space
from rllib_stpn.experiments.stopping import Interruption, StopWhen
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
    for experiment in experiments:
        if machine.address is None:
            _fit(experiment, Room([machine.cpus_before_start()], [_gpus()]), strict_resources, own_machine=True)
    tell_where_kernels_are()
    interruption = Signals()
    code = 0
    with ray_running(machine) as room, interruption.listening():
        for experiment in experiments:
            if machine.address is not None:
                _fit(experiment, room, strict_resources, own_machine=False)
            try:
                code = max(code, _run_one(experiment, interruption, machine.verbosity))
            except KeyboardInterrupt:
                print("rllib: aborted; checkpoints written before are whole", file=sys.stderr)
                abort(interruption.exit_code)
            if interruption.signal is not None:
                return interruption.exit_code
    return code


def _prepared(experiment: Experiment) -> Experiment:
    """With what can be told to be wrong before Ray starts, and, going on, with the settings it was begun with."""
    make_scheduler(experiment)
    experiment.storage_path = _storage(experiment)
    if not experiment.resume or "://" in experiment.storage_path or not can_go_on(experiment):
        # `--resume` alone recalls settings that were fitted to a machine, which may be another one.
        return dataclasses.replace(experiment, config=experiment.given or experiment.config, given=None)
    experiment, changed = as_begun(experiment)
    if changed:
        print(f"note: --resume: goes on as begun, not with what is now given for {', '.join(changed)}", flush=True)
    return experiment


def _fit(experiment: Experiment, room: Room, strict: bool, own_machine: bool) -> None:
    if experiment.given is not None:  # It goes on, and Tune's trials ask for what they asked for before.
        needs = Resources(experiment.config, default_config(experiment.run, experiment.base))
        if beyond := needs.too_much(room):
            raise UsageError(f"--resume: {experiment.name} was begun with {beyond[0]} a trial, {beyond[1]}")
        return
    experiment.given = experiment.config
    try:
        experiment.config, notes = fold(
            experiment.config,
            default_config(experiment.run, experiment.base),
            room,
            strict=strict,
            alone=own_machine and experiment.num_trials == 1,
        )
    except UsageError as error:
        raise UsageError(f"{experiment.where}: {error}") from None
    for note in notes:
        print(f"folded: {experiment.name}: {note}", flush=True)
    if own_machine and not _joins():
        refuse_what_never_comes(experiment, room)


def _joins() -> bool:
    """Whether Ray runs in this process already, and has what it has."""
    import ray

    return ray.is_initialized()


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _storage(experiment: Experiment) -> str:
    """The storage path, absolute; a local one is made, and tried."""
    if "://" in experiment.storage_path:
        return experiment.storage_path
    path = Path(experiment.storage_path).expanduser().absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"storage path {path}: cannot be made: {error.strerror}") from error
    if not os.access(path, os.W_OK):
        raise UsageError(f"storage path {path}: cannot be written to")
    return str(path)


def _run_one(experiment: Experiment, interruption: Interruption, verbosity: int) -> int:
    from ray import tune

    from rllib_stpn.experiments.trial import trial_class

    print(
        f"{experiment.run} on {_subject(experiment)}: results in {experiment.storage_path}/{experiment.name}",
        flush=True,
    )
    if not experiment.stop:
        print("note: no stop criterion: it runs until interrupted (Ctrl-C)", flush=True)
    if "://" not in experiment.storage_path:
        provenance.record(Path(experiment.storage_path) / experiment.name)
        remember(experiment)
    stopper = StopWhen(experiment.stop, interruption)
    finished = Finished(stopper)
    tuner = tune.Tuner(
        trial_class(experiment.run, experiment.base),
        param_space=tune_space(experiment.config),
        tune_config=tune.TuneConfig(num_samples=experiment.num_samples, scheduler=make_scheduler(experiment, finished)),
        run_config=tune.RunConfig(
            name=experiment.name,
            storage_path=experiment.storage_path,
            stop=stopper,
            checkpoint_config=tune.CheckpointConfig(**{"checkpoint_at_end": True, **experiment.checkpoint}),
            failure_config=tune.FailureConfig(max_failures=experiment.max_failures),
            callbacks=[
                finished,
                stopper.watch(),
                Waiting(),
                Progress(experiment.num_trials, experiment.stop, terms=_terms(experiment)),
            ],
            verbose=0,
        ),
        _tuner_kwargs=_beginning(experiment),
    )
    results = tuner.fit()
    return _tell(experiment, results, stopper, interruption, verbosity)


def _beginning(experiment: Experiment) -> dict[str, Any]:
    """Where the trials begin, as arguments of ``ray.tune.run``."""
    from ray.tune import ResumeConfig

    if experiment.resume:
        if can_go_on(experiment):
            every = ResumeConfig.ResumeType.RESUME  # `Finished` leaves out those that are.
            return {"resume_config": ResumeConfig(finished=every, unfinished=every, errored=every)}
        print("note: --resume: nothing there to go on with: it starts", flush=True)
    return {} if experiment.restore is None else {"restore": experiment.restore}


def _subject(experiment: Experiment) -> str:
    """The environment, or the task."""
    from rllib_stpn.experiments.searches import choices

    given = experiment.config.get(subject(experiment.run), getattr(experiment.base, "env", None))
    return " and ".join(str(getattr(each, "__name__", each)) for each in choices(given))


def _terms(experiment: Experiment) -> Terms:
    if experiment.run not in TRAINABLES:
        return REINFORCEMENT
    from rllib_stpn.experiments.searches import choices
    from rllib_stpn.supervised import TASKS

    return supervised(TASKS[choices(experiment.config["task"])[0]].metric)


def _tell(experiment: Experiment, results: Any, stopper: StopWhen, interruption: Interruption, verbosity: int) -> int:
    """Prints how each trial ended and where its files are; returns the exit code."""
    failures = []
    checkpoint = registration = None
    terms = _terms(experiment)
    for result in results:
        metrics = result.metrics or {}
        of_trial = _settings(result).get(subject(experiment.run), _subject(experiment))
        label = f"{experiment.run} on {of_trial}"
        if result.error is not None:
            print(f"\n{label}: failed", flush=True)
            failures.append(result)
        else:
            steps = metrics.get(terms.counter) or 0
            done = f"{metrics.get('training_iteration', 0)} iterations, {steps:,.0f} {terms.counted}"
            if terms.final and terms.final[1] in metrics:
                done += f", {terms.final[0]} {metrics[terms.final[1]]:.4f}"
            reason = stopper.reasons.get(metrics.get("trial_id", ""), "stopped before its first result")
            print(f"\n{label}: {done}, {duration(metrics.get('time_total_s') or 0)}; stopped: {reason}")
        print(f"results     {result.path}")
        if result.checkpoint:
            checkpoint, registration = result.checkpoint, _registration(experiment, of_trial)
        print(f"checkpoint  {result.checkpoint.path if result.checkpoint else 'none'}")
    if checkpoint is not None:
        module, name = "ray.rllib.algorithms.algorithm", "Algorithm"
        if experiment.run in TRAINABLES:
            module, name = "rllib_stpn.supervised", experiment.run
        lines = [f"import rllib_stpn; {registration}"] if registration else []
        lines += [f"from {module} import {name}", f'algorithm = {name}.from_checkpoint("{checkpoint.path}")']
        lines += ["algorithm.train()"]
        print("continue    " + "\n            ".join(lines))
    print(f"TensorBoard tensorboard --logdir {experiment.storage_path}/{experiment.name}", flush=True)
    code = max((_tell_failure(result, verbosity) for result in failures), default=0)  # last, where users look
    return interruption.exit_code if interruption.signal is not None else code


def _settings(result: Any) -> dict[str, Any]:
    """A trial's settings, also where it failed before its first result; empty where Tune has not written them."""
    if result.config:
        return result.config
    with contextlib.suppress(OSError, ValueError):
        return json.loads((Path(result.path) / "params.json").read_text())
    return {}


def _registration(experiment: Experiment, env: Any) -> str | None:
    """The call that another process needs before it goes on: for the environment, or the old stack's models."""
    if experiment.run in TRAINABLES:
        return None
    on_new_stack = default_config(experiment.run, experiment.base).enable_rl_module_and_learner
    on_new_stack = on_new_stack and old_names.on_new_stack(experiment.config)
    return how_to_register(env) or (None if on_new_stack else "rllib_stpn.register()")


def _tell_failure(result: Any, verbosity: int) -> int:
    error_file = Path(result.path) / "error.txt"
    text = str(result.error)
    with contextlib.suppress(OSError):
        text = error_file.read_text(encoding="utf-8", errors="replace")
    cause = root_error(text)
    if verbosity:
        print(text, file=sys.stderr)
    print(f"rllib: error: {cause} (traceback: {error_file})", file=sys.stderr)
    return 2 if cause.kind == UsageError.__name__ else 1
