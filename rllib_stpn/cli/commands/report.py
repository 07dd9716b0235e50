"""Tables and figures of finished trainings, or of those under way.

    rllib report ~/ray_results/pong_stpn ~/ray_results/pong_lstm --out report/ --threshold 18

The directories are of Tune's trials, of experiments, or hold such ones. What differs in its seed alone is one line of
the figures: interquartile mean and 95 % bootstrap interval. Of trainings with the same seed the longest counts. Energy
is told where it was measured.

In --out: report.md, report.html (one file with all in it), and the figures as PNG.

The exit code is 0, or 2 for a wrong input; files that are missing or half-written are named and left out.
"""

import argparse
import math
from pathlib import Path

from rllib_stpn.cli.terminal import tell
from rllib_stpn.errors import UsageError

HELP = "tables and figures of finished trainings"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``rllib report``."""
    parser.add_argument("directories", metavar="DIR", nargs="+", type=Path, help="directories with results of Tune")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("report"), help="default: report/")
    parser.add_argument(
        "--metric",
        metavar="PATH",
        help="what tells success (default: env_runners/episode_return_mean, or of supervised training "
        "validation_accuracy, or validation_perplexity where there is one)",
    )
    parser.add_argument(
        "--threshold", metavar="X", type=float, help="tell the steps and minutes until the metric was this good"
    )
    parser.add_argument(
        "--baseline",
        metavar="LAYER",
        help="the layer or experiment that energy ratios are to (default: the first found)",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the report and returns the exit code."""
    if args.threshold is not None and not math.isfinite(args.threshold):
        raise UsageError(f"--threshold: got {args.threshold}, allowed is a number")
    from rllib_stpn.report.report import write_report

    directories = [directory.expanduser() for directory in args.directories]
    tell(write_report(directories, args.out.expanduser(), args.metric, args.threshold, args.baseline))
    for name in ("report.md", "report.html"):
        print(f"report      {args.out / name}")
    return 0
