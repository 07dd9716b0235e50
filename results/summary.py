"""Prints the README's table of results, made from the committed runs.

    python results/summary.py
"""

from dataclasses import dataclass
from pathlib import Path

from rllib_stpn.report.groups import ENERGY, METRICS, Group, make_sections, needed_metrics
from rllib_stpn.report.numbers import interquartile_mean_and_interval, ratio_and_interval
from rllib_stpn.report.trials import read_trials

RESULTS = Path(__file__).parent


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        task: What was learned, and for how long.
        study: Whose runs, and where the curves are.
        stpn: The experiment of STPN.
        rival: That of the best recurrent rival.
        control: That of the layer without memory; None where it was not run.
    """

    task: str
    study: str
    stpn: str
    rival: str | None = None
    control: str | None = None


ROWS = (
    Row(
        "associative retrieval: accuracy after 6M sequences",
        "associative_retrieval",
        stpn="art_stpn",
        rival="art_fast_weights",
    ),
    Row("maze, PPO, 40M steps", "maze_ppo", stpn="maze_stpn_ppo", rival="maze_lstm_ppo"),
    Row(
        "maze, A2C, 30 minutes on a core",
        "maze",
        stpn="maze_stpn_fast",
        rival="maze_lstm_fast",
        control="maze_mlp",
    ),
    Row(
        "inverted pendulum, 200k steps",
        "inverted_pendulum",
        stpn="inverted_pendulum_stpnf",
        rival="inverted_pendulum_lstm",
        control="inverted_pendulum_mlp",
    ),
    Row("Pong from single frames, PPO, 4M steps", "pong", stpn="pong_stpn_ppo", rival="pong_lstm_ppo"),
)


def group(study: str, experiment: str) -> Group:
    """The committed runs of an experiment."""
    trials, _ = read_trials([RESULTS / study / "runs" / experiment], needed_metrics(None))
    (section,) = make_sections(trials, None, [])
    (only,) = section.groups
    return only


def cell(study: str, experiment: str | None) -> str:
    """The interquartile mean of the last results over seeds, and its 95 % interval; of a rival also its layer."""
    if experiment is None:
        return "-"
    found = group(study, experiment)
    text = interquartile_mean_and_interval(found.last(*METRICS))
    name = found.layer.upper() if len(found.layer) <= 4 else found.layer.replace("_", " ")
    return text if found.layer == "stpn" else f"{name} {text}"


def energy_ratio(row: Row) -> str:
    """How many times STPN's energy per step the rival spends, with the 95 % interval of that."""
    if row.rival is None:
        return "-"
    stpn, rival = (group(row.study, experiment).last(*ENERGY) for experiment in (row.stpn, row.rival))
    return ratio_and_interval(rival, stpn)


def table() -> str:
    """The table in Markdown."""
    lines = [
        "| task | STPN | best recurrent rival | without memory | energy ratio to STPN | seeds |",
        "|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        page = RESULTS / row.study / "README.md"
        link = f"results/{row.study}/{'README' if page.exists() else 'report'}.md"
        cells = [cell(row.study, experiment) for experiment in (row.stpn, row.rival, row.control)]
        seeds = len(group(row.study, row.stpn).trials)
        lines.append("| " + " | ".join([f"[{row.task}]({link})", *cells, energy_ratio(row), str(seeds)]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
