"""What is committed under ``results``."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rllib_stpn.report.trials import read_trials

RESULTS = Path(__file__).parents[1] / "results"
RUN = runpy.run_path(str(RESULTS / "run.py"))
SUMMARY = runpy.run_path(str(RESULTS / "summary.py"))
STUDIES = sorted(directory.parent for directory in RESULTS.glob("*/runs"))


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_the_report_is_made_again_from_the_committed_runs(study, tmp_path):
    RUN["report"](study.name, tmp_path)
    assert (tmp_path / "report.md").read_text() == (study / "report.md").read_text()
    figures = {path.name for path in tmp_path.glob("*.png")}
    assert figures and figures == {path.name for path in study.glob("*.png")}


def test_tables_in_the_readme_and_the_docs_are_made_from_the_committed_runs():
    assert SUMMARY["table"]() in (RESULTS.parent / "README.md").read_text()
    report = (RESULTS / "associative_retrieval/report.md").read_text()
    tables = [block for block in report.split("\n\n") if block.startswith("|")]
    lines = 2 + len(RUN["STUDIES"]["associative_retrieval"].files)
    assert [block.count("\n") + 1 for block in tables] == [lines, lines]
    assert "\n\n".join(tables) in (RESULTS.parent / "docs/results.md").read_text()


def test_the_clones_returns_in_the_docs_are_those_that_were_kept():
    returns = json.loads((RESULTS / "clones/clones.json").read_text())
    table = runpy.run_path(str(RESULTS / "clones.py"))["table"](returns)
    assert table in (RESULTS.parent / "docs/results.md").read_text()


@pytest.mark.parametrize("study", ["popgym", "maze_rates"])
def test_a_studys_own_table_and_figure_are_made_from_its_committed_runs(study, tmp_path):
    script = runpy.run_path(str(RESULTS / f"{study}.py"))
    rows = script["rows"]()
    assert script["table"](rows) in (RESULTS / study / "README.md").read_text()
    script["figure"](rows).savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_the_readmes_figure_is_drawn_from_the_committed_runs(tmp_path):
    runpy.run_path(str(RESULTS / "retrieval_figure.py"))["main"](tmp_path / "retrieval.png")
    assert (tmp_path / "retrieval.png").stat().st_size > 10_000


def test_pictures_are_small():
    pictures = [
        *RESULTS.rglob("*.png"),
        *(RESULTS.parent / "docs").glob("*.png"),
        *(RESULTS.parent / "docs").glob("*.gif"),
    ]
    assert pictures and not [picture for picture in pictures if picture.stat().st_size > 300_000]


def test_nothing_but_studies_lies_in_results():
    directories = {path.name for path in RESULTS.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert directories <= {*RUN["STUDIES"], "maze_settings", "inside", "within_trial", "clones"}


def test_studies_name_files_that_are_there():
    for study in RUN["STUDIES"].values():
        assert all((RUN["EXAMPLES"] / f"{file}.yaml").is_file() for file in study.files)


def test_of_a_training_is_kept_what_its_report_needs(tmp_path):
    trial = tmp_path / "experiment/A2C_somewhere"
    trial.mkdir(parents=True)
    results = [
        {
            "training_iteration": i,
            "env_runners": {"episode_return_mean": float(i) if i > 1 else float("nan")},
            "more": 1,
        }
        for i in range(1, 1001)
    ]
    (trial / "result.json").write_text("".join(json.dumps(result) + "\n" for result in results))
    (trial / "params.json").write_text(json.dumps({"env": "Somewhere-v0", "seed": 3, "callbacks": "a path"}))
    (trial / "error.txt").write_text("Traceback (most recent call last):\n  ...\nValueError: not finite\n")
    command = "rllib train -f /home/me/tuned_examples/x.yaml --storage-path /home/me --seed 3"
    started = {"command": command, "versions": {}, "machine": "one"}
    (trial.parent / "started.jsonl").write_text(json.dumps(started) + "\n")
    RUN["keep"](trial.parent, tmp_path / "kept")
    (kept,), notes = read_trials([tmp_path / "kept"], ["env_runners/episode_return_mean"])
    curve = kept.metrics["env_runners/episode_return_mean"]
    assert (len(curve), curve[1] > 1, curve[-1]) == (RUN["ROWS"], True, 1000.0)
    assert notes == ["kept/A2C_somewhere ended with an error, after the results shown: ValueError: not finite"]
    assert kept.settings == {"env": "Somewhere-v0", "seed": 3}
    assert (tmp_path / "kept/A2C_somewhere/error.txt").read_text() == "ValueError: not finite\n"
    command = json.loads((tmp_path / "kept/started.jsonl").read_text())["command"]
    assert command == "rllib train -f tuned_examples/x.yaml --seed 3"


def test_what_has_no_whole_result_yet_is_not_kept(tmp_path):
    """`--so-far` beside a training that has just begun, or is writing a line."""
    experiment, kept = tmp_path / "my studies/experiment", tmp_path / "kept"
    begun = {"command": f"rllib train -f /a/tuned_examples/x.yaml --storage-path '{tmp_path}/my studies' --resume"}
    for number, text in enumerate(("", '{"training_iteration": 1}\n{"training_it', "{")):
        (experiment / f"trial_{number}").mkdir(parents=True)
        (experiment / f"trial_{number}/result.json").write_text(text)
        (experiment / f"trial_{number}/params.json").write_text('{"env": "Somewhere-v0"}')
        (experiment / f"trial_{number}/error.txt").write_text("ValueError: no\n")
    (experiment / "started.jsonl").write_text(json.dumps({**begun, "versions": {}, "machine": "one"}) + "\n")
    RUN["keep"](experiment, kept)
    assert {path.name for path in kept.iterdir()} == {"trial_1", "started.jsonl"}
    assert (
        json.loads((kept / "started.jsonl").read_text())["command"] == "rllib train -f tuned_examples/x.yaml --resume"
    )
    assert not RUN["STUDIES"]["popgym"].is_finished(tmp_path / "kept/trial_0/progress.csv")
    (kept / "trial_1/error.txt").unlink()
    assert not RUN["STUDIES"]["popgym"].is_finished(tmp_path / "kept/trial_1/progress.csv")
    (kept / "trial_1/progress.csv").write_text("\n\n")
    assert not RUN["STUDIES"]["popgym"].is_finished(tmp_path / "kept/trial_1/progress.csv")


def test_a_sweeps_trainings_are_kept_by_layer(tmp_path):
    study, seed, started = RUN["STUDIES"]["popgym"], 0, {"versions": {}, "machine": "one"}
    for env, returns in (("RepeatFirstEasy", [0.5, 1.0, 0.9]), ("RepeatPreviousEasy", [-0.5, 0.2, 0.3])):
        trial = tmp_path / f"popgym_gru_256_PPO_{env}_{seed}/PPO_anywhere"
        trial.mkdir(parents=True)
        results = [
            {
                "training_iteration": i,
                "num_env_steps_sampled_lifetime": i * 1000,
                "env_runners": {"episode_return_mean": value},
            }
            for i, value in enumerate(returns, 1)
        ]
        (trial / "result.json").write_text("".join(json.dumps(result) + "\n" for result in results))
        (trial / "params.json").write_text(json.dumps({"env": env, "seed": seed}))
        command = "rllib train -f tuned_examples/popgym.yaml --experiment-name " + trial.parent.name
        (trial.parent / "started.jsonl").write_text(json.dumps({"command": command, **started}) + "\n")
    for _ in range(2):
        study.run(tmp_path, tmp_path / "popgym/runs", so_far=True)
    kept = tmp_path / "popgym/runs/gru_256"
    trials, notes = read_trials([kept], ["env_runners/episode_return_mean"])
    assert ([trial.subject for trial in trials], notes) == (["RepeatFirstEasy", "RepeatPreviousEasy"], [])
    lines = (kept / "started.jsonl").read_text().splitlines()
    assert [json.loads(line)["command"] for line in lines] == ["python results/run.py popgym"]


def test_every_model_is_trained_at_every_rate_and_the_first_seeds_come_first():
    study = RUN["STUDIES"]["maze_rates"]
    trainings = list(study.trainings())
    assert len(trainings) == len({(each.directory, each.name) for each in trainings}) == 6 * 3 * 2
    assert study.kept() == [each.directory for each in trainings[:18]]
    assert [each.config["seed"] for each in trainings] == [0] * 18 + [1] * 18
    (steps,) = study.stop.values()
    assert all(each.config["lr"][1] == [steps, 1e-4] for each in trainings)


def test_a_training_is_finished_at_its_last_step_its_best_return_or_an_error(tmp_path):
    study, path = RUN["STUDIES"]["popgym"], tmp_path / "progress.csv"
    header = ",".join(study.stop)
    steps, best = study.stop.values()
    for row, finished in ((f"{steps - 1},0.5", False), (f"{steps},-1", True), (f"1000,{best}", True), ("1000,", False)):
        path.write_text(f"{header}\n1,1\n{row}\n")
        assert study.is_finished(path) is finished
    (tmp_path / RUN["ERROR"]).write_text("ValueError: of no use to try again\n")
    assert study.is_finished(path)
    path.unlink()
    assert not study.is_finished(path)


@pytest.mark.parametrize(
    ("number", "kill", "code"),
    [
        pytest.param(signal.SIGTERM, os.kill, 143, id="of a scheduler, to the study alone"),
        pytest.param(signal.SIGINT, os.killpg, 130, id="of a terminal, to all", marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_study_saves_its_training_and_says_how_to_go_on(tmp_path, number, kill, code):
    command = [sys.executable, RESULTS / "run.py", "associative_retrieval", "--storage-path", tmp_path]
    with subprocess.Popen(
        [*command, "--ray-num-cpus", "1"],  # one training after the other
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    ) as study:  # fmt: skip
        lines = []
        for line in study.stdout:
            lines.append(line)
            if "seq/s" in line:  # above the first epoch
                kill(study.pid, number)
    told = "".join(lines)
    assert study.returncode == code, told
    assert "Traceback" not in told
    assert f"{number.name}: stopping after this iteration, with a checkpoint" in told
    assert lines[-1].endswith(f"ended with status {code}. The same command goes on.\n")
    assert len(list(tmp_path.glob("art_stpn/*/checkpoint_*"))) == 1
    assert re.search(r"^rank +seeds +val accuracy +sequences +trials\n +1 +3 ", told, re.MULTILINE)  # of one kind
