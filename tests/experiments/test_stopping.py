"""When trials end: their goal, an interruption, their scheduler."""

import numpy as np
import pytest
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from rllib_stpn.experiments import running
from rllib_stpn.experiments.interruption import Interruption
from rllib_stpn.experiments.resources import Cluster
from rllib_stpn.experiments.stopping import StoppingScheduler
from tests.experiments.of_settings import experiment_of

SMALL = {"num_env_runners": 0, "train_batch_size": 64, "minibatch_size": 64, "num_epochs": 1}


class InterruptAtFirstResult(tune.Callback):
    def __init__(self, interruption):
        self.interruption = interruption

    def on_trial_result(self, iteration, trials, trial, result, **info):
        self.interruption.signal = 2


def run(experiment, interruption=None, callbacks=()):
    experiment, _ = running.prepare(experiment)
    experiment, _ = running.fit(experiment, Cluster.of_ray(), may_grow=True)
    return running.run(experiment, interruption, callbacks)


@pytest.mark.slow
def test_an_interruption_ends_what_runs_and_what_waits_and_a_resumed_run_does_both(ray_session, tmp_path):
    """One trial takes all four CPUs, so that the other one waits."""
    small = experiment_of("PPO", "CartPole-v1", **SMALL, num_cpus_for_main_process=4)
    small = small.replaced((), num_samples=2, stop={"training_iteration": 3}, storage_path=str(tmp_path))
    interruption = Interruption()
    ended = run(small, interruption, [InterruptAtFirstResult(interruption)])
    assert sorted(each.metrics.get("training_iteration", 0) for each in ended) == [0, 2]
    assert {each.stopped for each in ended} == {"SIGINT"}
    assert {each.settings["train_batch_size"] for each in ended} == {64}  # also where nothing was trained
    ended = run(small.replaced((), resume=True))
    assert [each.metrics["training_iteration"] for each in ended] == [3, 3]
    assert {each.stopped for each in ended} == {"training_iteration 3 reached 3"}


def test_a_goal_within_a_result_ends_a_run(ray_session, tmp_path):
    """Tune hands results to schedulers flat, with paths as keys."""
    goal = "env_runners/num_env_steps_sampled_lifetime"
    small = experiment_of("PPO", "CartPole-v1", **SMALL)
    small = small.replaced((), stop={goal: 100, "training_iteration": 4}, storage_path=str(tmp_path))
    (ended,) = run(small)
    assert ended.metrics["training_iteration"] == 2
    assert ended.stopped.startswith(f"{goal} 1")


def trial(trial_id, **last_result):
    made = Trial("PPO", trial_id=trial_id, stub=True)
    made.run_metadata.last_result = last_result
    return made


class Recorder(FIFOScheduler):
    """Notes the trials that it sees, and ends those whose id it is told."""

    def __init__(self, *ends):
        super().__init__()
        self.seen, self.ends = [], ends

    def on_trial_add(self, tune_controller, trial):
        self.seen.append(trial.trial_id)

    def on_trial_result(self, tune_controller, trial, result):
        return TrialScheduler.STOP if trial.trial_id in self.ends else TrialScheduler.CONTINUE


@pytest.mark.parametrize("path", ["env_runners/episode_return_mean", "training_iteration"])
def test_trials_that_have_nothing_left_to_do_are_not_offered(path):
    inner = Recorder()
    scheduler = StoppingScheduler(inner, {path: 5}, Interruption())
    scheduler.given_up = {"given up"}
    result = {"training_iteration": 5, "env_runners": {"episode_return_mean": 5.0}}
    trials = [trial("done", **result), trial("given up"), trial("new"), trial("begun", training_iteration=4)]
    for each in trials:
        scheduler.on_trial_add(None, each)
    assert inner.seen == ["new", "begun"]
    assert [each.status for each in trials] == ["TERMINATED", "TERMINATED", "PENDING", "PENDING"]
    assert scheduler.reasons == {"done": f"{path} 5 reached 5", "given up": "by the scheduler"}


@pytest.mark.parametrize("number", [int, float, np.int64, np.float32])
def test_a_goal_is_found_in_nested_and_in_flat_results_whatever_its_type(number):
    path = "learners/__all_modules__/num_env_steps_trained_lifetime"
    for below, goal in (
        ({"learners": {"__all_modules__": {"num_env_steps_trained_lifetime": number(4)}}},
         {"learners": {"__all_modules__": {"num_env_steps_trained_lifetime": number(5)}}}),
        ({path: number(4)}, {path: number(5)}),
    ):  # fmt: skip
        scheduler = StoppingScheduler(Recorder(), {path: 5}, Interruption())
        assert scheduler.on_trial_result(None, trial("a"), below) == TrialScheduler.CONTINUE
        assert scheduler.on_trial_result(None, trial("a"), goal) == TrialScheduler.STOP
        assert scheduler.reasons == {"a": f"{path} 5 reached 5"}


def test_the_reason_is_the_goal_then_the_signal_then_the_scheduler():
    interruption = Interruption()
    scheduler = StoppingScheduler(Recorder("a", "b", "c"), {"training_iteration": 5}, interruption)
    assert scheduler.on_trial_result(None, trial("d"), {"training_iteration": 1}) == TrialScheduler.CONTINUE
    assert scheduler.on_trial_result(None, trial("a"), {"training_iteration": 1}) == TrialScheduler.STOP
    interruption.signal = 15
    assert scheduler.on_trial_result(None, trial("b"), {"training_iteration": 1}) == TrialScheduler.STOP
    assert scheduler.on_trial_result(None, trial("c"), {"training_iteration": 6}) == TrialScheduler.STOP
    assert scheduler.reasons == {
        "a": "by the scheduler",
        "b": "SIGTERM",
        "c": "training_iteration 6 reached 5",
    }
    assert scheduler.given_up == {"a"}
