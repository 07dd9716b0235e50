"""Population based training: which settings it may change, and that trials then run with them."""

import copy
import dataclasses
import json

import pytest
from ray.tune.schedulers import pb2
from ray.tune.trainable import trainable

from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import schedulers
from rllib_stpn.experiments.building import build_config
from rllib_stpn.experiments.loading import load
from rllib_stpn.experiments.overrides import Overrides
from rllib_stpn.experiments.schedulers import make_scheduler
from rllib_stpn.experiments.trial import trial_class
from rllib_stpn.experiments.validation import check

OLD_STACK = {"enable_rl_module_and_learner": False, "enable_env_runner_and_connector_v2": False}
SMALL = {"env": "CartPole-v1", "num_env_runners": 0, "train_batch_size": 40, "minibatch_size": 20, "num_epochs": 1}


@pytest.fixture
def sweep(write):
    def sweep(mutations, scheduler="pbt", key="hyperparam_mutations", **config):
        block = {"run": "PPO", "env": "CartPole-v1", "scheduler": scheduler, "scheduler_config": {key: mutations}}
        (experiment,) = load(write(json.dumps({"x": block | {"config": config}})))
        return Overrides().apply(experiment)

    return sweep


@pytest.mark.parametrize(
    ("mutations", "config", "parts"),
    [
        ({"entropy_cof": [0, 1]}, {}, ["unknown key 'entropy_cof'", "did you mean entropy_coeff"]),
        ({"gamma": ["high", 1]}, {}, ["gamma: got 'high', allowed is a number"]),
        ({"num_sgd_iter": {"uniform": [1, 5]}}, {}, ["num_epochs: uniform draws fractions", "randint"]),
        ({"lr": {"uniform": [2, 1]}}, {}, ["lr: uniform: got [2, 1]"]),
        ({"num_epochs": [0.5]}, {}, ["num_epochs: got 0.5, allowed is a whole number"]),
        ({"minibatch_size": [30, 90]}, {"train_batch_size": 60}, ["minibatch_size 90: RLlib refuses it", "(60)"]),
        ({"train_batch_size": {"randint": [10, 99]}}, {"minibatch_size": 20}, ["train_batch_size 10: RLlib refuses"]),
        ({"model": {"fcnet_hiddens": [[8], [9]]}}, {}, ["model: fcnet_hiddens: a trial goes on with the weights"]),
        ({"model": {"fcnet_hidden": [[8]]}}, {}, ["model: got the unknown key 'fcnet_hidden'"]),
        ({"evaluation_config": {"exploree": [True]}}, {}, ["evaluation_config: got the unknown key 'exploree'"]),
    ],
)
def test_what_no_trial_can_run_with_is_refused(sweep, mutations, config, parts):
    experiment = sweep(mutations, **config)
    with pytest.raises(UsageError) as error:
        check(experiment)
    for part in (f"{experiment.where}: scheduler_config: hyperparam_mutations", *parts):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("mutations", "parts"),
    [
        (
            {"lr": [0.1, 0.2], "model": {"custom_model_config": {"hidden_size": [5, 7]}}},
            ["model: custom_model_config: a trial goes on with the weights", "a grid_search in config compares models"],
        ),
        ({"model": [{"custom_model": "rnn"}]}, ["model: a trial goes on with the weights of another"]),
        ({"task_config": {"num_pairs": [1, 3]}}, ["task_config: num_pairs: ", "which fit no other task;"]),
        ({"task": ["familiarity"]}, ["task: a trial goes on", "which fit no other task;"]),
        ({"optimizer": ["sgd", "adam"]}, ["optimizer: a trial goes on", "which fit no other optimizer;"]),
    ],
)
@pytest.mark.parametrize(("scheduler", "key"), [("pbt", "hyperparam_mutations"), ("pb2", "hyperparam_bounds")])
def test_what_a_supervised_trial_cannot_go_on_with_is_refused(write, scheduler, key, mutations, parts):
    block = {"run": "Supervised", "task": "associative_retrieval", "scheduler": scheduler}
    (experiment,) = load(write(json.dumps({"x": block | {"scheduler_config": {key: mutations}}})))
    experiment = Overrides().apply(experiment)
    with pytest.raises(UsageError) as error:
        check(experiment)
    for part in (f"{experiment.where}: scheduler_config: {key}: ", *parts):
        assert part in str(error.value)
    rates = dataclasses.replace(experiment, scheduler_config={key: {"lr": [0.1, 0.2], "train_batch_size": [10, 20]}})
    assert check(rates).notes == experiment.notes


