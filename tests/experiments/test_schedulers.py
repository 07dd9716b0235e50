"""Sweeps whose scheduler stands in the file."""

import json

import pytest

from rllib_stpn.cli.main import main
from rllib_stpn.errors import UsageError
from rllib_stpn.experiments.loading import load
from rllib_stpn.experiments.overrides import Overrides
from rllib_stpn.experiments.schedulers import make_scheduler

FILE = "x: {{run: PPO, env: CartPole-v1, {}}}"


def test_the_file_names_scheduler_and_arguments_and_options_go_over_them(write):
    (experiment,) = load(write(FILE.format("scheduler: ASHA, scheduler_config: {grace_period: 3, brackets: 2}")))
    assert (experiment.scheduler, experiment.scheduler_config) == ("asha", {"grace_period": 3, "brackets": 2})
    same = Overrides(scheduler="asha", scheduler_config={"grace_period": 5}).apply(experiment)
    assert same.scheduler_config == {"grace_period": 5}
    other = Overrides(scheduler="pbt").apply(experiment)
    assert (other.scheduler, other.scheduler_config) == ("pbt", {})


def test_a_goal_nearer_than_the_grace_period_is_no_mistake(write):
    path = write(FILE.format("scheduler: asha, scheduler_config: {grace_period: 50}, stop: {training_iteration: 2}"))
    (experiment,) = load(path)
    assert make_scheduler(experiment)._max_t == 50


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        ("scheduler: hyperband", ["scheduler: got 'hyperband', allowed are 'fifo', 'asha', 'pbt'"]),
        ("scheduler: [asha]", ["scheduler: got ['asha']"]),
        ("scheduler: asha, scheduler_config: 3", ["scheduler_config: got 3, allowed is a mapping of arguments"]),
        ("scheduler: asha, scheduler_config: {grace: 3}", ["asha: got the unknown key 'grace'", "grace_period"]),
        ("scheduler: asha, scheduler_config: {grace_period: 0}", ["asha: grace_period must be positive"]),
        ("scheduler: pbt", ["scheduler_config: pbt", "hyperparam_mutations"]),
        ("scheduler_config: {grace_period: 3}", ["scheduler_config: fifo: it has no arguments, got grace_period"]),
    ],
)
def test_mistakes_name_the_file(write, block, parts):
    path = write(FILE.format(block))
    with pytest.raises(UsageError) as error:
        make_scheduler(*load(path))
    for part in (str(path), *parts):
        assert part in str(error.value)


def test_texts_of_numbers_are_numbers_in_mutations(write):
    mutations = "{lr: [1e-4, 1e-3], model: [lstm, stpn], gamma: {uniform: [9e-1, 0.99]}}"
    path = write(FILE.format(f"scheduler: pbt, scheduler_config: {{hyperparam_mutations: {mutations}}}"))
    (experiment,) = load(path)
    found = make_scheduler(experiment)._hyperparam_mutations
    assert (found["lr"], found["model"]) == ([0.0001, 0.001], ["lstm", "stpn"])
    assert (found["gamma"].lower, found["gamma"].upper) == (0.9, 0.99)


@pytest.mark.slow
def test_the_tuned_example_sweeps_layers_seeds_and_rates(capsys, ray_session, tmp_path):
    small = {"num_envs_per_env_runner": 4, "train_batch_size": 800}
    options = ["--stop", '{"training_iteration": 2}', "--num-samples", "1", "--config", json.dumps(small)]
    assert main(["example", "run", "sweep_maze", *options, "--storage-path", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    settings = [json.loads(file.read_text()) for file in tmp_path.rglob("params.json")]
    assert sorted((each["model"]["custom_model"], each["seed"]) for each in settings) == [
        (layer, seed) for layer in ("lstm", "rnn", "stpn") for seed in (0, 1)
    ]
    rates = {each["lr"] for each in settings}
    assert len(rates) == 6 and all(3e-5 <= rate <= 3e-3 for rate in rates)
    results = [json.loads(file.read_text().splitlines()[-1]) for file in tmp_path.rglob("result.json")]
    assert len(results) == 6 and all(r["num_env_steps_sampled_lifetime"] == 1600 for r in results)
