"""What differs between trials, what they are compared by, and their order."""

import dataclasses
import math

import numpy as np
import pytest

from rllib_stpn.errors import UsageError
from rllib_stpn.experiments.differences import directory_names, names_in, names_of_differences, values_of
from rllib_stpn.experiments.experiment import Experiment
from rllib_stpn.experiments.goal import Goal, goal_of
from rllib_stpn.experiments.loading import load
from rllib_stpn.experiments.ranking import rank
from rllib_stpn.experiments.search_algorithms import make_search_algorithm
from rllib_stpn.experiments.trial_result import TrialResult

RETURN = "env_runners/episode_return_mean"


def experiment(**fields):
    return Experiment(**({"where": "x", "name": "x", "algorithm": "PPO", "config": {"env": "CartPole-v1"}} | fields))


def ended(value=None, checkpoint="somewhere", best_score=None, **settings):
    metrics = {} if value is None else {"env_runners": {"episode_return_mean": value}}
    return TrialResult(
        settings, metrics, "/trial", checkpoint, "reached", None, best_checkpoint=checkpoint, best_score=best_score
    )


def block(layer, size, **more):
    return {"custom_model": layer, "custom_model_config": {"hidden_size": size}, **more}


def test_what_follows_from_the_layer_is_left_out():
    trials = [{"seed": seed, "model": block(*layer)} for seed in (0, 1) for layer in (("stpn", 55), ("lstm", 47))]
    names = names_of_differences(trials)
    assert list(names.values()) == ["layer", "seed"]
    assert [values_of(names, each) for each in trials][1] == {"layer": "lstm", "seed": 0}


def test_sizes_that_vary_within_a_layer_are_told():
    trials = [{"model": block("stpn", 55)}, {"model": block("stpn", 11)}, {"model": block("lstm", 47)}]
    assert list(names_of_differences(trials).values()) == ["layer", "hidden_size"]


def test_names_are_as_long_as_it_takes_to_tell_them_apart():
    trials = [{"a": {"size": 1, "lr": 1}, "b": {"size": 1}}, {"a": {"size": 2, "lr": 2}, "b": {"size": 2}}]
    assert list(names_of_differences(trials).values()) == ["a.size", "lr", "b.size"]


def test_a_setting_that_some_trials_lack_is_a_difference():
    names = names_of_differences([{"lr": 0.1}, {"lr": 0.1, "grad_clip": 4.0}])
    assert values_of(names, {"lr": 0.1}) == {"grad_clip": None}


def test_objects_differ_by_what_they_are_and_not_by_their_address():
    class Same:
        pass

    assert names_of_differences([{"callbacks": Same()}, {"callbacks": Same()}]) == {}


def test_directories_are_named_by_what_differs():
    class Trial:
        config = {"lr": 0.00012345678, "model": block("stpn", 55), "env_config": {"map": "a/b"}}
        experiment_tag = "7_anything"

        def __str__(self):
            return "PPO_Maze_00007"

    searched = {"lr": {"loguniform": [1e-5, 1e-3]}, "model": {"grid_search": [block("stpn", 55), block("lstm", 47)]}}
    searched["env_config"] = {"map": {"choice": ["a/b", "c"]}}
    name = directory_names(names_in(experiment(config=searched)))(Trial())
    assert name.startswith("PPO_Maze_00007_7_layer=stpn,lr=0.0001235,map=a_b_20")
    assert directory_names(names_in(experiment())) is None


@pytest.mark.parametrize(
    ("fields", "goal"),
    [
        ({}, Goal(RETURN, "max")),
        ({"stop": {"training_iteration": 5, "num_env_steps_sampled_lifetime": 9}}, Goal(RETURN, "max")),
        ({"stop": {"training_iteration": 5, "evaluation/x": 9}}, Goal("evaluation/x", "max")),
        ({"checkpoint": {"checkpoint_score_attribute": "a/b", "checkpoint_score_order": "min"}}, Goal("a/b", "min")),
        ({"scheduler": "asha", "scheduler_config": {"metric": "a/c", "mode": "min"}}, Goal("a/c", "min")),
        (
            {"algorithm": "Supervised", "config": {"task": "language_modelling"}},
            Goal("validation_perplexity", "min"),
        ),
        (
            {"algorithm": "Supervised", "config": {"task": "familiarity"}, "stop": {"validation_accuracy": 1}},
            Goal("validation_accuracy", "max"),
        ),
    ],
)
def test_the_goal(fields, goal):
    assert goal_of(experiment(**fields)) == goal


