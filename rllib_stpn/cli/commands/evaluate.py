"""Run a trained agent and tell how well it does.

    rllib evaluate ~/ray_results/pong_stpn --episodes 20 --seed 100 --out results.json
    rllib evaluate --pretrained maze_stpn --episodes 5 --video maze.gif

The checkpoint is one that training wrote, with any algorithm; of the directory of a trial or an experiment
the newest one is taken. Episode i starts from the environment's reset with seed S + i, and actions are the
most probable ones, so that the same command gives the same returns, with any --num-envs.

--video shows the first episode: the environment and, beside it, the fast weights of a plastic layer.

A checkpoint of supervised training is evaluated on the test data of its task, all of them, in batches as large as in
training; of the options below it takes --energy and --out.

The exit code is 0, 1 where the environment failed, or 2 for a wrong input.
"""

import argparse

from rllib_stpn import pretrained
from rllib_stpn.cli import gone_options
from rllib_stpn.cli.terminal import live, tell

HELP = "run a trained agent: returns, energy, video"
#: Of options that agents alone have; None stands for those that are not given.
OF_AGENTS = {"episodes": 10, "seed": 0, "num_envs": 8, "explore": False}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``rllib evaluate``."""
    told = "directory of a checkpoint, a trial or an experiment"
    parser.add_argument("checkpoint", metavar="CHECKPOINT", nargs="?", help=told)
    what = parser.add_argument_group("what to run")
    told = f"in place of a checkpoint, an agent that comes with the package: {', '.join(pretrained.names())}"
    what.add_argument("--pretrained", metavar="NAME", help=told)
    what.add_argument("--episodes", type=int, metavar="N", help="how many episodes (default: 10)")
    what.add_argument("--seed", type=int, metavar="S", help="of the first episode's reset (default: 0)")
    what.add_argument("--explore", action="store_true", default=None, help="sample actions as in training")
    what.add_argument("--num-envs", type=int, metavar="K", help="episodes at a time (default: 8)")
    what.add_argument("--energy", action="store_true", help="measure the energy of the layers' synapses")

    results = parser.add_argument_group("where results go")
    results.add_argument("--out", metavar="FILE", help="write the results as JSON")
    results.add_argument("--video", metavar="FILE", help="write the first episode as a GIF")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="show each episode, and warnings")
    gone_options.add(parser, gone_options.OF_EVALUATE)


def run(args: argparse.Namespace) -> int:
    """Evaluates what the command line asks for and returns the exit code."""
    given = [name for name in OF_AGENTS if getattr(args, name) is not None]
    for name in OF_AGENTS.keys() - given:
        setattr(args, name, OF_AGENTS[name])
    tell(args.gone)
    live("setting up  the agent")
    if not args.verbose:
        from rllib_stpn.cli import ray_session

        ray_session.silence()
    from rllib_stpn.cli import evaluating

    evaluating.run(args, given)
    return 0
