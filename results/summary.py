"""Prints the README's table of results, made from the committed runs.

    python results/summary.py
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rllib_stpn.report.groups import ENERGY, METRICS, SECONDS, Group, make_sections, needed_metrics
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
        file: STPN's, in tuned_examples; None where its experiment has the file's name.
    """

    task: str
    study: str
    stpn: str
    rival: str | None = None
    control: str | None = None
    file: str | None = None


ROWS = (
    Row(
        "associative retrieval: accuracy after 6M sequences",
        "associative_retrieval",
        stpn="art_stpn",
        rival="art_fast_weights",
        control="art_mlp",
    ),
    Row(
        "maze, PPO, 40M steps, the best of three learning rates",
        "maze_rates",
        stpn="stpn_0.002",
        rival="lstm_0.004",
        control="mlp_0.004",
        file="maze_stpn_ppo",
    ),
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
    Row(
        "Pong from single frames, PPO, 4M steps",
        "pong",
        stpn="pong_stpn_ppo",
        rival="pong_lstm_ppo",
        control="pong_mlp_ppo",
    ),
    Row(
        "POPGym, PPO, 1M steps: best mean return, seven environments",
        "popgym",
        stpn="stpn_12",
        rival="gru_256",
        control="mlp_256",
        file="popgym",
    ),
)


def groups(study: str, experiment: str) -> list[Group]:
    """The committed runs of an experiment, one group for each environment."""
    trials, _ = read_trials([RESULTS / study / "runs" / experiment], needed_metrics(None))
    return [group for section in make_sections(trials, None, []) for group in section.groups]


def scores(found: list[Group]) -> np.ndarray:
    """Each seed's last result; over several environments the mean of its best ones, as POPGym has it, ``[seeds]``."""
    if len(found) == 1:
        return found[0].last(*METRICS)
    best = [dict(zip(group.seeds, group.best(METRICS[0]), strict=True)) for group in found]
    in_all = set(best[0]).intersection(*best)
    return np.array([np.mean([of_seed[seed] for of_seed in best]) for seed in sorted(in_all)])


def cell(study: str, experiment: str | None) -> str:
    """The interquartile mean of the scores of all seeds, and its 95 % interval; of a rival also its layer."""
    if experiment is None:
        return "-"
    found = groups(study, experiment)
    text, layer = interquartile_mean_and_interval(scores(found)), found[0].layer
    name = layer.upper() if len(layer) <= 4 else layer.replace("_", " ")
    return text if layer == "stpn" else f"{name} {text}"


def energy_ratio(row: Row) -> str:
    """How many times STPN's energy per step the rival spends, with the 95 % interval of that."""
    if row.rival is None:
        return "-"
    stpn, rival = (groups(row.study, experiment)[0] for experiment in (row.stpn, row.rival))
    if not any(metric in trial.metrics for trial in stpn.trials for metric in ENERGY):
        return "-"
    return ratio_and_interval(rival.last(*ENERGY), stpn.last(*ENERGY))


def minutes(row: Row) -> str:
    """How long a training of STPN took on average, over seeds and environments."""
    seconds = np.mean([np.mean(group.last(SECONDS)) for group in groups(row.study, row.stpn)])
    return f"{seconds / 60:.0f}"


def table() -> str:
    """The table in Markdown."""
    lines = [
        "| task | STPN | best recurrent rival | without memory | energy ratio to STPN | seeds |"
        " STPN's file | its minutes |",
        "|---|---|---|---|---|---|---|---:|",
    ]
    for row in ROWS:
        page = RESULTS / row.study / "README.md"
        link = f"results/{row.study}/{'README' if page.exists() else 'report'}.md"
        cells = [cell(row.study, experiment) for experiment in (row.stpn, row.rival, row.control)]
        seeds = len(scores(groups(row.study, row.stpn)))
        cells += [energy_ratio(row), str(seeds), f"`{row.file or row.stpn}`", minutes(row)]
        lines.append("| " + " | ".join([f"[{row.task}]({link})", *cells]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
