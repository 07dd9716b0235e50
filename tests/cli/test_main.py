"""The command line without a run: help, and one line for every mistake."""

import json
import re
import subprocess
import sys

import pytest

import rllib_stpn
from rllib_stpn.cli.main import main


def error_of(capsys, *arguments) -> str:
    """The one line on stderr of a command line that must fail with exit code 2."""
    assert main([str(argument) for argument in arguments]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    assert err.startswith("rllib: error: ")
    assert "Traceback" not in err
    return err


def config_error(capsys, write, config: str, run="PPO", env="CartPole-v1") -> str:
    path = write(f"x: {{run: {run}, env: {env!r}, config: {config}}}")
    error = error_of(capsys, "train", "-f", path)
    assert str(path) in error
    return error


def test_help_imports_neither_ray_nor_torch():
    program = (
        "import sys\nfrom rllib_stpn.cli.main import main\n"
        "try: main(['train', '--help'])\nexcept SystemExit: pass\n"
        "assert not {'ray', 'torch', 'numpy', 'gymnasium'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "rllib train -f cartpole.yaml" in done.stdout


@pytest.mark.parametrize("entry", ["rllib_stpn", "rllib_stpn.cli.main"])
def test_the_version_is_told(entry):
    done = subprocess.run([sys.executable, "-m", entry, "--version"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"rllib-stpn {rllib_stpn.__version__}, ray ")


COMMANDS = ("train", "evaluate", "example", "report")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["COMMAND"]),
        (["trian"], ["'trian'", "did you mean train?"]),
        (["train"], ["rllib train -f FILE", "--run"]),
        (["train", "--run", "PPO"], ["--env"]),
        (["train", "-f", "nowhere.yaml"], ["nowhere.yaml: no such file"]),
        (["train", "script.py"], ["script.py: no such file"]),
        (["train", "a.yaml", "-f", "b.yaml"], ["one file", "a.yaml and b.yaml"]),
        (["train", "a.yaml", "--config", "{lr: 1}"], ["--config", "not JSON", "{lr: 1}"]),
        (["train", "a.yaml", "--stop", "[1]"], ["--stop", "JSON object", "[1]"]),
        (["train", "a.yaml", "--seed", "x"], ["--seed", "'x'"]),
        (["train", "a.yaml", "--chekpoint-freq", "1"], ["--chekpoint-freq", "did you mean --checkpoint-freq?"]),
        (["evaluate", "x", "--episode=3"], ["--episode=3", "did you mean --episodes?"]),
        (["report", "x", "--nothing-like-it"], ["unrecognized arguments: --nothing-like-it (see: rllib report"]),
        (["train", "-f", "pong_stpn.yaml"], ["no such file", "rllib example run pong_stpn"]),
        (["train", "--run", "ppo", "--env", "CartPole-v1"], ["unknown algorithm 'ppo'", "did you mean PPO"]),
        (["train", "--run", "PPO", "--env", "CartPole"], ["env: 'CartPole'", "CartPole-v1"]),
        (["train", "--run", "PPO", "--env", "StatelessCartpole"], ["did you mean", "StatelessCartPole"]),
        (
            ["train", "--run", "PPO", "--env", "CartPole-v1", "--seed", "-1"],
            ["seed: got -1, allowed is a whole number of at least 0"],
        ),
        (["train", "--run", "PPO", "--env", "CartPole-v1", "--stop", '{"time_total_s": NaN}'], ["time_total_s", "nan"]),
        (["train", "--run", "PPO", "--env", "CartPole-v1", "--scheduler", "hyperband"], ["'hyperband'", "'asha'"]),
        (["train", "--run", "Supervised", "--env", "counting"], ["task: got 'counting'", "'familiarity'"]),
        (["example", "run", "art_stpn", "--env", "CartPole-v1"], ["art_stpn", "task: got 'CartPole-v1'"]),
        (["example", "run", "art_stpn", "--stop", '{"episode_return_mean": 1}'], ["--stop", "validation_accuracy"]),
        (["example", "run", "art_stpn", "--config", '{"lrr": 1}'], ["art_stpn", "'lrr'", "'lr'"]),
        (["example", "show", "art_stpn"], ["'show'", "'run'"]),
        (["evaluate", "nowhere"], ["checkpoint nowhere: no such directory"]),
        (["evaluate", __file__], ["got a file", "the directory of a checkpoint"]),
        (["evaluate", "x", "--episodes", "many"], ["--episodes", "'many'"]),
        (["evaluate", "x", "--num-envs", "0"], ["--num-envs", "at least 1"]),
        (["evaluate"], ["got nothing", "either a CHECKPOINT or --pretrained NAME"]),
        (["evaluate", "tests", "--pretrained", "x"], ["got both", "either a CHECKPOINT or --pretrained NAME"]),
        (["evaluate", "--pretrained", "maze"], ["pretrained: got 'maze'"]),
        (["evaluate", "nowhere.safetensors"], ["weights nowhere.safetensors: no such file"]),
        (["train", "-f", "a.yaml", "-f", "b.yaml"], ["-f: got a.yaml and b.yaml, allowed is one file"]),
        (
            ["train", "--run", "PPO", "--env", "CartPole-v1", "--evaluation-interval", "-2"],
            ["evaluation_interval", "-2"],
        ),
        (["report"], ["DIR"]),
        (["report", "nowhere"], ["nowhere: no such directory"]),
        (["report", "tests", "--threshold", "high"], ["--threshold", "'high'"]),
        (["report", "tests", "--threshold", "nan"], ["--threshold", "nan"]),
        (
            ["train", "--run", "PPO", "--env", "CartPole-v1", "--num-samples", "0"],
            ["--num-samples", "at least 1", "0"],
        ),
        (
            ["train", "--run", "PPO", "--env", "CartPole-v1", "--checkpoint-freq", "-1"],
            ["--checkpoint-freq", "-1"],
        ),
        (
            ["train", "--run", "PPO", "--env", "CartPole-v1", "--experiment-name", "a/b"],
            ["--experiment-name", "a/b"],
        ),
        (
            ["train", "--run", "PPO", "--env", "CartPole-v1", "--stop", '{"x": 1}'],
            ["--stop", "'x'", "training_iteration"],
        ),
        (
            ["train", "--run", "PPO", "--env", "CartPole-v1", "--ray-num-cpus", "0"],
            ["--ray-num-cpus", "at least 1"],
        ),
        (
            ["train", "--run", "PPO", "--env", "CartPole-v1", "--ray-num-cpus", "1", "--ray-address", "auto"],
            ["--ray-num-cpus", "--ray-address"],
        ),
    ],
    ids=lambda value: " ".join(value)[:60] if value and value[0] in COMMANDS else None,
)
def test_mistakes_in_the_command_line(capsys, arguments, parts):
    error = error_of(capsys, *arguments)
    for part in parts:
        assert part in error


