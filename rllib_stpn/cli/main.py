"""The entry point ``rllib``."""

import argparse
import importlib
import importlib.metadata
import os
import pkgutil
import platform
import signal
import sys
import textwrap
from collections.abc import Sequence

from rllib_stpn.cli import commands, gone_options, terminal
from rllib_stpn.errors import RolloutError, UsageError, did_you_mean, one_of


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line.

    Args:
        argv: The arguments after ``rllib``; those of the process by default.

    Returns:
        The exit code: 0 done, 1 a run that failed, 2 a wrong input (told in one line on stderr), 130 and 143
        stopped by Ctrl-C and by SIGTERM, 141 when nobody reads the output any more.
    """
    with terminal.prepared():
        try:
            args = _arguments(sys.argv[1:] if argv is None else argv)
            # A console script does not look for modules where the user stands, and their environments are there.
            if os.getcwd() not in sys.path:
                sys.path.insert(1, os.getcwd())
            return args.command(args)
        except UsageError as error:
            print(f"rllib: error: {' '.join(str(error).split())}", file=sys.stderr)
            return 2
        except RolloutError as error:
            print(f"rllib: failed: {' '.join(str(error).split())}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("rllib: interrupted", file=sys.stderr)
            return 130


def command() -> None:
    """The process ``rllib``: a signal that comes after :func:`main` ends it, without a traceback."""
    code = main()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(code)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    today = gone_options.COMMANDS.get(argv[0]) if argv else None
    if today is not None:
        raise UsageError(f"{argv[0]}: rllib {today} takes its place (see: rllib {today} --help)")
    parser, names = _parser(), _commands()
    if argv and did_you_mean(argv[0], names):
        raise one_of("COMMAND", argv[0], names)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        args.parser.refuse(unknown)
    return args


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        """Raises what argparse prints over several lines."""
        raise UsageError(f"{message} (see: {self.prog} --help)")

    def refuse(self, unknown: Sequence[str]) -> None:
        """Raises for arguments that the command does not have, with the option that the first may stand for."""
        hint = did_you_mean(unknown[0].split("=")[0], self._option_string_actions, most=1)
        self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")


class _Help(argparse.RawDescriptionHelpFormatter):
    """Paragraphs of a description are filled to the terminal's width; what is indented stays as it is."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.strip("\n").split("\n\n")
        return "\n\n".join(
            paragraph if paragraph.startswith(" ") else textwrap.fill(" ".join(paragraph.split()), width)
            for paragraph in paragraphs
        )


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Prints the versions that decide what a training does."""
        names = ("rllib-stpn", "ray", "torch", "numpy", "gymnasium")
        print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in names), end="")
        print(f", Python {platform.python_version()}")
        parser.exit()


def _commands() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(commands.__path__)]


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="rllib",
        description="Train RLlib agents from YAML files, with memory in their synapses or without.",
        epilog="`rllib COMMAND --help` tells the options of a command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the versions of this package, Ray and torch")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in _commands():
        command = importlib.import_module(f"{commands.__name__}.{name}")
        subparser = subparsers.add_parser(
            name,
            help=command.HELP,
            description=command.__doc__,
            formatter_class=_Help,
            allow_abbrev=False,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(command=command.run, parser=subparser)
    return parser


if __name__ == "__main__":
    command()
