"""Runs a study: its trainings one after another, then the report on them.

    python results/run.py maze --storage-path ~/studies

Interrupted at any time, the same command goes on where it was; what is finished is not run again. What the report needs
is kept in results/STUDY/runs, small enough to be committed, so `rllib report results/STUDY/runs` makes it again. With
--so-far nothing is trained: what there is gets kept and reported. Other options, such as --ray-num-cpus 1, go to
`rllib train`.
"""

import argparse
import csv
import itertools
import json
import math
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from rllib_stpn.causes import root_error
from rllib_stpn.provenance import recorded
from rllib_stpn.report.groups import needed_metrics
from rllib_stpn.report.trials import ITERATION, at, json_rows

RLLIB = Path(sys.executable).with_name("rllib")
ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "tuned_examples"
ROWS = 200  # of a curve
ERROR, FAILED = "error.txt", 1  # Tune's file, and the status of a command whose training failed
PATHS = ("env", "task", "seed", "lr", "model")  # of the settings that tell trainings apart


@dataclass(frozen=True)
class Study:
    """Tuned examples, each trained with several seeds.

    Attributes:
        files: Names in tuned_examples, the one that ratios are to first.
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

    def kept(self) -> list[str]:
        """The directories of runs that a report is on, the one that ratios are to first."""
        return list(self.files)

    def run(self, storage: Path, runs: Path, so_far: bool, options: Sequence[str] = ()) -> None:
        """Runs what is left of the trainings, and keeps what the report needs."""
        config = {**self.config, "seed": {"grid_search": list(self.seeds)}}
        for number, file in enumerate(self.files, 1):
            print(f"== {file} ({number} of {len(self.files)})", flush=True)
            if not so_far:
                train(file, file, self.stop, config, storage, options)
            if (storage / file).is_dir():
                keep(storage / file, runs / file)


@dataclass(frozen=True)
class Training:
    """One of those that run one after the other.

    Attributes:
        file: Its name in tuned_examples.
        directory: Of its kept results, which it shares with what it is averaged with.
        name: Of its own directory in there.
        config: Merged over the file's and the study's own.
    """

    file: str
    directory: str
    name: str
    config: dict[str, Any]


class OneByOne(Study):
    """One training after the other. What is finished among the kept runs is not run again, even without its storage."""

    def trainings(self) -> Iterator[Training]:
        """All of them, in their order."""
        raise NotImplementedError

    def kept(self) -> list[str]:
        """The directories of runs that a report is on, the one that ratios are to first."""
        return list(dict.fromkeys(training.directory for training in self.trainings()))

    def run(self, storage: Path, runs: Path, so_far: bool, options: Sequence[str] = ()) -> None:
        """Runs what is left of the trainings, and keeps what the report needs."""
        for training in self.trainings():
            if self.is_finished(runs / training.directory / training.name / "progress.csv"):
                continue
            experiment = f"{training.file}_{training.directory}_{training.name}"
            if not so_far:
                print(f"== {training.directory}: {training.name}", flush=True)
                try:
                    train(training.file, experiment, self.stop, {**self.config, **training.config}, storage, options)
                except subprocess.CalledProcessError as error:
                    if error.returncode != FAILED:  # it was interrupted, or never began
                        raise
            if (storage / experiment).is_dir():
                self._keep(storage / experiment, runs / training.directory, training.name)

    def is_finished(self, progress: Path) -> bool:
        """Whether kept results came to where a training stops, or to an error."""
        if not progress.exists():
            return False
        if progress.with_name(ERROR).exists():
            return True
        with progress.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return bool(rows) and any(float(rows[-1].get(metric) or "nan") >= value for metric, value in self.stop.items())

    def _keep(self, experiment: Path, target: Path, name: str) -> None:
        """Keeps the one training of an experiment among the others of its layer."""
        with tempfile.TemporaryDirectory() as made:
            keep(experiment, Path(made) / "kept")
            progress = next(Path(made).glob("kept/*/progress.csv"), None)
            if progress is None:  # it has no result
                return
            shutil.rmtree(target / name, ignore_errors=True)
            shutil.copytree(progress.parent, target / name)
            started = Path(made) / "kept/started.jsonl"
            lines = [json.loads(line) for line in started.read_text(encoding="utf-8").splitlines()]
        before = target / "started.jsonl"
        if before.exists():
            lines += [json.loads(line) for line in before.read_text(encoding="utf-8").splitlines()]
        for line in lines:  # the trainings' own are as many as there are trainings
            line["command"] = f"python results/run.py {target.parents[1].name}"
        by_machine = {json.dumps([line["versions"], line["machine"]], sort_keys=True): line for line in lines}
        text = "".join(json.dumps(line) + "\n" for line in by_machine.values())
        before.write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Sweep(OneByOne):
    """A tuned example that is a sweep over environments and models. All of the first seed come before the second's.

    Attributes:
        environments: Groups of ids: every model is trained in the first group before the second.
    """

    environments: Sequence[Sequence[str]] = ()

    def trainings(self) -> Iterator[Training]:
        """Each seed's, group by group and model by model."""
        (file,) = self.files
        example = yaml.safe_load((EXAMPLES / f"{file}.yaml").read_text(encoding="utf-8"))[file]
        models = example["config"]["model"]["grid_search"]
        for seed, group in itertools.product(self.seeds, self.environments):
            for model, env in itertools.product(models, group):
                yield Training(
                    file,
                    f"{model['custom_model']}_{model['custom_model_config']['hidden_size']}",
                    f"{example['run']}_{env.split('/')[-1].removesuffix('-v0')}_{seed}",
                    {"env": env, "model": model, "seed": seed},
                )


