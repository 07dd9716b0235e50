"""Show and run the tuned examples that come with the package.

    rllib example list                   names, and what each is about
    rllib example get art_stpn           the file's text: > mine.yaml makes a copy to change
    rllib example run art_stpn --stop '{"training_iteration": 2}'

`run` takes every option of `rllib train`.

The exit code is that of `rllib train`, and 2 for a name that is no example's.
"""

import argparse

from rllib_stpn.cli.commands import train
from rllib_stpn.errors import UsageError

HELP = "list, show or run a tuned example"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``list``, ``get`` and ``run``."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="names, and what each is about", allow_abbrev=False)
    listing.add_argument("-f", "--filter", default="", metavar="TEXT", help="those with TEXT in their name")
    listing.set_defaults(action=_list)
    getting = actions.add_parser("get", help="print the file", allow_abbrev=False)
    getting.add_argument("example", metavar="NAME")
    getting.set_defaults(action=_get)
    running = actions.add_parser("run", help="train it", allow_abbrev=False)
    running.add_argument("example", metavar="NAME")
    train.add_options(running)
    running.set_defaults(action=_run)


def run(args: argparse.Namespace) -> int:
    """Does what the command line asks for and returns the exit code."""
    return args.action(args)


def _list(args: argparse.Namespace) -> int:
    from rllib_stpn.experiments import examples

    names = [name for name in examples.names() if args.filter in name]
    if not names:
        raise UsageError(f"--filter: got {args.filter!r}, which no example has in its name")
    width = max(map(len, names))
    for name in names:
        print(f"{name:<{width}}  {examples.about(name)}")
    return 0


def _get(args: argparse.Namespace) -> int:
    from rllib_stpn.experiments import examples

    print(examples.find(args.example).read_text(encoding="utf-8"), end="")
    return 0


def _run(args: argparse.Namespace) -> int:
    from rllib_stpn.experiments import examples

    args.words, args.config_file = [], [str(examples.find(args.example))]
    return train.run(args)
