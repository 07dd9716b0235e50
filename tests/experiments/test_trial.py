"""The trainable that Tune runs: an algorithm that takes plain settings."""

import errno
import functools
import os
import sys

import numpy as np
import pytest
import torch
from ray import cloudpickle, tune

from rllib_stpn import manifest
from rllib_stpn.agents.checkpoints import damage
from rllib_stpn.errors import RolloutError
from rllib_stpn.experiments.folding import fold
from rllib_stpn.experiments.resources import Cluster
from rllib_stpn.experiments.trial import trial_class
from tests.rollouts.faulty_env import FaultyEnv

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture(autouse=True, scope="module")
def this_module_travels_to_trials():
    """Trials cannot import a test module: what stands in it is sent as it is."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


def test_a_trial_without_a_config_has_a_name():
    """Ray asks a failed constructor's object for it, and tells nothing of the failure where that fails."""
    trainable = trial_class("PPO")
    assert repr(trainable.__new__(trainable)) == "PPO"


@pytest.mark.parametrize(
    "run, what, told",
    [
        ("A2C", "exits", "ended as it was made, before its first step: its process died"),
        pytest.param("PPO", "exits", "ended as it was made, before", marks=pytest.mark.slow),
        pytest.param(
            "PPO", "hangs", "env runner 1 has made no environment for 10 s .*faulty_env", marks=pytest.mark.slow
        ),
    ],
)
def test_an_env_runner_that_dies_as_it_is_made_ends_the_run_with_a_line(run, what, told, tmp_path):
    """Raised in its constructor, Ray would keep the error, and the run would wait for ever."""
    faulty = {"fault": f"{what}@constructor", "worker": 1, "times": 1, "ledger": str(tmp_path)}
    settings = {
        "env": FaultyEnv,
        "env_config": faulty,
        "num_env_runners": 2,
        "num_envs_per_env_runner": 2,
        "train_batch_size": 80,
        "restart_failed_env_runners": False,
        "sample_timeout_s": 1 if what == "hangs" else 60,
        "model": {"fcnet_hiddens": [4]},
    }
    trial = trial_class(run)(settings | ({"minibatch_size": 40} if run == "PPO" else {}))
    with pytest.raises(RolloutError, match=told):
        trial.train()
    trial.stop()


@pytest.mark.parametrize("runner", ["single_agent", "batched"])
def test_evaluation_filters_observations_as_training_does(ray_session, runner):
    settings = {
        "env": "CartPole-v1",
        "num_env_runners": 0,
        "env_runner_cls": runner,
        "observation_filter": "MeanStdFilter",
        "train_batch_size": 200,
        "minibatch_size": 100,
        "num_epochs": 1,
        "evaluation_interval": 1,
        "evaluation_duration": 1,
    }
    trial = trial_class("PPO")(settings)
    try:
        trial.train()
        runners = (trial.env_runner, trial.eval_env_runner)
        seen = [r.get_state()["env_to_module_connector"]["MeanStdFilter"][None]["running_stats"] for r in runners]
    finally:
        trial.stop()
    training, evaluation = (stats["num_pushes"] for (stats,) in seen)
    assert evaluation > training >= 200  # what training has seen, then its own episode


def test_rllibs_own_models_see_scaled_pixels_in_batched_rollouts(ray_session):
    settings = {
        "env": "stpn_envs:stpn/Pong-v0",
        "num_env_runners": 0,
        "num_envs_per_env_runner": 2,
        "rollout_fragment_length": 4,
        "model": {"conv_filters": [[4, 8, 8], [4, 8, 8]], "fcnet_hiddens": []},
    }
    trial = trial_class("A2C")(settings)
    try:
        assert trial.train()["num_env_steps_sampled_lifetime"] == 8
        observations = trial.env_runner.sample()[0].columns["obs"]
        assert observations.dtype == np.float32 and -1 <= observations.min() < 0
    finally:
        trial.stop()


@pytest.mark.parametrize("run", ["A2C", "PPO"])
def test_a_restored_trial_begins_with_its_own_rates(ray_session, tmp_path, run):
    settings = {"env": "CartPole-v1", "num_env_runners": 0, "train_batch_size": 100, "lr": 0.1}
    settings |= {"minibatch_size": 50, "num_epochs": 1} if run == "PPO" else {}
    first = trial_class(run)(settings)
    first.train()
    first.save_checkpoint(str(tmp_path))
    first.stop()
    again = trial_class(run)(settings | {"lr": [[0, 0.5], [200, 0.3]], "entropy_coeff": [[0, 0.0], [200, 0.2]]})
    try:
        again.load_checkpoint(str(tmp_path))
        steps = again.metrics.peek(("env_runners", "num_env_steps_sampled_lifetime"))
        learner = again.learner_group._learner
        (optimizer,) = learner._named_optimizers.values()
        assert learner._get_optimizer_lr(optimizer) == pytest.approx(0.5 - steps / 1000)
        name = "_entropy_coeffs" if run == "A2C" else "entropy_coeff_schedulers_per_module"
        coefficient = getattr(learner, name)["default_policy"].get_current_value()
        assert float(coefficient) == pytest.approx(steps / 1000)
    finally:
        again.stop()