@dataclass(frozen=True)
class Rates(OneByOne):
    """Models, each at several learning rates. All of the first seed come before the second's.

    Attributes:
        models: By the names of their directories a file and what differs from its ``model``.
        rates: At the start; they fall in a line to a last one.
        last_rate: The last one, which is reached at the study's last step.
    """

    models: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    rates: Sequence[float] = ()
    last_rate: float = 1e-4

    def trainings(self) -> Iterator[Training]:
        """Each seed's, rate by rate and model by model."""
        (steps,) = self.stop.values()
        for seed, rate, (name, (file, model)) in itertools.product(self.seeds, self.rates, self.models.items()):
            schedule = [[0, rate], [steps, self.last_rate]]
            yield Training(file, f"{name}_{rate:g}", f"seed_{seed}", {"model": model, "lr": schedule, "seed": seed})


STUDIES = {
    "associative_retrieval": Study(
        tuple(
            f"art_{layer}"
            for layer in ("stpn", "stpnf", "stpn_scalar", "rnn", "lstm", "fast_weights", "modulated", "hebbff", "mlp")
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
    "maze_rates": Rates(
        tuple(f"maze_{layer}_ppo" for layer in ("stpn", "modulated", "lstm", "gru", "mlp")),
        seeds=(0, 1),
        stop={"num_env_steps_sampled_lifetime": 40_000_000},
        config={"callbacks": "energy"},
        models={
            "stpn": ("maze_stpn_ppo", {}),
            "stpn_post": ("maze_stpn_ppo", {"custom_model_config": {"normalize": "post"}}),
            "modulated": ("maze_modulated_ppo", {}),
            "lstm": ("maze_lstm_ppo", {}),
            "gru": ("maze_gru_ppo", {}),
            "mlp": ("maze_mlp_ppo", {}),
        },
        rates=(2e-3, 4e-3, 1e-3),
        report=("--threshold", "100"),
    ),
    "inverted_pendulum": Study(
        tuple(f"inverted_pendulum_{layer}" for layer in ("stpnf", "mlp", "rnn", "lstm")),
        seeds=(0, 1),
        stop={"num_env_steps_sampled_lifetime": 200_000},
        config={"callbacks": "energy"},
        report=("--threshold", "950"),
    ),
    "pong": Study(
        ("pong_stpn_ppo", "pong_lstm_ppo", "pong_mlp_ppo"),
        seeds=(0, 1),
        stop={"num_env_steps_sampled_lifetime": 4_000_000},
        config={"callbacks": "energy"},
        report=("--threshold", "18"),
    ),
    "pong_a2c": Study(
        ("pong_stpn",),
        seeds=(0,),
        stop={"num_env_steps_sampled_lifetime": 100_000_000},
        report=("--threshold", "18"),
    ),
    "trials": Study(
        tuple(f"trials_bandit_{layer}" for layer in ("stpn", "lstm", "mlp")),
        seeds=(0, 1, 2),
        stop={"num_env_steps_sampled_lifetime": 600_000},
        report=("--threshold", "12"),
    ),
    "previous": Study(
        ("bandit_stpn", "bandit_lstm", "bandit_stpn_blind", "bandit_lstm_blind"),
        seeds=(0, 1, 2),
        stop={"num_env_steps_sampled_lifetime": 150_000},
        report=("--threshold", "11.5"),
    ),
    "recurrent_dqn": Study(
        ("stateless_cartpole_dqn_stpn", "stateless_cartpole_dqn_mlp"),
        seeds=(0, 1, 2),
        stop={"num_env_steps_sampled_lifetime": 20_000},
        report=("--threshold", "100"),
    ),
    "popgym": Sweep(
        ("popgym",),
        seeds=(0, 1),
        stop={"num_env_steps_sampled_lifetime": 1_000_000, "env_runners/episode_return_mean": 0.9995},
        environments=(
            ("stpn_envs:stpn/RepeatFirstEasy-v0", "stpn_envs:stpn/RepeatPreviousEasy-v0"),
            (
                "stpn_envs:stpn/PositionOnlyCartPoleEasy-v0",
                "stpn_envs:stpn/NoisyPositionOnlyCartPoleEasy-v0",
                "stpn_envs:stpn/HigherLowerEasy-v0",
                "stpn_envs:stpn/MultiarmedBanditEasy-v0",
                "stpn_envs:stpn/AutoencodeEasy-v0",
            ),
        ),
        report=("--threshold", "0.95"),
    ),
}


def train(
    file: str, experiment: str, stop: dict[str, Any], config: dict[str, Any], storage: Path, options: Sequence[str]
) -> None:
    """Runs what is left of the trainings of one file, to its end: it gets a Ctrl-C too, and a SIGTERM is passed on."""
    name = () if experiment == file else ("--experiment-name", experiment)
    command = [
        *(RLLIB, "train", "-f", f"tuned_examples/{file}.yaml", *name, "--storage-path", storage.absolute()),
        *("--resume", "--stop", json.dumps(stop), "--config", json.dumps(config), "--checkpoint-freq", "20"),
        *("--keep-checkpoints-num", "1", *options),
    ]
    handlers = {signal.SIGINT: lambda *_: None, signal.SIGTERM: lambda *_: process.terminate()}
    with subprocess.Popen(command, cwd=ROOT) as process:  # there, so that the command is kept as others would type it
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            status = process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    if status:
        raise subprocess.CalledProcessError(status, command)


def keep(experiment: Path, target: Path) -> None:
    """Copies what the report needs of an experiment: at most ``ROWS`` results of each training that has one."""
    shutil.rmtree(target, ignore_errors=True)
    for trial in sorted(path.parent for path in experiment.glob("*/result.json")):
        results = [result for _, result in json_rows(trial / "result.json") if result]
        if not results:  # so far
            continue
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
        if (trial / ERROR).exists() and not results[-1].get("done"):  # of no attempt before
            cause = root_error((trial / ERROR).read_text(encoding="utf-8"))
            (target / trial.name / ERROR).write_text(f"{cause.kind}: {cause.message}\n", encoding="utf-8")
    if target.is_dir():
        lines = [line | {"command": _as_typed(line["command"])} for line in recorded(experiment)]
        (target / "started.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _as_typed(command: str) -> str:
    """A command without where its files were on this machine."""
    words = shlex.split(command)
    if "--storage-path" in words:
        place = words.index("--storage-path")
        del words[place : place + 2]
    return shlex.join(re.sub(r"^.*/(?=tuned_examples/)", "", word) for word in words)


def report(study: str, out: Path) -> None:
    """Writes the report on the kept runs of a study, without the HTML page: the same in one large file."""
    runs = Path(__file__).parent / study / "runs"
    kept = [name for name in STUDIES[study].kept() if (runs / name).is_dir()]
    subprocess.run(
        [RLLIB, "report", *(runs / name for name in kept), "--out", out, "--baseline", kept[0], *STUDIES[study].report],
        check=True,
    )
    (out / "report.html").unlink()
    for picture in out.glob("*.png"):  # a third as large with 256 colours
        with Image.open(picture) as full:
            small = full.convert("RGB").quantize()
        small.save(picture, optimize=True)


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.9g}"
    return value


def main() -> None:
    """Runs the study that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--storage-path", type=Path, default=Path("~/ray_results/studies").expanduser())
    parser.add_argument("--so-far", action="store_true", help="train nothing, keep and report what there is")
    args, options = parser.parse_known_args()
    out = Path(__file__).parent / args.study
    try:
        STUDIES[args.study].run(args.storage_path, out / "runs", args.so_far, options)
    except subprocess.CalledProcessError as error:
        print(
            f"{args.study} is not finished: a training ended with status {error.returncode}. The same command goes on."
        )
        sys.exit(error.returncode)
    report(args.study, out)


if __name__ == "__main__":
    main()
