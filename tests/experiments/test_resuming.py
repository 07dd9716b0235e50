"""Going on with a run that was interrupted, killed, or had a nearer goal."""

import csv
import json
import os
import signal
import sys
import types

import gymnasium
import numpy as np
import pytest
from ray import cloudpickle, tune

from rllib_stpn.cli.main import main
from rllib_stpn.experiments import result_files
from rllib_stpn.experiments.experiment import Experiment
from rllib_stpn.experiments.resuming import remember
from tests.experiments.of_settings import SMALL


class Interrupting(gymnasium.Env):
    """Sends a signal to a process when it has made some steps, once."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, mark, pid, at, number=signal.SIGINT):
        self.mark, self.pid, self.left, self.number = mark, pid, at, number

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.left -= 1
        if self.left == 0 and not os.path.exists(self.mark):
            with open(self.mark, "w"):
                os.kill(int(self.pid), self.number)
        return np.zeros(1, np.float32), 1.0, False, self.left % 10 == 0, {}


def curve(directory) -> list[tuple[int, int]]:
    """Iterations and steps of an experiment's only trial, which both of its files agree on."""
    (file,) = directory.glob("*/result.json")
    results = [json.loads(line) for line in file.read_text().splitlines()]
    points = [(r["training_iteration"], r["num_env_steps_sampled_lifetime"]) for r in results]
    with file.with_name("progress.csv").open(newline="") as text:
        assert [int(row["training_iteration"]) for row in csv.DictReader(text)] == [
            iteration for iteration, _ in points
        ]
    return points


@pytest.fixture
def interrupting_environment():
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)  # Trials cannot import a test module.
    tune.register_env("Interrupting", lambda context: Interrupting(**context))
    yield
    cloudpickle.unregister_pickle_by_value(module)


@pytest.mark.usefixtures("ray_session", "interrupting_environment")
def test_an_interrupted_run_goes_on_a_finished_one_does_not_and_a_later_goal_extends_it(capsys, tmp_path):
    env_config = {"mark": str(tmp_path / "mark"), "pid": os.getpid(), "at": 2 * 64 + 10}
    config = json.dumps({**SMALL, "env_config": env_config})
    storage = ["--storage-path", str(tmp_path / "results")]
    begin = ["train", "--run", "PPO", "--env", "Interrupting", "--config", config, "-n", "x", *storage]
    assert main([*begin, "--stop", '{"training_iteration": 5}']) == 130
    assert len(curve(tmp_path / "results" / "x")) == 3

    assert main(["train", "--resume", *storage]) == 0
    assert curve(tmp_path / "results" / "x") == [(i, 64 * i) for i in range(1, 6)]
    assert "5 iterations" in capsys.readouterr().out

    (file,) = (tmp_path / "results" / "x").glob("*/result.json")
    before = file.read_bytes()
    assert main([*begin, "--stop", '{"training_iteration": 5}', "--resume"]) == 0
    assert file.read_bytes() == before
    told = capsys.readouterr().out
    assert "5 iterations, 320 env steps" in told and "note" not in told

    begin[begin.index(config)] = json.dumps({**json.loads(config), "lr": 0.1})
    assert main([*begin, "--stop", '{"training_iteration": 5}', "--resume", "--checkpoint-freq", "2"]) == 0
    assert "goes on as begun, not with what is now given for lr, checkpoint_frequency" in capsys.readouterr().out

    assert main(["train", "--resume", "-n", "x", *storage, "--stop", '{"training_iteration": 7}']) == 0
    assert curve(tmp_path / "results" / "x") == [(i, 64 * i) for i in range(1, 8)]


