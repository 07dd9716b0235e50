"""Makes docs/retrieval.png, the README's figure: STPN and its rivals learn associative retrieval, or do not.

    python results/retrieval_figure.py
"""

import dataclasses
from pathlib import Path

from rllib_stpn.report import figures
from rllib_stpn.report.groups import make_sections, needed_metrics
from rllib_stpn.report.trials import read_trials

ROOT = Path(__file__).resolve().parents[1]
METRIC = "validation_accuracy"
SHOWN = {
    "art_stpn": "STPN",
    "art_fast_weights": "fast weights",
    "art_modulated": "modulated plastic RNN",
    "art_lstm": "LSTM",
    "art_rnn": "RNN",
}


def main(file: Path = ROOT / "docs/retrieval.png") -> None:
    """Draws the committed runs."""
    runs = [ROOT / "results/associative_retrieval/runs" / name for name in SHOWN]
    trials, notes = read_trials(runs, needed_metrics(METRIC))
    (section,) = make_sections(trials, METRIC, notes)
    groups = [dataclasses.replace(group, label=SHOWN[group.experiment]) for group in section.groups]
    figure = figures.learning_curves(dataclasses.replace(section, groups=groups), None)
    figure.set_size_inches(10, 4.2)
    figure.axes[0].axhline(0.4, color="0.5", linewidth=1, linestyle=(0, (6, 3)), zorder=0)
    figure.axes[0].annotate("guessing a digit shown", (0.99, 0.4), xycoords=("axes fraction", "data"),
                            xytext=(0, -12), textcoords="offset points", ha="right", color="0.4")  # fmt: skip
    figure.savefig(file)


if __name__ == "__main__":
    main()
