"""Write a trained agent into one file that can be handed on: weights and settings, and nothing that runs.

    rllib export ~/ray_results/maze_stpn maze.safetensors
    rllib evaluate maze.safetensors --episodes 20

Checkpoints hold pickles, which run code when they are loaded. The file is in the safetensors format, and safe to load
from whomever: rllib_stpn.load and `rllib evaluate` take it. It holds agents with a layer of this package.

The exit code is 0, or 2 for a wrong input.
"""

import argparse
from pathlib import Path

from rllib_stpn import pretrained
from rllib_stpn.cli.terminal import tell
from rllib_stpn.errors import UsageError

HELP = "write a trained agent into a file without pickles"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``rllib export``."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="directory of a checkpoint, a trial or an experiment")
    parser.add_argument("file", metavar="FILE", type=Path, help=f"where to, such as maze{pretrained.SUFFIX}")


def run(args: argparse.Namespace) -> int:
    """Writes what the command line asks for and returns the exit code."""
    file = args.file.expanduser()
    if file.suffix != pretrained.SUFFIX:
        raise UsageError(f"FILE: got {str(args.file)!r}, allowed is a name that ends with {pretrained.SUFFIX}")
    from rllib_stpn.cli import ray_session

    ray_session.silence()
    from rllib_stpn.agents import agent_files
    from rllib_stpn.agents.checkpoints import find_checkpoint

    notes: list[str] = []
    path = find_checkpoint(args.checkpoint, notes.append)
    tell(notes)
    try:
        agent_files.write(path, file, {"checkpoint": path.name})
    except OSError as error:
        raise UsageError(f"FILE: {file}: cannot be written: {error.strerror}") from error
    print(f"checkpoint  {path}\nweights     {file}")
    return 0
