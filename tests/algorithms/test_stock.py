"""The layers in RLlib's algorithms, on RLlib's own env runners, connectors and learners."""

import pytest
import torch
from ray import tune
from ray.rllib.algorithms.appo import APPOConfig
from ray.rllib.algorithms.impala import IMPALAConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns

from rllib_stpn.algorithms import A2CConfig
from rllib_stpn.errors import UsageError
from rllib_stpn.layers import LAYERS
from rllib_stpn.models import recurrent_spec
from rllib_stpn.rollouts import thin_states, use_batched_rollouts
from tests.algorithms.test_a2c import config_on, mean_return
from tests.models.test_stock import configured, multi_agent
from tests.trained import EVERY_LAYER

pytestmark = pytest.mark.usefixtures("ray_session")

ALGORITHMS = {"PPO": PPOConfig, "A2C": A2CConfig, "IMPALA": IMPALAConfig, "APPO": APPOConfig}
ASYNCHRONOUS = ("IMPALA", "APPO")


def measuring(learner_class):
    """The learner, which also logs how far its logits are from those that the runner recorded."""

    class Measuring(learner_class):
        def compute_loss_for_module(self, *, module_id, config, batch, fwd_out):
            counted = batch[Columns.LOSS_MASK]
            logits, recorded = (columns[Columns.ACTION_DIST_INPUTS][counted] for columns in (fwd_out, batch))
            for name, value in (("difference", (logits - recorded).abs()), ("spread", recorded.std(0))):
                self.metrics.log_value((module_id, name), value.max().item(), reduce="max")
            return super().compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)

    return Measuring


def settings_of(name):
    """Settings for iterations as short as the algorithm allows."""
    if name == "PPO":
        return {"train_batch_size": 30, "minibatch_size": 12, "num_epochs": 2}
    return {"train_batch_size_per_learner" if name in ASYNCHRONOUS else "train_batch_size": 30}


def short(config, name):
    """Local where the algorithm can be; IMPALA and APPO sample in actors."""
    if name in ASYNCHRONOUS:
        config.env_runners(num_env_runners=1).learners(num_learners=0, num_aggregator_actors_per_learner=0)
        config.reporting(min_time_s_per_iteration=0.1, min_sample_timesteps_per_iteration=30)
    return config


def learned(algo, iterations=300):
    """The learner's results of the first iteration in which it learned; IMPALA and APPO may come late."""
    for _ in range(iterations):
        modules = algo.train()["learners"]
        if "total_loss" in modules.get(DEFAULT_MODULE_ID, {}):
            return modules[DEFAULT_MODULE_ID]
    raise AssertionError(f"no update in {iterations} iterations: {modules}")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in ASYNCHRONOUS else name for name in ALGORITHMS]
)
def test_every_minibatch_gives_the_logits_of_the_rollout(name):
    config = short(configured("stpn", ALGORITHMS[name], lr=0.0, **settings_of(name)), name)
    config.learners(learner_class=measuring(config.get_default_learner_class()))
    algo = config.build_algo()
    try:
        for _ in range(1 if name in ASYNCHRONOUS else 3):
            results = learned(algo)
            assert float(results["difference"]) < 1e-5 < 0.05 < float(results["spread"])
    finally:
        algo.stop()


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY_LAYER["new", "RLlib's own"])
@pytest.mark.parametrize("layer", sorted(LAYERS))
def test_every_layer_learns_in_every_algorithm(layer, name):
    algo = short(configured(layer, ALGORITHMS[name], lr=0.01, **settings_of(name)), name).build_algo()
    try:
        before = {key: value.clone() for key, value in algo.get_module().state_dict().items()}
        assert torch.isfinite(torch.tensor(float(learned(algo)["total_loss"])))
        learner = algo.learner_group.get_weights()[DEFAULT_MODULE_ID]
        changed = [key for key, value in before.items() if (value != torch.as_tensor(learner[key])).any()]
        assert any(key.startswith("encoder") for key in changed) and any(key.startswith("pi") for key in changed)
    finally:
        algo.stop()


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY_LAYER["new", "batched"])
@pytest.mark.parametrize("layer", sorted(LAYERS))
def test_every_layer_learns_with_batched_rollouts(layer, name):
    config = config_on("recall", layer, ALGORITHMS[name])
    if name == "PPO":
        config.training(train_batch_size=160, minibatch_size=80, num_epochs=1)
    algo = config.build_algo()
    assert torch.isfinite(torch.tensor(float(learned(algo)["total_loss"])))
    algo.stop()