MODULE = """
import os, signal, gymnasium, numpy as np

{source}

gymnasium.register("Interrupting-v0", lambda **arguments: Interrupting(**arguments), disable_env_checker=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["SIGINT", "SIGKILL"])
def test_the_same_command_with_resume_ends_with_the_same_curve(start, write, tmp_path, monkeypatch, number):
    """As a user does it, in processes of their own."""
    import inspect

    monkeypatch.setenv("TUNE_GLOBAL_CHECKPOINT_S", "0")  # Tune notes what there is after every event.
    write(MODULE.format(source=inspect.getsource(Interrupting)), "interrupting.py")
    pid = tmp_path / "pid"
    env_config = {"mark": str(tmp_path / "mark"), "pid": "", "at": 3 * 64 + 10, "number": int(number)}
    source = (tmp_path / "interrupting.py").read_text()
    (tmp_path / "interrupting.py").write_text(source.replace("int(self.pid)", f"int(open({str(pid)!r}).read())"))
    path = write(
        "x: " + json.dumps({
            "run": "PPO", "env": "interrupting:Interrupting-v0", "stop": {"training_iteration": 6},
            "checkpoint_config": {"checkpoint_frequency": 1, "num_to_keep": 2},
            "config": {**SMALL, "env_config": env_config},
        })
    )  # fmt: skip
    command = ["train", "-f", path, "--storage-path", tmp_path / "results", "--ray-num-cpus", 1]
    process = start(*command, cwd=tmp_path)
    pid.write_text(str(process.pid))
    _, err = process.communicate(timeout=300)
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL), err
    again = start(*command, "--resume", cwd=tmp_path)
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert curve(tmp_path / "results" / "x") == [(i, 64 * i) for i in range(1, 7)]
    assert "6 iterations, 384 env steps" in out


def test_files_forget_what_came_after_the_checkpoint_in_place(tmp_path):
    json_file, csv_file = tmp_path / "result.json", tmp_path / "progress.csv"
    json_file.write_text("".join(f'{{"training_iteration": {i}}}\n' for i in (1, 2, 3, 4)))
    csv_file.write_text("note,training_iteration\n" + "".join(f'"a\nb",{i}\n' for i in (1, 2, 3, 4)))
    with json_file.open("at") as log:  # As Tune's logger has it.
        result_files.forget_from(tmp_path, 3)
        log.write('{"training_iteration": 3}\n')
    assert [json.loads(line)["training_iteration"] for line in json_file.read_text().splitlines()] == [1, 2, 3]
    assert csv_file.read_text() == 'note,training_iteration\n"a\nb",1\n"a\nb",2\n'


@pytest.mark.usefixtures("ray_session")
def test_what_cannot_go_on_is_told(capsys, tmp_path):
    common = ["--storage-path", str(tmp_path), "-n", "x", "--env", "CartPole-v1"]
    begin = ["train", "--run", "PPO", "--config", json.dumps(SMALL), *common]
    assert main([*begin, "--stop", '{"training_iteration": 1}']) == 0
    (pickled,) = tmp_path.glob("x/rllib_experiment.pkl")
    before = pickled.read_bytes()
    assert main(["train", "--run", "A2C", *common, "--resume"]) == 2
    assert "was begun with PPO, and this is A2C" in capsys.readouterr().err
    first = cloudpickle.loads(before)
    first.folded["num_cpus_for_main_process"] = 99
    pickled.write_bytes(cloudpickle.dumps(first))
    assert main([*begin, "--stop", '{"training_iteration": 2}', "--resume"]) == 2
    assert "was begun with 99 CPUs a trial, there are" in capsys.readouterr().err


def test_an_experiment_that_another_version_wrote_is_told(capsys, tmp_path):
    experiment = Experiment(where="here", name="x", algorithm="PPO", config={}, storage_path=str(tmp_path))
    remember(experiment)
    (pickled,) = tmp_path.glob("x/rllib_experiment.pkl")
    del vars(experiment)["algorithm"]  # an older version's has none
    pickled.write_bytes(cloudpickle.dumps(experiment))
    assert main(["train", "--resume", "--storage-path", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "x/rllib_experiment.pkl is of another version of rllib-stpn; rllib train -f FILE --resume goes on" in line


def test_nothing_to_resume_is_told_with_what_there_is(capsys, tmp_path):
    for arguments, told in (
        (["--storage-path", str(tmp_path)], "no experiment of rllib train in"),
        (["--storage-path", str(tmp_path), "-n", "y"], "no experiment y in"),
        (["--storage-path", str(tmp_path), "--seed", "1"], "--seed: --resume without a file"),
    ):
        assert main(["train", "--resume", *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line


class ATrial:
    """What Tune's loggers ask of a trial."""

    def __init__(self, path):
        self.path = self.local_path = str(path)
        self.storage = types.SimpleNamespace(storage_filesystem=types.SimpleNamespace(type_name="local"))

    def init_local_path(self):
        pass


def test_the_table_has_the_columns_of_later_results(tmp_path):
    """No episode has ended in the first iterations of many a task, so the first result has no return."""
    results = [
        {"training_iteration": 1, "config": {"lr": 0.1}, "note": 'a "line",\nand another'},
        {"training_iteration": 2, "env_runners": {"return": 5.0}, "note": "b"},
        {"training_iteration": 3, "note": "c"},
        {"training_iteration": 4, "env_runners": {"return": 7.0, "a, b": 1}},
    ]
    file = tmp_path / "progress.csv"
    for part in (results[:2], results[2:]):  # a run, and the same that goes on
        _, table = result_files.files_in_place()
        trial = ATrial(tmp_path)
        for result in part:
            table.log_trial_result(result["training_iteration"], trial, result)
        table.log_trial_end(trial)
        if part == results[:2]:
            with file.open("a", newline="") as text:
                text.write("garbled\n")
    assert file.read_bytes().count(b"garbled\n") == 1
    assert result_files.fit(tmp_path, 4) == [f"{file}: 1 garbled line left out"]
    with file.open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert [row["env_runners/return"] for row in rows] == ["", "5.0", "", "7.0"]
    assert [row["env_runners/a, b"] for row in rows] == ["", "", "", "1"]
    assert [row["note"] for row in rows] == ['a "line",\nand another', "b", "c", ""]
    assert "config" not in "".join(rows[0]) and not list(tmp_path.glob("*.new"))
