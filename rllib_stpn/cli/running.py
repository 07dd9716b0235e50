"""Running experiments with Tune, and telling how they went."""

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rllib_stpn.cli.building import algorithm_class
from rllib_stpn.cli.experiments import Experiment
from rllib_stpn.cli.failures import root_error
from rllib_stpn.cli.folding import fold
from rllib_stpn.cli.progress import Progress, duration
from rllib_stpn.cli.ray_session import Machine, ray_running
from rllib_stpn.cli.stopping import Interruption, StopWhen, abort
from rllib_stpn.errors import UsageError


def run(experiments: Sequence[Experiment], machine: Machine, strict_resources: bool = False) -> int:
    """Runs experiments one after the other.

    Args:
        experiments: Checked ones, see :func:`rllib_stpn.cli.validation.check`.
        machine: Where to run them.
        strict_resources: Refuse what does not fit in place of folding it.

    Returns:
        The exit code, see :func:`rllib_stpn.cli.main.main`.
    """
    for experiment in experiments:
        experiment.storage_path = _storage(experiment)
        if machine.address is None:
            _fit(experiment, machine.cpus_before_start(), _gpus(), strict_resources, own_machine=True)
    interruption = Interruption()
    code = 0
    with ray_running(machine) as (cpus, gpus), interruption.listening():
        for experiment in experiments:
            if machine.address is not None:
                _fit(experiment, cpus, gpus, strict_resources, own_machine=False)
            try:
                code = max(code, _run_one(experiment, interruption, machine.verbosity))
            except KeyboardInterrupt:
                print("rllib: aborted; checkpoints written before are whole", file=sys.stderr)
                abort(interruption.exit_code)
            if interruption.signal is not None:
                return interruption.exit_code
    return code


def _fit(experiment: Experiment, cpus: int, gpus: int, strict: bool, own_machine: bool) -> None:
    try:
        experiment.config, notes = fold(
            experiment.config,
            algorithm_class(experiment.run).get_default_config(),
            cpus=cpus,
            gpus=gpus,
            strict=strict,
            alone=own_machine and experiment.num_trials == 1,
        )
    except UsageError as error:
        raise UsageError(f"{experiment.where}: {error}") from None
    for note in notes:
        print(f"folded: {experiment.name}: {note}")


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

    from rllib_stpn.cli.trial import trial_class

    print(
        f"{experiment.run} on {_env(experiment)}: results in {experiment.storage_path}/{experiment.name}",
        flush=True,
    )
    if not experiment.stop:
        print("note: no stop criterion: it runs until interrupted (Ctrl-C)", flush=True)
    stopper = StopWhen(experiment.stop, interruption)
    tuner = tune.Tuner(
        trial_class(experiment.run),
        param_space=_tune_space(experiment.config),
        tune_config=tune.TuneConfig(num_samples=experiment.num_samples),
        run_config=tune.RunConfig(
            name=experiment.name,
            storage_path=experiment.storage_path,
            stop=stopper,
            checkpoint_config=tune.CheckpointConfig(**{"checkpoint_at_end": True, **experiment.checkpoint}),
            failure_config=tune.FailureConfig(max_failures=experiment.max_failures),
            callbacks=[stopper.watch(), Progress(experiment.num_trials, experiment.stop)],
            verbose=0,
        ),
    )
    results = tuner.fit()
    return _tell(experiment, results, stopper, interruption, verbosity)


def _tune_space(settings: Any) -> Any:
    from ray import tune

    from rllib_stpn.cli import grid

    if grid.is_grid(settings):
        return tune.grid_search(settings[grid.GRID])
    if isinstance(settings, dict):
        return {key: _tune_space(value) for key, value in settings.items()}
    return settings


def _env(experiment: Experiment) -> str:
    from rllib_stpn.cli.grid import choices

    return " and ".join(map(str, choices(experiment.config["env"])))


def _tell(experiment: Experiment, results: Any, stopper: StopWhen, interruption: Interruption, verbosity: int) -> int:
    """Prints how each trial ended and where its files are; returns the exit code."""
    code = 0
    checkpoint = None
    for result in results:
        metrics = result.metrics or {}
        label = f"{experiment.run} on {metrics.get('config', {}).get('env', _env(experiment))}"
        if result.error is not None:
            code = max(code, _tell_failure(label, result, verbosity))
        else:
            steps = metrics.get("num_env_steps_sampled_lifetime") or 0
            done = f"{metrics.get('training_iteration', 0)} iterations, {steps:,.0f} env steps"
            reason = stopper.reasons.get(metrics.get("trial_id", ""), "stopped before its first result")
            print(f"\n{label}: {done}, {duration(metrics.get('time_total_s') or 0)}; stopped: {reason}")
        print(f"results     {result.path}")
        checkpoint = result.checkpoint or checkpoint
        print(f"checkpoint  {result.checkpoint.path if result.checkpoint else 'none'}")
    if checkpoint is not None:
        print("continue    from ray.rllib.algorithms.algorithm import Algorithm")
        print(f'            algorithm = Algorithm.from_checkpoint("{checkpoint.path}")')
        print("            algorithm.train()")
    print(f"TensorBoard tensorboard --logdir {experiment.storage_path}/{experiment.name}", flush=True)
    return interruption.exit_code if interruption.signal is not None else code


def _tell_failure(label: str, result: Any, verbosity: int) -> int:
    error_file = Path(result.path) / "error.txt"
    text = str(result.error)
    with contextlib.suppress(OSError):
        text = error_file.read_text()
    kind, message = root_error(text)
    print(f"\n{label}: failed", flush=True)
    if verbosity:
        print(text, file=sys.stderr)
    told = message if kind == UsageError.__name__ else f"{kind}: {message}"
    print(f"rllib: error: {told} (traceback: {error_file})", file=sys.stderr)
    return 2 if kind == UsageError.__name__ else 1