def test_seeds_are_folded_and_the_best_comes_first():
    values = {10.0: (1, 0), 30.0: (2, 0), 20.0: (1, 1), 50.0: (2, 1)}
    results = [ended(value, lr=lr, seed=seed) for value, (lr, seed) in values.items()]
    ranking = rank(experiment(), results)
    assert [each.differs for each in ranking.ranks] == [{"lr": 2}, {"lr": 1}]
    assert [each.numbers for each in ranking.ranks] == [[2, 4], [1, 3]]
    assert [each.score() for each in ranking.ranks] == [40, 15]
    assert ranking.best() is results[3]


def test_less_is_better_where_the_goal_says_so():
    score = {"checkpoint_score_attribute": RETURN, "checkpoint_score_order": "min"}
    results = [ended(1.0, lr=1), ended(-5.0, lr=2)]
    assert rank(experiment(checkpoint=score), results).best() is results[1]


def test_trials_without_a_value_come_last_and_one_without_a_checkpoint_is_not_the_best():
    results = [ended(lr=1), ended(math.nan, lr=2), ended(5.0, None, lr=3), ended(1.0, lr=4)]
    ranking = rank(experiment(), results)
    assert [each.differs["lr"] for each in ranking.ranks] == [3, 4, 1, 2]
    assert ranking.best() is results[3]
    assert rank(experiment(), results[:2]).best() is None


def test_a_trial_that_failed_comes_behind_one_whose_episodes_have_not_ended():
    failed = dataclasses.replace(ended(lr=1), stopped=None, error="OSError: no licence")
    ranking = rank(experiment(), [failed, ended(lr=2)])
    assert [each.differs["lr"] for each in ranking.ranks] == [2, 1]


def test_where_the_last_result_has_no_score_that_of_the_best_checkpoint_counts():
    score = {"checkpoint_score_attribute": "evaluation/x"}
    results = [ended(lr=1, best_score=3.0), ended(lr=2, best_score=4.0)]
    assert [each.score() for each in rank(experiment(checkpoint=score), results).ranks] == [4, 3]


OPTUNA = """
opt:
  run: PPO
  env: CartPole-v1
  search_alg: optuna
  num_samples: 2
  config: {lr: {loguniform: [0.001, 0.1]}}
"""


def test_optuna_draws_for_the_goal(write):
    pytest.importorskip("optuna")
    (loaded,) = load(write(OPTUNA))
    searcher = make_search_algorithm(loaded)
    assert (searcher.metric, searcher.mode) == (RETURN, "max")
    searcher.set_search_properties(None, None, {"lr": __import__("ray").tune.loguniform(0.001, 0.1)})
    drawn = searcher.suggest("a")
    assert 0.001 <= drawn["lr"] <= 0.1
    searcher.on_trial_result("a", {"training_iteration": 1})  # before the first episode ends
    searcher.on_trial_complete("a", {"training_iteration": 2, RETURN: 3.0})


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("optuna", "optima", "search_alg: got 'optima', allowed are 'optuna'; did you mean optuna?"),
        ("{loguniform: [0.001, 0.1]}", "0.1", "got no search in config, allowed are choice, uniform"),
        ("{loguniform: [0.001, 0.1]}", "{grid_search: [0.001, 0.1]}", "got grid_search for lr, allowed is choice"),
        ("  num_samples: 2", "  scheduler: pbt", "got the scheduler 'pbt', allowed are fifo, asha"),
    ],
)
def test_what_optuna_cannot_search_is_refused(write, old, new, told):
    pytest.importorskip("optuna")
    with pytest.raises(UsageError) as error:
        (loaded,) = load(write(OPTUNA.replace(old, new)))
        make_search_algorithm(loaded)
    assert told in str(error.value)


def test_where_optuna_is_missing_the_error_has_the_command(write, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (loaded,) = load(write(OPTUNA))
    with pytest.raises(UsageError, match="search_alg: optuna needs Optuna: pip install optuna"):
        make_search_algorithm(loaded)


@pytest.mark.parametrize("kind", [int, float, np.int64, np.float32])
def test_numbers_of_numpy_rank_as_those_of_python(kind):
    better, worse = ended(kind(3), lr=0.1), ended(kind(2), lr=0.2)
    ranking = rank(experiment(), [worse, better])
    assert ranking.best() is better
    assert [own.values.tolist() for own in ranking.ranks] == [[3.0], [2.0]]
