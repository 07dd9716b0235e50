"""The model of RLlib's old API stack, with RLlib's own policies, workers and algorithms."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.algorithms.appo import APPOConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.ppo_torch_policy import PPOTorchPolicy
from ray.rllib.models import MODEL_DEFAULTS, ModelCatalog

import rllib_stpn
from rllib_stpn.errors import UsageError
from rllib_stpn.layers import LAYERS
from tests.trained import EVERY_LAYER, ONE_LAYER

OBSERVATIONS = gym.spaces.Box(-1, 1, (4,), np.float32)
IMAGE = gym.spaces.Box(0, 255, (42, 42, 1), np.uint8)
ACTIONS = {
    "discrete": gym.spaces.Discrete(3),
    "multi_discrete": gym.spaces.MultiDiscrete([3, 2]),
    "continuous": gym.spaces.Box(-1, 1, (2,), np.float32),
}
STATEFUL = sorted(set(LAYERS) - {"mlp"})


@pytest.fixture(autouse=True)
def registered():
    rllib_stpn.register()


def block(layer="stpn", around=(), max_seq_len=8, **options):
    return {
        "custom_model": layer,
        "custom_model_config": {"hidden_size": 6, **options},
        "max_seq_len": max_seq_len,
        "fcnet_hiddens": [],
        **dict(around),
    }


def build(*args, num_outputs=3, **kwargs):
    return ModelCatalog.get_model_v2(
        OBSERVATIONS,
        ACTIONS["discrete"],
        num_outputs=num_outputs,
        model_config={**MODEL_DEFAULTS, **block(*args, **kwargs)},
        framework="torch",
    )


def ppo_policy(observations, actions, model):
    config = PPOConfig().api_stack(enable_rl_module_and_learner=False, enable_env_runner_and_connector_v2=False)
    return PPOTorchPolicy(observations, ACTIONS[actions], config.training(model=model).to_dict())


def gradients(model, outputs):
    torch.manual_seed(1)
    loss = sum((tensor * torch.randn(tensor.shape)).sum() for tensor in outputs)
    return torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)


@pytest.mark.parametrize("layer", STATEFUL)
def test_padded_sequences_equal_the_layer_run_on_each_alone(layer):
    torch.manual_seed(0)
    model = build(layer)
    lengths = [5, 2, 5, 1, 3]
    batch, steps = len(lengths), max(lengths)
    real = torch.arange(steps) < torch.tensor(lengths)[:, None]
    observations = torch.where(real[..., None], torch.randn(batch, steps, 4), torch.nan)
    state = [0.1 * torch.randn(batch, *leaf.shape) for leaf in model.get_initial_state()]

    logits, after = model({"obs": observations.flatten(0, 1)}, state, torch.tensor(lengths))
    values = model.value_function()
    assert not logits[~real.flatten()].any()
    assert not values[~real.flatten()].any()

    core = model.rl_module
    names = sorted(core.encoder.encoder.layer.state_shapes())
    alone, alone_values, alone_after = [], [], []
    for row, length in enumerate(lengths):
        own = {name: leaf[row : row + 1] for name, leaf in zip(names, state, strict=True)}
        hidden, own = core.encoder.encoder.layer(observations[row : row + 1, :length], own)
        alone.append(core.pi(hidden[0]))
        alone_values.append(core.vf(hidden[0])[:, 0])
        alone_after.append([own[name] for name in names])
    padded = [logits[real.flatten()], values[real.flatten()], *after]
    expected = [torch.cat(alone), torch.cat(alone_values), *map(torch.cat, zip(*alone_after, strict=True))]
    torch.testing.assert_close(padded, expected)
    torch.testing.assert_close(gradients(model, padded), gradients(model, expected), rtol=1e-4, atol=1e-5)
    unmasked = gradients(model, [(logits - 1).square().sum(), (values - 1).square().sum()])
    masked = gradients(model, [(padded[0] - 1).square().sum(), (padded[1] - 1).square().sum()])
    torch.testing.assert_close(unmasked, masked)


def test_steps_one_by_one_equal_the_sequence_and_start_from_zero():
    model = build("stpn", num_layers=2)
    observations = torch.randn(3, 4, 4)
    logits, after = model({"obs": observations.flatten(0, 1)}, [], torch.tensor([4, 4, 4]))
    stepwise, state = [], [leaf.expand(3, *leaf.shape) for leaf in model.get_initial_state()]
    for t in range(4):
        step, state = model({"obs": observations[:, t]}, state, None)
        stepwise.append(step)
    torch.testing.assert_close(torch.stack(stepwise, 1).flatten(0, 1), logits)
    torch.testing.assert_close(state, after)


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "separate"])
@pytest.mark.parametrize("actions", ACTIONS)
@pytest.mark.parametrize("layer", ["stpn", "lstm", "mlp"])
def test_ppos_policy_is_built_on_it(layer, actions, shared):
    model = block(layer, vf_share_layers=shared, around={"fcnet_hiddens": [9]})
    policy = ppo_policy(OBSERVATIONS, actions, model)
    assert policy.is_recurrent() == (layer != "mlp")
    leaves = policy.get_initial_state()
    assert len(leaves) == {"stpn": 2, "lstm": 2, "mlp": 0}[layer] * (1 if shared else 2)
    observations = np.stack([OBSERVATIONS.sample() for _ in range(2)])
    states = [np.repeat(leaf[None], 2, axis=0) for leaf in leaves]
    sampled, after, extras = policy.compute_actions(observations, states)
    assert all(ACTIONS[actions].contains(action) or actions == "continuous" for action in sampled)
    assert [leaf.shape for leaf in after] == [leaf.shape for leaf in states]
    assert extras["vf_preds"].shape == (2,)


def test_images_go_through_convolutions():
    model = block(around={"conv_filters": [[4, 8, 4], [8, 4, 2]]})
    policy = ppo_policy(IMAGE, "discrete", model)
    names = [name for name, _ in policy.model.named_parameters()]
    assert any("tokenizer" in name for name in names)
    image = IMAGE.sample()[None]
    logits, _ = policy.model({"obs": torch.from_numpy(image)}, [], None)
    expected = policy.model.rl_module.forward_inference(
        {
            "obs": torch.from_numpy(image[:, None]),
            "state_in": {k: v[None] for k, v in policy.model.rl_module.get_initial_state().items()},
        }
    )
    torch.testing.assert_close(logits, expected["action_dist_inputs"][:, 0])


def test_free_standard_deviations_are_parameters():
    model = block(around={"free_log_std": True})
    policy = ppo_policy(OBSERVATIONS, "continuous", model)
    assert any("log_std" in name for name, _ in policy.model.named_parameters())


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"normalise": "pre"}, "normalise.*normalize"),
        ({"normalize": "sideways"}, "sideways.*pre.*post"),
        ({"hidden_size": 0}, "hidden_size.*0"),
        ({"max_seq_len": 0}, "max_seq_len.*0"),
        ({"around": {"use_lstm": True}}, "use_lstm.*True.*False"),
        ({"around": {"_time_major": True}}, "_time_major.*True.*False"),
        ({"num_outputs": 4}, "distribution.*4 inputs.*3"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_it_cannot_take_is_refused_by_name(kwargs, message):
    with pytest.raises(UsageError, match=message) as error:
        build(**kwargs)
    assert "\n" not in str(error.value)


def old_stack(config, env, model, num_env_runners=0, **training):
    return (
        config.api_stack(enable_rl_module_and_learner=False, enable_env_runner_and_connector_v2=False)
        .environment(env)
        .env_runners(num_env_runners=num_env_runners, rollout_fragment_length=50)
        .training(model=model, train_batch_size=200, **training)
        .reporting(min_time_s_per_iteration=0)
        .debugging(seed=0)
    )


def weights(algo):
    return {key: value.copy() for key, value in algo.get_policy().get_weights().items()}


def trained(before, after):
    return {key for key in before if not np.array_equal(before[key], after[key])}


PPO = {"minibatch_size": 64, "num_epochs": 2, "vf_clip_param": float("inf")}


@pytest.mark.parametrize(
    "layer, env, iterations",
    [
        ("stpn", "StatelessCartPole", 2),
        ("lstm", "StatelessCartPole", 2),
        ("mlp", "StatelessCartPole", 1),
        ("stpn", "Pendulum-v1", 1),
    ],
)
def test_ppo_trains_and_its_checkpoint_acts_the_same(layer, env, iterations, ray_session, tmp_path):
    algo = old_stack(PPOConfig(), env, block(layer), **PPO).build_algo()
    try:
        before = weights(algo)
        for _ in range(iterations):
            result = algo.train()
        assert result["num_env_steps_sampled_lifetime"] == 200 * iterations
        parameters = {name for name, _ in algo.get_policy().model.named_parameters()}
        assert trained(before, weights(algo)) == parameters
        algo.save(str(tmp_path))
        restored = type(algo).from_checkpoint(str(tmp_path))
        space = algo.get_policy().observation_space
        space.seed(0)
        observations = [space.sample() for _ in range(3)]
        acted = [actions_over(agent, observations) for agent in (algo, restored)]
        restored.stop()
        np.testing.assert_array_equal(*acted)
    finally:
        algo.stop()


def actions_over(algo, observations):
    """Deterministic actions over one sequence."""
    policy = algo.get_policy()
    state, actions = policy.get_initial_state(), []
    for observation in observations:
        action, state, _ = policy.compute_single_action(observation, state, explore=False)
        actions.append(action)
    return np.stack(actions)


ALGORITHMS = {"PPO": PPOConfig, "APPO": APPOConfig}
HERE = "old", "RLlib's own"


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY_LAYER[HERE])
@pytest.mark.parametrize("layer", sorted(LAYERS))
def test_every_layer_learns(layer, name, ray_session):
    algo = old_stack(ALGORITHMS[name](), "StatelessCartPole", block(layer), **PPO).build_algo()
    try:
        before = weights(algo)
        algo.train()
        assert trained(before, weights(algo)) == {key for key, _ in algo.get_policy().model.named_parameters()}
    finally:
        algo.stop()


@pytest.mark.parametrize(("name", "layer"), ONE_LAYER[HERE].items())
def test_remote_workers_of_other_algorithms_know_the_model(name, layer, ray_session):
    algo = old_stack(ALGORITHMS[name](), "StatelessCartPole", block(layer), num_env_runners=1).build_algo()
    try:
        before = weights(algo)
        for _ in range(20):  # the learner works beside the loop
            algo.train()
            if changed := trained(before, weights(algo)):
                break
        assert changed == {name for name, _ in algo.get_policy().model.named_parameters()}
    finally:
        algo.stop()
