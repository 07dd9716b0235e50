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
from typing import TYPE_CHECKING, Any

from rllib_stpn.cli import gone_options
from rllib_stpn.cli.terminal import tell
from rllib_stpn.errors import UsageError
from rllib_stpn.experiments.experiment import Experiment
from rllib_stpn.experiments.keys import SCHEDULERS, SEARCH_ALGORITHMS, TRACKERS

if TYPE_CHECKING:
    from rllib_stpn.cli.signals import Signals

#: Settings of evaluation during training that are options, too.
_OF_EVALUATION = {
    "evaluation_interval": "play greedily every N iterations (default: the file's, or never)",
    "evaluation_duration": "for so many episodes (default: the file's, or 10)",
    "evaluation_num_env_runners": "in so many processes of their own (default: the file's, or 0)",
}
HELP = "train an agent from a YAML or Python file, or from options alone"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the file and the options of ``rllib train``."""
    files = parser.add_argument_group("the file")
    files.add_argument("words", nargs="*", metavar="FILE", help="YAML or Python (`rllib train file FILE` works too)")
    files.add_argument(
        "-f", "--config-file", metavar="FILE", action="append", default=[], help="the same, as an option"
    )
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``rllib train``, but for the file; those that change an experiment as fields of Overrides."""
    _add_what_to_train(parser.add_argument_group("what to train"))
    _add_trials(parser.add_argument_group("several trials"))
    _add_results(parser.add_argument_group("where results go"))
    _add_machine(parser.add_argument_group("the machine"))
    told = "show warnings, Ray's own messages and tracebacks; -vv: all"
    parser.add_argument("-v", "--verbose", action="count", default=0, help=told)
    gone_options.add(parser, gone_options.OF_TRAIN)


def _add_what_to_train(group: Any) -> None:
    instead = "without a file, or in place of the file's"
    group.add_argument("-r", "-a", "--run", "--algo", metavar="ALGO", help=f"the algorithm: {instead}")
    group.add_argument("-e", "--env", metavar="ENV", help=f"the environment (or task): {instead}")
    told = "stop criteria, in place of the file's: '{\"time_total_s\": 60}'"
    group.add_argument("-s", "--stop", type=_json_object, metavar="JSON", help=told)
    told = "settings merged over the file's `config`, level by level"
    group.add_argument("-c", "--config", type=_json_object, metavar="JSON", help=told)
    for name, told in _OF_EVALUATION.items():
        group.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N", help=told)
    group.add_argument("--seed", type=int, metavar="N", help="random seed (default: the file's, or none)")
    told = "begin with this checkpoint: weights, optimiser, counters"
    group.add_argument("--restore", metavar="CHECKPOINT", help=told)
    told = "go on with the run before; a finished one is left as it is"
    group.add_argument("--resume", action="store_true", help=told)


def _add_trials(group: Any) -> None:
    told = "how often to run each point of the grid (default: the file's, or 1)"
    group.add_argument("--num-samples", type=int, metavar="N", help=told)
    told = (
        "which trials go on: all (fifo), the better (asha), or copies of them (pbt, pb2); default: the file's, or all"
    )
    group.add_argument("--scheduler", metavar="{" + ",".join(SCHEDULERS) + "}", help=told)
    told = "draw the searches' values by what trials before have shown (default: the file's, or random draws)"
    group.add_argument("--search-alg", metavar="{" + ",".join(SEARCH_ALGORITHMS) + "}", help=told)
    told = "how often a failed trial is tried again, from its last checkpoint (default: the file's, or 0)"
    group.add_argument("--max-failures", type=int, metavar="N", help=told)
    told = "arguments of Tune's class: '{\"grace_period\": 5}'"
    group.add_argument("--scheduler-config", type=_json_object, metavar="JSON", help=told)


def _add_results(group: Any) -> None:
    group.add_argument("--storage-path", "--local-dir", metavar="DIR", help="default: the file's, or ~/ray_results")
    told = "send results to this service, too (may be given several times)"
    group.add_argument("--track", metavar="{" + ",".join(TRACKERS) + "}", action="append", help=told)
    told = "default: the experiment's name in the file"
    group.add_argument("-n", "--experiment-name", dest="name", metavar="NAME", help=told)
    told = "a checkpoint every N iterations (default: the file's, or 0: only at the end)"
    group.add_argument("--checkpoint-freq", dest="checkpoint_frequency", type=int, metavar="N", help=told)
    told = "the last N of them (default: all)"
    group.add_argument("--keep-checkpoints-num", dest="checkpoints_kept", type=int, metavar="N", help=told)