def test_an_experiment_name_for_several_experiments(capsys, write):
    path = write("a: {run: PPO, env: CartPole-v1}\nb: {run: PPO, env: CartPole-v1}")
    assert "several experiments (a, b)" in error_of(capsys, "train", path, "--experiment-name", "c")


CONFIG_MISTAKES = {
    "unknown-key": ("{nun_env_runners: 1}", ["unknown key 'nun_env_runners'", "num_env_runners"]),
    "unknown-far": ("{xyzzy: 1}", ["unknown key 'xyzzy'"]),
    "a-word-for-a-number": ("{num_env_runners: many}", ["num_env_runners: got 'many'", "whole number"]),
    "a-fraction": ("{num_env_runners: 1.5}", ["num_env_runners: got 1.5", "whole number"]),
    "a-bool-for-a-number": ("{train_batch_size: true}", ["train_batch_size: got True", "whole number"]),
    "nothing": ("{num_env_runners: null}", ["num_env_runners: got None", "whole number"]),
    "negative": ("{num_env_runners: -1}", ["num_env_runners: got -1", "allowed is a whole number of at least 0"]),
    "no-environment": ("{num_envs_per_env_runner: 0}", ["num_envs_per_env_runner: got 0", "of at least 1"]),
    "a-word-for-the-batch": (
        "{train_batch_size_per_learner: big}",
        ["train_batch_size_per_learner: got 'big'"],
    ),
    "a-number-for-a-word": ("{gym_env_vectorize_mode: 3}", ["gym_env_vectorize_mode: got 3", "string"]),
    "a-number-for-a-bool": ("{use_gae: 1}", ["use_gae: got 1", "true or false"]),
    "a-list-for-a-mapping": ("{env_config: [1]}", ["env_config: got [1]", "mapping"]),
    "a-word-for-a-fragment": ("{rollout_fragment_length: long}", ["'long'", "whole number or auto"]),
    "a-schedule-of-numbers": ("{lr: [0.1, 0.2]}", ["lr", "[[step, value], ...]", "0.1"]),
    "a-schedule-from-later": ("{lr: [[5, 0.1], [6, 0.2]]}", ["RLlib refuses it", "lr"]),
    "in-a-grid": ("{num_epochs: {grid_search: [1, two]}}", ["num_epochs: got 'two'", "whole number"]),
    "no-rate": ("{lr: null}", ["lr: got None", "a number"]),
    "in-a-grid-of-models": (
        "{model: {grid_search: [{fcnet_hiddens: [8]}, {fcnet_hiddns: [8]}]}}",
        ["model: got the unknown key 'fcnet_hiddns'", "fcnet_hiddens"],
    ),
    "in-evaluation": ("{evaluation_config: {explor: false}}", ["evaluation_config", "'explor'", "explore"]),
    "a-minibatch-larger-than-the-batch": ("{train_batch_size: 10, minibatch_size: 20}", ["minibatch_size"]),
    "fragments-that-do-not-add-up": (
        "{train_batch_size: 1000, rollout_fragment_length: 700, num_env_runners: 1}",
        ["rollout_fragment_length", "RLlib refuses it"],
    ),
    "unknown-model-key": (
        "{model: {fcnet_hidden: [8]}}",
        ["model: got the unknown key 'fcnet_hidden'", "fcnet_hiddens"],
    ),
    "an-unknown-runner": (
        "{env_runner_cls: fast}",
        ["env_runner_cls: got 'fast'", "'batched', 'single_agent'"],
    ),
    "an-unknown-filter": ("{observation_filter: Nice}", ["observation_filter: got 'Nice'", "MeanStdFilter"]),
    "no-setting": ("{algo_class: x}", ["unknown key 'algo_class'"]),
}


