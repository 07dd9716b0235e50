"""The Gaussian with a softplus standard deviation, on both API stacks."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.models import MODEL_DEFAULTS, ModelCatalog
from torch.distributions import Independent, Normal, kl_divergence

import rllib_stpn
from rllib_stpn.errors import UsageError
from rllib_stpn.models import recurrent_spec, spec_from_model_dict
from rllib_stpn.models.distributions import OldStackSoftplusGaussian, SoftplusGaussian

MAKE = {"new": SoftplusGaussian.from_logits, "old": OldStackSoftplusGaussian}
BOX = gym.spaces.Box(-3, 3, (2,), np.float32)
MODEL = {"custom_model": "stpn", "custom_model_config": {"hidden_size": 6}, "custom_action_dist": "softplus_gaussian"}


def reference(outputs):
    mean, s = outputs.double().chunk(2, -1)
    return Independent(Normal(mean, torch.log1p(s.exp())), 1)


@pytest.mark.parametrize("stack", MAKE)
def test_it_is_torchs_normal(stack):
    torch.manual_seed(0)
    outputs, others = 3 * torch.randn(7, 4), 3 * torch.randn(7, 4)
    ours, theirs = MAKE[stack](outputs), reference(outputs)
    actions = torch.randn(7, 2)
    close = {"rtol": 1e-4, "atol": 1e-5, "check_dtype": False}
    torch.testing.assert_close(ours.logp(actions), theirs.log_prob(actions.double()), **close)
    torch.testing.assert_close(ours.entropy(), theirs.entropy(), **close)
    torch.testing.assert_close(ours.kl(MAKE[stack](others)), kl_divergence(theirs, reference(others)), **close)


@pytest.mark.parametrize("stack", MAKE)
def test_samples_have_its_mean_and_deviation(stack):
    torch.manual_seed(0)
    outputs = torch.tensor([[0.5, -1.0, 2.0, -2.0]])
    samples = MAKE[stack](outputs.expand(100_000, 4)).sample()
    torch.testing.assert_close(samples.mean(0), outputs[0, :2], rtol=0, atol=0.03)
    torch.testing.assert_close(samples.std(0), torch.log1p(outputs[0, 2:].exp()), rtol=0.01, atol=0)


def test_the_deterministic_action_is_the_mean_and_samples_can_be_differentiated():
    outputs = torch.tensor([[0.5, -1.0, 2.0, -2.0]], requires_grad=True)
    assert torch.equal(SoftplusGaussian.from_logits(outputs).to_deterministic().sample(), outputs[:, :2])
    assert torch.equal(OldStackSoftplusGaussian(outputs).deterministic_sample(), outputs[:, :2])
    assert not SoftplusGaussian.from_logits(outputs).sample().requires_grad
    torch.manual_seed(0)
    sample = SoftplusGaussian.from_logits(outputs).rsample()
    (gradient,) = torch.autograd.grad(sample.sum(), outputs)
    mean, s = outputs.detach().chunk(2, -1)
    noise = (sample.detach() - mean) / torch.log1p(s.exp())
    torch.testing.assert_close(gradient, torch.cat([torch.ones_like(mean), noise * s.sigmoid()], -1))


@pytest.mark.parametrize("s", [-1e4, -200.0, -20.0, 20.0, 200.0, 1e4])
@pytest.mark.parametrize("stack", MAKE)
def test_it_stays_finite_for_any_output(stack, s):
    outputs = torch.tensor([[1.0, s]], requires_grad=True)
    distribution, ordinary = MAKE[stack](outputs), MAKE[stack](torch.tensor([[0.0, 0.0]]))
    quantities = [
        distribution.logp(torch.tensor([[0.3]])),
        distribution.entropy(),
        distribution.kl(ordinary),
        ordinary.kl(distribution),
    ]
    gradients = [torch.autograd.grad(quantity.sum(), outputs, retain_graph=True)[0] for quantity in quantities]
    assert all(torch.isfinite(tensor).all() for tensor in [*quantities, *gradients, distribution.sample()])


@pytest.mark.parametrize("space", [gym.spaces.Discrete(2), gym.spaces.Box(0, 5, (2,), np.int32)])
def test_an_action_space_without_reals_is_refused(space):
    rllib_stpn.register()
    with pytest.raises(UsageError, match="softplus_gaussian: action space: got"):
        ModelCatalog.get_action_dist(space, {**MODEL_DEFAULTS, **MODEL}, framework="torch")
    spec = recurrent_spec("stpn", hidden_size=6, custom_action_dist="softplus_gaussian")
    spec.observation_space, spec.action_space = BOX, space
    with pytest.raises(UsageError, match="softplus_gaussian: action space: got"):
        spec.build()


def test_another_name_is_refused():
    with pytest.raises(UsageError, match="custom_action_dist: got 'softmax_gaussian', allowed are 'softplus_gaussian'"):
        spec_from_model_dict({**MODEL, "custom_action_dist": "softmax_gaussian"})


def ppo():
    return (
        PPOConfig()
        .environment("InvertedPendulum-v5")
        .env_runners(num_env_runners=0, num_envs_per_env_runner=2, rollout_fragment_length=64)
        .training(train_batch_size=128, minibatch_size=64, num_epochs=2)
    )


@pytest.mark.parametrize("sampling", ["batched", "single_agent", "old"])
def test_ppo_learns_with_it(sampling, ray_session):
    rllib_stpn.register()
    config = ppo()
    if sampling == "old":
        config.api_stack(enable_rl_module_and_learner=False, enable_env_runner_and_connector_v2=False)
        config.training(model={**MODEL, "fcnet_hiddens": []})
    else:
        config.rl_module(rl_module_spec=spec_from_model_dict({**MODEL, "max_seq_len": 16}))
    if sampling == "batched":
        rllib_stpn.use_batched_rollouts(config)
    algo = config.build_algo()
    try:
        if sampling == "old":
            policy = algo.get_policy()
            distribution, head = policy.dist_class, policy.model.rl_module.pi
        else:
            distribution = algo.get_module().get_exploration_action_dist_cls()
            head = algo.learner_group._learner.module["default_policy"].pi
        assert distribution is (OldStackSoftplusGaussian if sampling == "old" else SoftplusGaussian)
        before = [parameter.clone() for parameter in head.parameters()]
        algo.train()
        for old, new in zip(before, head.parameters(), strict=True):
            assert torch.isfinite(new).all()
            assert (old != new).reshape(2, -1).any(1).all()  # [mean and s, ...]
    finally:
        algo.stop()