def _add_machine(group: Any) -> None:
    group.add_argument("--ray-num-cpus", type=int, metavar="N", help="CPUs to use (default: all)")
    told = "use this Ray cluster, `local` to start one here (default: RAY_ADDRESS, else local)"
    group.add_argument("--ray-address", metavar="ADDRESS", default=os.environ.get("RAY_ADDRESS") or None, help=told)
    told = "do not fold env runners; refuse what the machine cannot hold"
    group.add_argument("--strict-resources", action="store_true", help=told)


def run(args: argparse.Namespace) -> int:
    """Trains what the command line asks for and returns the exit code."""
    from rllib_stpn.cli.signals import Signals

    signals = Signals()
    with signals.listening():
        return _train(args, signals)


def _train(args: argparse.Namespace, signals: "Signals") -> int:
    from rllib_stpn.experiments.overrides import Overrides

    tell(args.gone)
    args.config = _with_evaluation(args)
    overrides = Overrides(**{name: getattr(args, name) for name in Overrides.names()}, options=True)
    overridden = [overrides.apply(experiment) for experiment in _experiments(args)]
    for experiment in overridden:
        tell(experiment.notes)

    from rllib_stpn.cli import ray_session

    if not args.verbose:
        ray_session.silence()
    from rllib_stpn.cli import running
    from rllib_stpn.experiments import validation

    checked = []
    for experiment in overridden:
        checked.append(validation.check(experiment))
        tell(checked[-1].notes[len(experiment.notes) :])
    machine = ray_session.Machine(address=args.ray_address, num_cpus=args.ray_num_cpus, verbosity=args.verbose)
    return running.run(checked, machine, signals, strict_resources=args.strict_resources)


def _with_evaluation(args: argparse.Namespace) -> dict[str, Any] | None:
    """The settings given as JSON, with those of evaluation that are given as options; evaluation is greedy then."""
    given = {name: getattr(args, name) for name in _OF_EVALUATION if getattr(args, name) is not None}
    if not given:
        return args.config
    from rllib_stpn.experiments import searches

    greedy = {"evaluation_config": {"explore": False}} if "evaluation_interval" in given else {}
    return {**searches.merge(greedy, args.config or {}), **given}


def _experiments(args: argparse.Namespace) -> Sequence[Experiment]:
    """What a file, or options alone, ask for."""
    from rllib_stpn.experiments import loading

    words = args.words[1:] if args.words[:1] == ["file"] and not os.path.exists("file") else args.words
    files = [*words, *args.config_file]
    if len(files) > 1:
        raise UsageError(f"-f: got {' and '.join(files)}, allowed is one file, which may hold several experiments")
    if files:
        experiments = loading.load(Path(files[0]))
        if args.name and len(experiments) > 1:
            names = ", ".join(experiment.name for experiment in experiments)
            raise UsageError(f"--experiment-name: {files[0]} holds several experiments ({names})")
        return experiments
    if args.run and args.env:
        return [loading.from_flags(args.run, args.env)]
    if args.resume:
        return [_last(args)]
    raise UsageError("what to train? give a file (rllib train -f FILE), or both --run and --env")


def _last(args: argparse.Namespace) -> Experiment:
    """The experiment to resume without a file."""
    if not args.verbose:
        from rllib_stpn.cli import ray_session

        ray_session.silence()
    from rllib_stpn.experiments.resuming import recall

    for option in ("run", "env", "config", "seed", "num_samples", "max_failures", "restore"):
        if getattr(args, option) is not None:
            told = f"--{option.replace('_', '-')}"
            raise UsageError(f"{told}: --resume without a file goes on with the settings that the experiment has")
    return recall(args.storage_path or Experiment.storage_path, args.name)


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}: {text!r}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"got {text!r}, allowed is a JSON object ({{...}})")
    return value
