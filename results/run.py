"""Runs a study: its trainings one after another, then the report on them.

    python results/run.py maze --storage-path ~/studies

Interrupted at any time, the same command goes on where it was; what is finished is not run again. What the report needs
is kept in results/STUDY/runs, small enough to be committed, so `rllib report results/STUDY/runs` makes it again.
"""

import argparse
import csv
import json
import math
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rllib_stpn.report.groups import needed_metrics
from rllib_stpn.report.trials import ITERATION, at

RLLIB = Path(sys.executable).with_name("rllib")
ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "tuned_examples"
ROWS = 200  # of a curve
PATHS = ("env", "task", "seed", "lr", "model")  # of the settings that tell trainings apart


@dataclass(frozen=True)
class Study:
    """Tuned examples, each trained with several seeds.

    Attributes:
        files: Names in tuned_examples, the one to compare with first.
        seeds: A training for each.
        stop: In place of the files' own.
        config: Merged over the files' own.
        report: More arguments for ``rllib report``.
    """

    files: tuple[str, ...]
    seeds: tuple[int, ...]
    stop: dict[str, Any]
    config: dict[str, Any] = field(default_factory=dict)
    report: tuple[str, ...] = ()


STUDIES = {
    "associative_retrieval": Study(
        tuple(
            f"art_{layer}"
            for layer in ("stpn", "stpnf", "stpn_scalar", "rnn", "lstm", "fast_weights", "modulated", "hebbff")
        ),
        seeds=(0, 1, 2),
        stop={"training_iteration": 60},
        report=("--threshold", "0.999"),
    ),
    "maze": Study(
        ("maze_stpn_fast", "maze_lstm_fast", "maze_rnn", "maze_modulated", "maze_mlp"),
        seeds=(0, 1),
        stop={"time_total_s": 1800},
        config={"callbacks": "energy"},
        report=("--threshold", "100"),
    ),
    "maze_ppo": Study(
        ("maze_stpn_ppo", "maze_lstm_ppo"),
        seeds=(0, 1),
        stop={"num_env_steps_sampled_lifetime": 40_000_000},
        config={"callbacks": "energy"},
        report=("--threshold", "100"),
    ),
    "inverted_pendulum": Study(
        tuple(f"inverted_pendulum_{layer}" for layer in ("stpnf", "mlp", "rnn", "lstm")),
        seeds=(0, 1),
        stop={"num_env_steps_sampled_lifetime": 200_000},
        config={"callbacks": "energy"},
        report=("--threshold", "950"),
    ),
    "pong": Study(("pong_stpn_ppo",), seeds=(0,), stop={"time_total_s": 7740}, report=("--threshold", "18")),
}


def train(file: str, study: Study, storage: Path) -> None:
    """Runs what is left of the trainings of one file."""
    config = {**study.config, "seed": {"grid_search": list(study.seeds)}}
    subprocess.run(
        [
            *(RLLIB, "train", "-f", f"tuned_examples/{file}.yaml", "--storage-path", storage.absolute(), "--resume"),
            *("--stop", json.dumps(study.stop), "--config", json.dumps(config), "--checkpoint-freq", "20"),
            *("--keep-checkpoints-num", "1"),
        ],
        check=True,
        cwd=ROOT,  # so that the command is kept as others would type it
    )


def keep(experiment: Path, target: Path) -> None:
    """Copies what the report needs of an experiment: at most ``ROWS`` results of each training."""
    shutil.rmtree(target, ignore_errors=True)
    for trial in sorted(path.parent for path in experiment.glob("*/result.json")):
        results = [json.loads(line) for line in (trial / "result.json").read_text(encoding="utf-8").splitlines()]
        chosen = {round(i * (len(results) - 1) / max(ROWS - 1, 1)) for i in range(ROWS)}
        metrics = [ITERATION, *needed_metrics(None)]
        metrics = [metric for metric in metrics if any(at(result, metric) is not None for result in results)]
        (target / trial.name).mkdir(parents=True)
        with (target / trial.name / "progress.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(metrics)
            writer.writerows(
                [_short(at(results[i], metric)) for metric in metrics] for i in sorted(chosen) if i < len(results)
            )
        settings = json.loads((trial / "params.json").read_text(encoding="utf-8"))
        kept = {key: settings[key] for key in PATHS if key in settings}
        (target / trial.name / "params.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    started = (experiment / "started.jsonl").read_text(encoding="utf-8")
    started = re.sub(r" --storage-path [^ \"]+", "", started)
    started = re.sub(r" -f [^ \"]*/(?=tuned_examples/)", " -f ", started)
    (target / "started.jsonl").write_text(started, encoding="utf-8")


def report(study: str, out: Path) -> None:
    """Writes the report on the kept runs of a study, without the HTML page: the same in one large file."""
    runs = [str(Path(__file__).parent / study / "runs" / file) for file in STUDIES[study].files]
    subprocess.run([RLLIB, "report", *runs, "--out", out, *STUDIES[study].report], check=True)
    (out / "report.html").unlink()


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.9g}"
    return value


def main() -> None:
    """Runs the study that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--storage-path", type=Path, default=Path("~/ray_results/studies").expanduser())
    args = parser.parse_args()
    study, out = STUDIES[args.study], Path(__file__).parent / args.study
    for number, file in enumerate(study.files, 1):
        print(f"== {args.study}: {file} ({number} of {len(study.files)})", flush=True)
        train(file, study, args.storage_path)
        keep(args.storage_path / file, out / "runs" / file)
    report(args.study, out)


if __name__ == "__main__":
    main()
