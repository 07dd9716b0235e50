"""A2C's loss, its settings, and that it learns."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.tune.registry import register_env

from rllib_stpn.algorithms import A2CConfig
from rllib_stpn.errors import UsageError
from rllib_stpn.models import recurrent_spec
from rllib_stpn.rollouts import use_batched_rollouts
from tests.rollouts.scripted_env import make_scripted

pytestmark = pytest.mark.usefixtures("ray_session")


class RecallEnv(gym.Env):
    """Shows one of two cues, then a blank; the action at the blank is rewarded if it names the cue."""

    observation_space = gym.spaces.Box(0, 1, (3,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, context=None):
        pass

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cue = int(self.np_random.integers(2))
        self.t = 0
        return np.eye(3, dtype=np.float32)[self.cue], {}

    def step(self, action):
        self.t += 1
        rewarded = self.t == 2 and action == self.cue
        return np.eye(3, dtype=np.float32)[2], float(rewarded), self.t == 2, False, {}


def config_on(env, layer="lstm", algorithm=A2CConfig, **training):
    register_env("recall", RecallEnv)
    register_env("scripted", make_scripted)
    config = (
        algorithm()
        .environment(env)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=16, rollout_fragment_length=10)
        .training(**training)
        .rl_module(rl_module_spec=recurrent_spec(layer, hidden_size=12, max_seq_len=10))
        .debugging(seed=0)
    )
    return config if algorithm is A2CConfig else use_batched_rollouts(config)


def mean_return(config, iterations):
    algo = config.build_algo()
    try:
        for _ in range(iterations):
            result = algo.train()
    finally:
        algo.stop()
    return result["env_runners"]["episode_return_mean"]


@pytest.mark.parametrize("layer", ["lstm", "stpn"])
def test_learns_to_recall_a_cue(layer):
    """A sign flip of the advantage, or a reset mask shifted by a step, fails here."""
    config = config_on("recall", layer, lr=1e-2, entropy_coeff=0.003)
    assert mean_return(config, 70) > 0.95


def test_without_memory_the_cue_is_not_recalled():
    assert mean_return(config_on("recall", "mlp", lr=1e-2), 70) < 0.75


def test_ppo_learns_the_same_with_batched_rollouts():
    config = config_on("recall", "stpn", PPOConfig, lr=1e-2, train_batch_size=160, minibatch_size=80, num_epochs=4)
    assert mean_return(config, 40) > 0.95


@pytest.mark.parametrize(("minibatch_size", "steps"), [(None, 1), (40, 4), (160, 1)])
def test_a_batch_is_a_gradient_step_for_each_minibatch(minibatch_size, steps):
    algo = config_on("recall", minibatch_size=minibatch_size).build_algo()  # 16 environments, 10 steps each
    result = algo.train()
    taken = {
        int(state["step"])
        for optimizer in algo.learner_group._learner._named_optimizers.values()
        for state in optimizer.state.values()
    }
    algo.stop()
    assert taken == {steps}
    assert result["env_runners"]["num_env_steps_sampled"] == 160


def learner_and_batch(**training):
    algo = config_on("scripted", **training).build_algo()
    learner = algo.learner_group._learner
    fragment = algo.env_runner.sample()[0]
    batch = learner._learner_connector(
        rl_module=learner.module, batch={}, episodes=[fragment], shared_data={}, metrics=learner.metrics
    )
    return algo, learner, batch


def test_one_step_raises_the_log_probability_where_the_advantage_is_positive():
    algo, learner, batch = learner_and_batch(lr=1e-2, entropy_coeff=0.0, vf_loss_coeff=0.0)
    columns = batch[DEFAULT_MODULE_ID]
    module = learner.module[DEFAULT_MODULE_ID]

    def log_probabilities():
        with torch.no_grad():
            logits = module.forward_train(columns)[Columns.ACTION_DIST_INPUTS]
            return module.get_train_action_dist_cls().from_logits(logits).logp(columns[Columns.ACTIONS])

    before = log_probabilities()
    learner._update({DEFAULT_MODULE_ID: columns})
    mask = columns.get(Columns.LOSS_MASK, torch.ones_like(before))
    assert ((log_probabilities() - before) * columns["advantages"] * mask).sum() > 0
    algo.stop()


def test_the_loss_is_the_published_sum():
    algo, learner, batch = learner_and_batch(vf_loss_coeff=0.3, entropy_coeff=0.02, policy_concentration_coeff=0.03)
    columns = batch[DEFAULT_MODULE_ID]
    module = learner.module[DEFAULT_MODULE_ID]
    outputs = module.forward_train(columns)
    loss = learner.compute_loss_for_module(
        module_id=DEFAULT_MODULE_ID, config=learner.config, batch=columns, fwd_out=outputs
    )
    probabilities = outputs[Columns.ACTION_DIST_INPUTS].softmax(-1)
    values = module.compute_values(columns, embeddings=outputs[Columns.EMBEDDINGS])
    mask = columns[Columns.LOSS_MASK] if Columns.LOSS_MASK in columns else torch.ones_like(values, dtype=bool)
    terms = []
    for row, t in zip(*mask.nonzero(as_tuple=True), strict=True):
        p = probabilities[row, t]
        terms.append(
            -p[columns[Columns.ACTIONS][row, t]].log() * columns["advantages"][row, t]
            + 0.3 * (values[row, t] - columns["value_targets"][row, t]) ** 2
            + 0.02 * (p * p.log()).sum()
            + 0.03 * (p * p).sum()
        )
    assert loss.item() == pytest.approx((sum(terms) / len(terms)).item(), rel=1e-4)
    algo.stop()


@pytest.mark.parametrize("layer", ["stpn", "mlp"])
@pytest.mark.parametrize("size", [1, 33, 100])
def test_micro_batches_take_the_same_step_as_the_whole_batch(layer, size):
    steps = []
    for micro_batch_size in (None, size):
        algo = config_on("scripted", layer, micro_batch_size=micro_batch_size).build_algo()
        result = algo.train()
        steps.append((algo.get_module().state_dict(), result["learners"][DEFAULT_MODULE_ID]["total_loss"]))
        algo.stop()
    (whole, loss), (pieces, same_loss) = steps
    for name in whole:
        torch.testing.assert_close(whole[name], pieces[name], rtol=1e-3, atol=2e-6)
    assert float(loss) == pytest.approx(float(same_loss), rel=1e-3)


def test_learning_rate_and_entropy_follow_their_schedules():
    config = config_on("recall", lr=[[0, 1e-2], [1600, 0.0]], entropy_coeff=[[0, 0.2], [1600, 0.1]])
    algo = config.build_algo()
    for _ in range(5):
        result = algo.train()
    stats = result["learners"][DEFAULT_MODULE_ID]
    steps = result["num_env_steps_sampled_lifetime"]
    assert float(stats["default_optimizer_learning_rate"]) == pytest.approx(1e-2 * (1 - steps / 1600), rel=0.01)
    assert float(stats["curr_entropy_coeff"]) == pytest.approx(0.2 - 0.1 * steps / 1600, rel=0.01)
    algo.stop()


def test_one_gradient_step_per_batch_and_the_default_batch_is_one_fragment_of_each_environment():
    config = config_on("recall")
    assert config.total_train_batch_size == 160
    algo = config.build_algo()
    result = algo.train()
    assert result["learners"][DEFAULT_MODULE_ID]["num_module_steps_trained"] == result["num_env_steps_sampled_lifetime"]
    (state,) = algo.learner_group._learner._get_optimizer_state().values()
    assert {int(s["step"]) for s in state["state"]["state"].values()} == {1}
    algo.stop()


@pytest.mark.parametrize(
    "algorithm", [pytest.param(A2CConfig, id="A2C"), pytest.param(PPOConfig, id="PPO", marks=pytest.mark.slow)]
)
def test_remote_env_runners_and_evaluation(algorithm):
    training = {"train_batch_size": 320}
    if algorithm is PPOConfig:
        training |= {"minibatch_size": 160, "num_epochs": 1}
    config = (
        config_on("recall", "stpn", algorithm, **training)
        .env_runners(num_env_runners=2, num_envs_per_env_runner=16)
        .evaluation(evaluation_interval=1, evaluation_duration=20, evaluation_num_env_runners=0)
    )
    algo = config.build_algo()
    try:
        for _ in range(2):
            result = algo.train()
        assert result["num_env_steps_sampled_lifetime"] >= 640
        assert 0 <= result["evaluation"]["env_runners"]["episode_return_mean"] <= 1
        assert result["evaluation"]["env_runners"]["num_episodes"] >= 20
        assert result["env_runners"]["episode_len_mean"] == 2
        for states in algo.env_runner_group.foreach_env_runner(
            lambda runner: runner.module.get_state(), local_env_runner=False
        ):
            # The value function, too: the runners record values.
            for name, value in algo.learner_group.get_weights()[DEFAULT_MODULE_ID].items():
                np.testing.assert_array_equal(states[name], value, err_msg=name)
    finally:
        algo.stop()


def test_the_local_env_runner_follows_the_learner_in_every_weight():
    algo = config_on("recall", "stpn", lr=1e-2).build_algo()
    algo.train()
    learned = algo.learner_group.get_weights()[DEFAULT_MODULE_ID]
    for name, value in algo.env_runner.module.get_state().items():
        np.testing.assert_array_equal(value, learned[name], err_msg=name)
    algo.stop()


def rllibs_own_model(**model_config):
    config = use_batched_rollouts(
        PPOConfig().environment("CartPole-v1").training(train_batch_size=64, minibatch_size=32)
    )
    return config.env_runners(num_env_runners=0, num_envs_per_env_runner=4).rl_module(model_config=model_config)


def test_rllibs_own_model_runs_with_batched_rollouts():
    algo = rllibs_own_model(fcnet_hiddens=[8]).build_algo()
    assert algo.train()["num_env_steps_sampled_lifetime"] >= 64
    algo.stop()


def test_a_recurrent_encoder_that_cannot_reset_inside_a_sequence_is_refused():
    with pytest.raises(UsageError, match="recurrent encoder.*recurrent_spec"):
        rllibs_own_model(use_lstm=True, lstm_cell_size=8).build_algo()


def test_a_minibatch_shorter_than_a_sequence_is_refused():
    config = config_on("recall", "stpn", PPOConfig, train_batch_size=160, minibatch_size=8)
    with pytest.raises(UsageError, match="minibatch_size: got 8.*10 steps"):
        config.build_algo()


def test_more_than_one_learner_is_refused():
    with pytest.raises(UsageError, match="num_learners"):
        config_on("recall").learners(num_learners=2).validate()


def test_a_module_that_hides_its_values_from_env_runners_is_refused():
    from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
    from ray.rllib.core.rl_module.rl_module import RLModuleSpec

    config = config_on("recall").rl_module(rl_module_spec=RLModuleSpec(module_class=DefaultPPOTorchRLModule))
    with pytest.raises(UsageError, match="DefaultPPOTorchRLModule.*MemoryRLModule"):
        config.build_algo()


def test_a_checkpoint_restores_weights_optimizer_and_counts(tmp_path):
    from rllib_stpn.algorithms import A2C

    algo = config_on("recall", "stpn").build_algo()
    algo.train()
    path = algo.save_to_path(str(tmp_path / "checkpoint"))
    restored = A2C.from_checkpoint(path)
    for name, value in algo.get_module().state_dict().items():
        torch.testing.assert_close(restored.get_module().state_dict()[name], value)
    assert restored.train()["num_env_steps_sampled_lifetime"] > 300
    algo.stop()
    restored.stop()


def test_the_model_block_of_a_file_chooses_the_layer():
    model = {"custom_model": "stpn", "custom_model_config": {"hidden_size": 7}, "max_seq_len": 5}
    spec = A2CConfig().training(model=model).rl_module_spec
    assert spec.model_config["custom_model_config"]["hidden_size"] == 7
    assert spec.model_config["max_seq_len"] == 5


def test_a_config_survives_the_way_through_a_dict_as_tune_sends_it():
    config = config_on("recall", "stpn", lr=0.5, bootstrap_truncated=False, train_batch_size=160)
    back = A2CConfig().update_from_dict(config.to_dict())
    assert (back.lr, back.bootstrap_truncated, back.train_batch_size) == (0.5, False, 160)
    assert back.rl_module_spec.model_config["custom_model"] == "stpn"
    algo = back.build_algo()
    assert algo.train()["num_env_steps_sampled_lifetime"] >= 160
    algo.stop()


@pytest.mark.parametrize(
    "settings, named",
    [
        ({"vf_loss_coeff": -1}, "vf_loss_coeff"),
        ({"gamma": 1.5}, "gamma"),
        ({"lambda_": "high"}, "lambda_"),
        ({"micro_batch_size": 0}, "micro_batch_size"),
    ],
)
def test_settings_out_of_range_are_named(settings, named):
    with pytest.raises(UsageError, match=named):
        config_on("recall", **settings).validate()
