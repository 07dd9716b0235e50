"""``run: Supervised`` through the command line."""

import json
import re

import pytest

from rllib_stpn.cli.main import main
from rllib_stpn.cli.progress import Progress, supervised
from rllib_stpn.experiments.folding import fold
from rllib_stpn.experiments.resources import Cluster
from rllib_stpn.supervised import SupervisedConfig, evaluate, load

SMALL = '{"task_config": {"train_size": 300, "validation_size": 50, "test_size": 50}}'
RUN = """\
  run: Supervised
  stop: {validation_accuracy: 0.999, training_iteration: 2}
"""
FILE = f"""\
retrieval:
  task: associative_retrieval
{RUN}  config:
    lr: 1e-2
    task_config: {{num_pairs: 1, train_size: 300, validation_size: 50, test_size: 50}}
    model: {{custom_model: stpn, custom_model_config: {{hidden_size: 4}}}}
"""


def test_a_run_from_yaml_to_checkpoint(rllib, tmp_path, trial_directory):
    done = rllib(
        "train", "-f", "tuned_examples/art_stpn.yaml", "--stop", '{"training_iteration": 2}', "--config", SMALL,
        "--storage-path", tmp_path, "--seed", 1, "--checkpoint-freq", 1, "--ray-num-cpus", 2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "Supervised on associative_retrieval: results in" in done.stdout
    assert re.search(r"^ +epoch +sequences +seq/s +train loss +val accuracy +elapsed$", done.stdout, re.MULTILINE)
    assert re.search(r"2 epochs, 600 sequences, test accuracy 0\.\d{4}, .*stopped: training_iteration", done.stdout)
    trial = trial_directory(tmp_path, "art_stpn")
    results = [json.loads(line) for line in (trial / "result.json").read_text().splitlines()]
    assert [result["training_iteration"] for result in results] == [1, 2]
    assert results[-1]["num_parameters"] == 2039
    assert json.loads((trial / "params.json").read_text())["num_cpus_for_main_process"] == 1  # The file's.
    (events,) = trial.glob("events.out.tfevents*")
    assert events.stat().st_size > 1000
    assert len(list(trial.glob("checkpoint_*"))) == 2
    task, module = load(re.search(r"^checkpoint +(/.*)$", done.stdout, re.MULTILINE)[1])
    measured = evaluate(task, module, "validation", 128)
    assert measured == pytest.approx({key: results[-1][key] for key in measured}, rel=1e-4)  # Other threads.
    assert "from rllib_stpn.supervised import Supervised" in done.stdout


def test_the_only_trial_gets_all_cpus():
    assert fold({}, SupervisedConfig(), Cluster([2])) == ({"num_cpus_for_main_process": 2}, [])
    assert fold({}, SupervisedConfig(), Cluster([2]), alone=False) == ({}, [])


@pytest.mark.usefixtures("ray_session")
def test_a_sweep(capsys, write, tmp_path):
    path = write(FILE.replace("lr: 1e-2", "lr: {grid_search: [0.01, 1e-3]}"))
    assert main(["train", "-f", str(path), "--storage-path", str(tmp_path / "results")]) == 0
    assert "trial 2 of 2: lr " in capsys.readouterr().out
    trials = [path for path in (tmp_path / "results" / "retrieval").iterdir() if path.is_dir()]
    last = [json.loads((trial / "result.json").read_text().splitlines()[-1]) for trial in trials]
    assert sorted(float(result["config"]["lr"]) for result in last) == [0.001, 0.01]
    assert len({result["train_loss"] for result in last}) == 2


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("  task: associative_retrieval\n", "", "retrieval: 'task' is missing"),
        ("task: associative", "task: dissociative", "config: task: got 'dissociative_retrieval', allowed are"),
        ("  task: ", "  env: CartPole-v1\n  task: ", "config: got the unknown key 'env'"),
        ("validation_accuracy: 0.999", "validation_acuracy: 1", "unknown metric 'validation_acuracy' ... did you mean"),
        ("training_iteration", "num_env_steps_sampled_lifetime", "unknown metric 'num_env_steps_sampled_lifetime'"),
        ("hidden_size: 4", "hidden_size: 0", "stpn: hidden_size: got 0"),
        ("lr: 1e-2", "lr: {grid_search: [1, x]}", "config: lr: got 'x'"),
        (RUN, "  run: Unsupervised\n", "unknown algorithm 'Unsupervised' ... did you mean Supervised"),
    ],
    ids=["no-task", "task", "env", "metric", "rl-metric", "size", "grid", "run"],
)
def test_mistakes(capsys, write, old, new, told):
    assert old in FILE
    path = write(FILE.replace(old, new, 1))
    assert main(["train", "-f", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(part in line for part in told.split(" ... "))
    assert str(path) in line


def test_a_criterion_of_supervised_training_is_none_of_an_algorithms(capsys, write):
    path = write("x: {run: PPO, env: CartPole-v1, stop: {validation_accuracy: 1}}")
    assert main(["train", "-f", str(path)]) == 2
    assert "unknown metric 'validation_accuracy'" in capsys.readouterr().err


def test_progress_of_language_modelling_shows_perplexity(capsys):
    from types import SimpleNamespace

    progress = Progress(shown=supervised("perplexity"))
    result = {
        "training_iteration": 3,
        "iterations_since_restore": 3,
        "num_sequences_trained_lifetime": 6000,
        "time_total_s": 3.0,
        "train_loss": 5.25,
        "validation_perplexity": 1234.5678,
    }
    progress.on_trial_result(0, [], SimpleNamespace(trial_id="a", evaluated_params={}), result)
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["epoch", "sequences", "seq/s", "train", "loss", "val", "perplexity", "elapsed"]
    assert line.split() == ["3", "6,000", "2,000", "5.2500", "1,234.5678", "0:03"]
    assert len(header) == len(line)