def test_what_trials_can_run_with_is_taken(sweep):
    mutations = {"lr": [1e-3, "1e-4"], "num_sgd_iter": {"choice": [1, 3]}, "model": {"max_seq_len": [5, 10]}}
    experiment = sweep(mutations | {"minibatch_size": [20, 60]}, train_batch_size=60, model={"use_lstm": True})
    assert check(experiment).notes == experiment.notes
    found = make_scheduler(experiment)._hyperparam_mutations
    # a list moves to its neighbours, where Tune would multiply what a choice has drawn
    assert found == {
        "lr": [1e-3, 1e-4],
        "num_epochs": [1, 3],
        "model": {"max_seq_len": [5, 10]},
        "minibatch_size": [20, 60],
    }


def test_bounds_need_scikit_learn_and_are_settings(sweep, monkeypatch):
    experiment = sweep({"lr": [1e-4, 1e-3], "num_sgd_iter": [2, 9]}, scheduler="pb2", key="hyperparam_bounds")
    experiment = check(experiment)
    # whole numbers where Tune would begin with fractions
    assert experiment.config["num_epochs"] == {"randint": [2, 10]}
    assert experiment.scheduler_config == {"hyperparam_bounds": {"lr": [1e-4, 1e-3], "num_epochs": [2, 9]}}
    monkeypatch.setattr(schedulers, "has_sklearn", False)
    with pytest.raises(UsageError, match="scheduler: pb2 needs scikit-learn: pip install scikit-learn"):
        make_scheduler(experiment)
    with pytest.raises(UsageError, match="hyperparam_bounds: got the unknown key 'gama', .*; did you mean gamma"):
        check(sweep({"gama": [0.9, 0.99]}, scheduler="pb2", key="hyperparam_bounds"))


@pytest.mark.skipif(not pb2.has_sklearn, reason="scikit-learn is not installed")
def test_bounds_make_a_scheduler(sweep):
    experiment = sweep({"lr": [1e-4, "1e-3"]}, scheduler="pb2", key="hyperparam_bounds")
    assert isinstance(make_scheduler(experiment), pb2.PB2)


def test_on_the_old_stack_a_trial_that_goes_on_from_another_has_its_own_settings(ray_session, tmp_path, monkeypatch):
    settings = {**OLD_STACK, **SMALL, "rollout_fragment_length": 20, "model": {"fcnet_hiddens": [4]}}
    donors, own = ({"lr": 0.1, "clip_param": 0.4, "gamma": 0.8}, {"lr": 0.002, "clip_param": 0.1, "gamma": 0.95})

    monkeypatch.setattr(trainable, "DEFAULT_STORAGE_PATH", str(tmp_path / "logs"))
    donor = trial_class("PPO")(copy.deepcopy(settings | donors))
    donor.train()
    donor.save(str(tmp_path / "donor"))
    weights = donor.get_policy().get_weights()
    trial = trial_class("PPO")(copy.deepcopy(settings | own))
    trial.restore(str(tmp_path / "donor"))
    policy = trial.get_policy()
    assert {key: policy.config[key] for key in own} == own
    assert {group["lr"] for optimizer in policy._optimizers for group in optimizer.param_groups} == {0.002}
    assert all((policy.get_weights()[name] == value).all() for name, value in weights.items())
    assert trial.train()["info"]["learner"]["default_policy"]["learner_stats"]["cur_lr"] == 0.002
    for each in (donor, trial):
        each.stop()


def test_what_only_a_trial_can_know_is_the_trials_error():
    with pytest.raises(UsageError, match=r"RLlib refuses it: `minibatch_size` \(20\) must be <= .* \(16\)"):
        trial_class("PPO")(SMALL | {"train_batch_size": 16})


def test_parts_of_cpus_and_gpus_are_taken(write):
    text = "x: {run: PPO, env: CartPole-v1, config: {num_workers: 2, num_gpus: %s, num_gpus_per_worker: 0.25, "
    text += "num_cpus_per_worker: 0.5, num_cpus_for_driver: 1.5}}"
    (experiment,) = load(write(text % "2e-1"))
    experiment = check(experiment)
    config = build_config("PPO", experiment.config)
    assert (config.num_gpus_per_learner, config.num_gpus_per_env_runner) == (0.2, 0.25)
    assert (config.num_cpus_per_env_runner, config.num_cpus_for_main_process) == (0.5, 1.5)
    for gpus, told in (("1.5", "a whole number, or a part of 1"), ("-1", "a whole number, or a part of 1")):
        with pytest.raises(UsageError, match=f"num_gpus_per_learner: got {gpus}, allowed is {told}"):
            check(*load(write(text % gpus)))
