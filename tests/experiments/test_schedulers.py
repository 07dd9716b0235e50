"""Sweeps whose scheduler stands in the file."""

import json
import re

import pytest

from rllib_stpn.cli.main import main
from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import validation
from rllib_stpn.experiments.goal import goal_of
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


@pytest.mark.parametrize("time", ["num_env_steps_sampled_lifetime", "time_total_s", "training_iteration"])
def test_asha_goes_to_where_trials_stop_in_its_own_unit_of_time(write, time):
    block = f"scheduler: asha, scheduler_config: {{time_attr: {time}}}, stop: {{"
    (experiment,) = load(write(FILE.format(f"{block}{time}: 20000000}}")))
    assert make_scheduler(experiment)._max_t == 20_000_000
    other = "training_iteration" if time != "training_iteration" else "time_total_s"
    (experiment,) = load(write(FILE.format(f"{block}{other}: 20}}")))
    assert make_scheduler(experiment)._max_t > 1e12  # it ends no trial


SUPERVISED = "x: {{run: Supervised, task: {}, scheduler: asha, scheduler_config: {{metric: {}}}}}"


@pytest.mark.parametrize(
    ("file", "mode"),
    [
        (SUPERVISED.format("associative_retrieval", "validation_loss"), "min"),
        (SUPERVISED.format("language_modelling", "validation_accuracy"), "max"),
        (SUPERVISED.format("language_modelling", "validation_perplexity"), "min"),
        (FILE.format("scheduler: asha, scheduler_config: {metric: env_runners/episode_len_mean}"), "max"),
        (FILE.format("scheduler: asha, scheduler_config: {metric: env_runners/episode_len_mean, mode: min}"), "min"),
    ],
)
def test_without_a_mode_it_is_that_of_the_metric_for_scheduler_and_ranking(write, file, mode):
    (experiment,) = load(write(file))
    assert (goal_of(experiment).mode, make_scheduler(experiment)._mode) == (mode, mode)


def test_texts_of_numbers_are_numbers_in_arguments(write):
    (experiment,) = load(write(FILE.format("scheduler: asha, scheduler_config: {max_t: 1e2, grace_period: 1e1}")))
    assert make_scheduler(experiment)._max_t == 100


ARTS = "task: associative_retrieval, run: Supervised"


@pytest.mark.parametrize(
    ("block", "told"),
    [
        (f"{ARTS}, checkpoint_config: {{checkpoint_score_attribute: val_accuracy}}", "'validation_accuracy'"),
        (f"{ARTS}, scheduler: asha, scheduler_config: {{metric: validation_los}}", "'validation_loss'"),
        (f"{ARTS}, scheduler: asha, scheduler_config: {{time_attr: validation_loss}}", "time_attr: got the unknown"),
        (
            "env: CartPole-v1, run: PPO, checkpoint_config: {checkpoint_score_attribute: "
            "evaluation/env_runners/episode_return_mean}",
            "checkpoint_score_attribute: evaluation/env_runners/episode_return_mean: without evaluation_interval",
        ),
        (
            "env: CartPole-v1, run: PPO, scheduler: asha, scheduler_config: {metric: env_runners/episode_retrun_mean}",
            "metric: env_runners/episode_retrun_mean: got the unknown metric 'episode_retrun_mean'",
        ),
    ],
)
def test_a_metric_that_no_result_has_is_refused_wherever_it_is_named(write, block, told):
    with pytest.raises(UsageError, match=re.escape(told)):
        (experiment,) = load(write(f"x: {{{block}}}"))
        validation.check(Overrides().apply(experiment))


def test_a_score_that_is_better_the_lower_it_is(write):
    """In the form of Tune's that once was."""
    (experiment,) = load(
        write(f"x: {{{ARTS}, checkpoint_config: {{checkpoint_score_attribute: min-validation_loss}}}}")
    )
    assert goal_of(experiment) == ("validation_loss", "min")


def test_metrics_of_a_callback_of_the_users_may_score(write):
    named = "scheduler: asha, scheduler_config: {metric: env_runners/mine}, config: {callbacks: CALLBACKS}"
    named = named.replace("CALLBACKS", "ray.rllib.callbacks.callbacks.RLlibCallback")
    (experiment,) = load(write(FILE.format(named)))
    validation.check(Overrides().apply(experiment))


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
