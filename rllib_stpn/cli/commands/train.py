"""Train an agent from a YAML file, a Python file, or options alone.

A YAML file is in RLlib's own format:

    cartpole:                          # the experiment's name; a file may have several
      env: CartPole-v1
      run: PPO
      stop:
        env_runners/episode_return_mean: 450
        num_env_steps_sampled_lifetime: 200000
      config:
        lr: 0.0003
        gamma: {grid_search: [0.9, 0.99]}

and is run by

    rllib train -f cartpole.yaml --stop '{"training_iteration": 2}' --config '{"lr": 0.001}'

Old RLlib files run too: what was renamed since is translated, and said. Where a file asks for more env
runners than the machine has CPUs, they are folded into vectorised environments of the trial's own process.

A Python file makes an AlgorithmConfig and calls it `config` (and stop criteria `stop`); it is run as Python
runs it. Without a file:

    rllib train --run PPO --env CartPole-v1 --stop '{"training_iteration": 2}'

An interrupted or killed run goes on from its last checkpoints with the same command and --resume, or with
`rllib train --resume` alone, which takes the experiment last begun.

The exit code is 0 when every trial ended as asked, 1 when one failed, 2 for a wrong input, and 130 or 143
after Ctrl-C or SIGTERM, which end the run after the iteration under way, with a checkpoint.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rllib_stpn.cli import gone_options
from rllib_stpn.errors import UsageError
from rllib_stpn.experiments.keys import SCHEDULERS

HELP = "train an agent from a YAML or Python file, or from options alone"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the file and the options of ``rllib train``."""
    files = parser.add_argument_group("the file")
    files.add_argument("words", nargs="*", metavar="FILE", help="YAML or Python (`rllib train file FILE` works too)")
    files.add_argument("-f", "--config-file", metavar="FILE", help="the same, as an option")
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``rllib train``, but for the file."""
    what = parser.add_argument_group("what to train")
    what.add_argument(
        "-r", "-a", "--run", "--algo", metavar="ALGO", help="the algorithm: without a file, or in place of the file's"
    )
    what.add_argument(
        "-e", "--env", metavar="ENV", help="the environment (or task): without a file, or in place of the file's"
    )
    what.add_argument(
        "-s",
        "--stop",
        type=_json_object,
        metavar="JSON",
        help="stop criteria, in place of the file's: '{\"time_total_s\": 60}'",
    )
    what.add_argument(
        "-c",
        "--config",
        type=_json_object,
        metavar="JSON",
        help="settings merged over the file's `config`, level by level",
    )
    what.add_argument("--seed", type=int, metavar="N", help="random seed (default: the file's, or none)")
    what.add_argument(
        "--restore", metavar="CHECKPOINT", help="begin with this checkpoint: weights, optimiser, counters"
    )
    what.add_argument(
        "--resume", action="store_true", help="go on with the run before; a finished one is left as it is"
    )

    trials = parser.add_argument_group("several trials")
    trials.add_argument(
        "--num-samples",
        type=int,
        metavar="N",
        help="how often to run each point of the grid (default: the file's, or 1)",
    )
    trials.add_argument(
        "--scheduler",
        metavar="{" + ",".join(SCHEDULERS) + "}",
        help="which trials go on: all (fifo), the better (asha), or copies of them (pbt, pb2); default: the file's, or "
        "all",
    )
    trials.add_argument(
        "--max-failures",
        type=int,
        metavar="N",
        help="how often a failed trial is tried again, from its last checkpoint (default: the file's, or 0)",
    )
    trials.add_argument(
        "--scheduler-config",
        type=_json_object,
        metavar="JSON",
        help="arguments of Tune's class: '{\"grace_period\": 5}'",
    )

    where = parser.add_argument_group("where results go")
    where.add_argument("--storage-path", "--local-dir", metavar="DIR", help="default: the file's, or ~/ray_results")
    where.add_argument("-n", "--experiment-name", metavar="NAME", help="default: the experiment's name in the file")
    where.add_argument(
        "--checkpoint-freq",
        type=int,
        metavar="N",
        help="a checkpoint every N iterations (default: the file's, or 0: only at the end)",
    )
    where.add_argument("--keep-checkpoints-num", type=int, metavar="N", help="the last N of them (default: all)")

    machine = parser.add_argument_group("the machine")
    machine.add_argument("--ray-num-cpus", type=int, metavar="N", help="CPUs to use (default: all)")
    machine.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        default=os.environ.get("RAY_ADDRESS") or None,
        help="use this Ray cluster, `local` to start one here (default: RAY_ADDRESS, else local)",
    )
    machine.add_argument(
        "--strict-resources",
        action="store_true",
        help="do not fold env runners; refuse what the machine cannot hold",
    )

    parser.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="show warnings, Ray's own messages and tracebacks; -vv: all",
    )
    gone_options.add(parser, gone_options.OF_TRAIN)


def run(args: argparse.Namespace) -> int:
    """Trains what the command line asks for and returns the exit code."""
    from rllib_stpn.experiments import loading
    from rllib_stpn.experiments.overrides import Overrides

    for note in args.gone:
        print(f"note: {note}")
    path = _file(args)
    name = args.experiment_name
    if path:
        loaded = loading.load(path)
    elif args.run and args.env:
        loaded = [loading.from_flags(args.run, args.env)]
    else:
        loaded = [_last(args)]
        name = None
    if name and len(loaded) > 1:
        names = ", ".join(experiment.name for experiment in loaded)
        raise UsageError(f"--experiment-name: {path} holds several experiments ({names})")
    overrides = Overrides(
        name=name,
        run=args.run,
        env=args.env,
        stop=args.stop,
        config=args.config,
        seed=args.seed,
        num_samples=args.num_samples,
        max_failures=args.max_failures,
        checkpoint_frequency=args.checkpoint_freq,
        checkpoints_kept=args.keep_checkpoints_num,
        storage_path=args.storage_path,
        restore=args.restore,
        resume=args.resume,
        scheduler=args.scheduler,
        scheduler_config=args.scheduler_config,
        options=True,
    )
    overridden = [overrides.apply(experiment) for experiment in loaded]
    for experiment in overridden:
        _tell(experiment.notes)

    from rllib_stpn.cli import ray_session

    if not args.verbose:
        ray_session.silence()
    from rllib_stpn.cli import running
    from rllib_stpn.experiments import validation

    checked = []
    for experiment in overridden:
        checked.append(validation.check(experiment))
        _tell(checked[-1].notes[len(experiment.notes) :])
    return running.run(
        checked,
        ray_session.Machine(address=args.ray_address, num_cpus=args.ray_num_cpus, verbosity=args.verbose),
        strict_resources=args.strict_resources,
    )


def _tell(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"note: {note}", flush=True)


def _last(args: argparse.Namespace) -> Any:
    """The experiment to resume without a file."""
    if not args.verbose:
        from rllib_stpn.cli import ray_session

        ray_session.silence()
    from rllib_stpn.experiments.experiment import Experiment
    from rllib_stpn.experiments.resuming import recall

    for option in ("run", "env", "config", "seed", "num_samples", "max_failures", "restore"):
        if getattr(args, option) is not None:
            told = f"--{option.replace('_', '-')}"
            raise UsageError(f"{told}: --resume without a file goes on with the settings that the experiment has")
    return recall(args.storage_path or Experiment.storage_path, args.experiment_name)


def _file(args: argparse.Namespace) -> Path | None:
    words = args.words[1:] if args.words[:1] == ["file"] and not os.path.exists("file") else args.words
    files = [*words, *([args.config_file] if args.config_file else [])]
    if len(files) > 1:
        raise UsageError(f"one file, please: got {', '.join(files)}")
    if not files and not args.resume and not (args.run and args.env):
        raise UsageError("what to train? give a file (rllib train -f FILE), or both --run and --env")
    return Path(files[0]) if files else None


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}: {text!r}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"got {text!r}, allowed is a JSON object ({{...}})")
    return value