@pytest.mark.parametrize("mistake", CONFIG_MISTAKES)
def test_mistakes_in_the_config(capsys, write, mistake):
    config, parts = CONFIG_MISTAKES[mistake]
    error = config_error(capsys, write, config)
    for part in parts:
        assert part in error


def test_mistakes_in_the_config_option_are_found_too(capsys, cartpole):
    error = error_of(capsys, "train", cartpole, "--config", json.dumps({"num_env_runners": "x"}))
    assert "num_env_runners: got 'x'" in error


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ("{custom_model: sptn, custom_model_config: {hidden_size: 8}}", ["custom_model", "'sptn'", "'stpn'"]),
        ("{custom_model: stpn}", ["got no hidden_size"]),
        ("{custom_model: stpn, custom_model_config: {hidden_size: 0}}", ["hidden_size", "0"]),
        (
            "{custom_model: stpn, custom_model_config: {hidden_size: 8, normalize: sideways}}",
            ["normalize", "sideways"],
        ),
        ("{custom_model: stpn, custom_model_config: {hidden_size: 8, normalise: pre}}", ["normalise"]),
        ("{custom_model: stpn, custom_model_config: {hidden_size: 8}, fcnet_hidden: []}", ["fcnet_hidden"]),
        (
            "{custom_model: lstm, custom_model_config: {hidden_size: 8, num_parameters: 99}}",
            ["got both hidden_size and num_parameters, allowed is one of them"],
        ),
        (
            "{custom_model: stpn, custom_model_config: {hidden_size: 8, normalize: None}}",
            ["normalize: got 'None'", "did you mean null"],
        ),
        (
            "{custom_model: gru, custom_model_config: {hidden_size: 8}, head_fcnet_activation: rellu}",
            ["head_fcnet_activation: got 'rellu'", "did you mean relu"],
        ),
        (
            "{custom_model: mlp, custom_model_config: {hidden_size: 8}, fcnet_hiddens: [8, x]}",
            ["fcnet_hiddens: got [8, 'x'], allowed is a list of whole numbers"],
        ),
    ],
)
def test_mistakes_in_the_model(capsys, write, model, parts):
    error = config_error(capsys, write, f"{{model: {model}}}")
    for part in parts:
        assert part in error


@pytest.mark.parametrize(
    ("run", "env", "parts"),
    [
        ("POP", "CartPole-v1", ["unknown algorithm 'POP'", "PPO"]),
        ("A3C", "CartPole-v1", ["unknown algorithm 'A3C'", "A2C"]),
        ("PPO", "CartPool-v1", ["env: 'CartPool-v1'", "CartPole"]),
        ("PPO", "no_such_module:E-v0", ["module 'no_such_module' cannot be imported"]),
        ("PPO", "my.module.Env", ["env: 'my.module.Env'"]),
    ],
)
def test_an_unknown_algorithm_or_environment(capsys, write, run, env, parts):
    error = config_error(capsys, write, "{}", run=run, env=env)
    for part in parts:
        assert part in error


def test_what_the_machine_cannot_hold_is_refused_with_strict_resources(capsys, cartpole, tmp_path):
    arguments = ["train", cartpole, "--strict-resources", "--ray-num-cpus", 2, "--storage-path", tmp_path]
    error = error_of(capsys, *arguments)
    assert re.search(r"cartpole.*5 CPUs, there are 2", error)


def test_a_storage_path_that_is_a_file(capsys, cartpole):
    assert "cannot be made" in error_of(capsys, "train", cartpole, "--storage-path", cartpole)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_cluster_that_does_not_answer(capsys, cartpole, tmp_path, address):
    arguments = ["train", cartpole, "--ray-address", address, "--storage-path", tmp_path]
    assert f"nothing answers at '{address}'" in error_of(capsys, *arguments)


@pytest.mark.parametrize("command", ["train", "evaluate", "report", "example"])
def test_the_paragraphs_of_a_help_fit_the_terminal(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "60")
    with pytest.raises(SystemExit):
        main([command, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if not line.startswith("    ")) <= 60
    assert len(lines) > 10