@pytest.mark.slow
def test_a2c_learns_on_rllibs_own_env_runner():
    config = config_on("recall", "lstm", lr=1e-2, entropy_coeff=0.003).env_runners(env_runner_cls=None)
    assert mean_return(config, 70) > 0.95


@pytest.mark.parametrize("name", ["PPO", "A2C"])
def test_agents_of_different_layers_learn_side_by_side(name):
    config = multi_agent(ALGORITHMS[name]).training(lr=0.01, **settings_of(name))
    algo = config.build_algo()
    try:
        result = algo.train()
        for module_id in ("often", "seldom"):
            assert torch.isfinite(torch.tensor(float(result["learners"][module_id]["total_loss"])))
        taught = algo.learner_group.get_weights()
        for module_id, weights in algo.env_runner.module.get_state().items():
            for key, value in weights.items():
                torch.testing.assert_close(torch.as_tensor(value), torch.as_tensor(taught[module_id][key]))
    finally:
        algo.stop()


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "separate"])
def test_memoryless_layers_learn_and_are_synchronised(shared):
    algo = configured("mlp", shared=shared, lr=0.01, **settings_of("PPO")).build_algo()
    algo.train()
    taught = algo.learner_group.get_weights()[DEFAULT_MODULE_ID]
    for key, value in algo.env_runner.module.get_state().items():
        torch.testing.assert_close(torch.as_tensor(value), torch.as_tensor(taught[key]))
    algo.stop()


@pytest.mark.slow
@pytest.mark.parametrize("form", ["config", "dict"])
def test_tune_runs_it_with_nothing_imported_in_its_actors(form, tmp_path):
    config = (
        PPOConfig()
        .environment("stpn_envs:stpn/Maze-v0")
        .env_runners(
            num_env_runners=1,
            num_envs_per_env_runner=2,
            rollout_fragment_length=20,
            module_to_env_connector=thin_states,
        )
        .rl_module(rl_module_spec=recurrent_spec("stpn", hidden_size=8, max_seq_len=10))
        .training(train_batch_size=40, minibatch_size=20, num_epochs=1, lr=tune.grid_search([1e-3]))
    )
    tuner = tune.Tuner(
        "PPO",
        param_space=config if form == "config" else config.to_dict(),
        run_config=tune.RunConfig(
            stop={"training_iteration": 1}, storage_path=str(tmp_path), name="stock", verbose=0, failure_config=None
        ),
    )
    (result,) = tuner.fit()
    assert result.error is None
    assert result.metrics["num_env_steps_sampled_lifetime"] >= 40


@pytest.mark.parametrize("name", ASYNCHRONOUS)
def test_batched_rollouts_are_refused_where_the_loss_needs_episodes(name):
    with pytest.raises(UsageError, match=f"batched rollouts: got algorithm {name}, allowed are PPO and A2C"):
        use_batched_rollouts(ALGORITHMS[name]())


def test_batched_rollouts_are_refused_for_several_agents():
    with pytest.raises(UsageError, match="batched rollouts: got a multi-agent config"):
        use_batched_rollouts(multi_agent())


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda config: config.env_runners(env_runner_cls=A2CConfig().env_runner_cls), "env_runner_cls.*multi-agent"),
        (lambda config: config.training(micro_batch_size=5), "micro_batch_size: got 5.*multi-agent"),
    ],
    ids=["batched", "micro_batches"],
)
def test_a2c_names_what_several_agents_cannot_have(change, message):
    with pytest.raises(UsageError, match=message):
        change(multi_agent(A2CConfig)).validate()