def _tell_threads(algorithm, metrics_logger, result):
    result["torch_threads"] = torch.get_num_threads()
    result["environments"] = algorithm.env_runner.num_envs
    from rllib_stpn import kernels

    if hasattr(kernels, "num_threads"):
        result["kernel_threads"] = kernels.num_threads()


@pytest.mark.parametrize("threads", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_folded_trial_computes_with_all_the_cpus_it_has(tmp_path, threads):
    trainable = trial_class("PPO")
    settings = {"env": "CartPole-v1", "num_env_runners": 6, "train_batch_size": 60, "minibatch_size": 60}
    folded, _ = fold(settings, trainable.get_default_config(), Cluster([threads]))
    folded["callbacks_on_train_result"] = _tell_threads
    results = tune.Tuner(
        trainable,
        param_space=folded,
        run_config=tune.RunConfig(storage_path=str(tmp_path), stop={"training_iteration": 1}, verbose=0),
    ).fit()
    metrics = results[0].metrics
    assert metrics["torch_threads"] == threads
    assert metrics.get("kernel_threads", threads) == threads
    assert metrics["environments"] == 6


@pytest.fixture
def with_remote_learners(ray_session):
    """Makes trials of so many, which have taken an iteration."""
    made = []

    def make(number=1):
        settings = {"env": "CartPole-v1", "num_env_runners": 0, "num_envs_per_env_runner": 4, "num_learners": number}
        settings |= {"train_batch_size": 128, "minibatch_size": 32, "num_epochs": 1}
        model = {"custom_model": "stpn", "custom_model_config": {"hidden_size": 4}}
        made.append(trial_class("PPO")(settings | {"model": model}))
        made[-1].train()
        return made[-1]

    yield make
    for trial in made:
        trial.stop()


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def death(*_, **__):
    os._exit(1)


def put_in_place(of, function, learner):
    """Has a learner's method do something else, in the learner's process."""
    setattr(learner, of, function)


def has_its_own_again(of, learner):
    delattr(learner, of)


def test_what_a_remote_learner_raises_is_told(with_remote_learners, tmp_path):
    trial = with_remote_learners()
    learners = trial.learner_group
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    trial.save_checkpoint(str(whole))
    assert damage(whole) is None
    for method, act in {
        "save_to_path": lambda: trial.save_checkpoint(str(broken)),
        "restore_from_path": lambda: trial.load_checkpoint(str(whole)),
        "update": trial.train,
    }.items():
        learners.foreach_learner(functools.partial(put_in_place, method, full_disk))
        with pytest.raises(OSError, match="No space left on device"):
            act()
        learners._worker_manager.set_actor_state(0, healthy=True)  # RLlib has taken it out of service
        learners.foreach_learner(functools.partial(has_its_own_again, method))
    assert not (broken / manifest.FILE).exists()
    trial.load_checkpoint(str(whole))
    trial.train()


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("method", ["save_to_path", "get_state", "restore_from_path", "update"])
def test_a_remote_learner_that_dies_ends_the_run(with_remote_learners, tmp_path, method, number):
    trial, whole, broken = with_remote_learners(number), tmp_path / "whole", tmp_path / "broken"
    trial.save_checkpoint(str(whole))
    trial.learner_group.foreach_learner(functools.partial(put_in_place, method, death), remote_actor_ids=[0])
    act = {"restore_from_path": lambda: trial.load_checkpoint(str(whole)), "update": trial.train}
    with pytest.raises(RolloutError, match="a learner ended: its process died"):
        act.get(method, lambda: trial.save_checkpoint(str(broken)))()
    assert not (broken / manifest.FILE).exists()


@pytest.mark.slow
def test_an_error_of_one_of_two_learners_is_told_at_once(with_remote_learners):
    """The other one waits for its gradients."""
    trial = with_remote_learners(2)
    trial.learner_group.foreach_learner(functools.partial(put_in_place, "update", full_disk), remote_actor_ids=[1])
    with pytest.raises(OSError, match="No space left on device"):
        trial.train()
