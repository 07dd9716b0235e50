"""What the lean learner keeps of RLlib's: checkpoints, bad gradients, several modules, a user's own classes."""

import copy
import logging

import numpy as np
import pytest
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

import rllib_stpn.learners.lean as lean
from rllib_stpn.algorithms import A2CConfig
from rllib_stpn.algorithms.a2c import A2CTorchLearner
from rllib_stpn.errors import NonFiniteError, UsageError
from rllib_stpn.learners import LeanPPOTorchLearner, reliable_learner
from rllib_stpn.models import recurrent_spec
from rllib_stpn.rollouts import use_batched_rollouts
from tests.learners.test_equality import (
    batches,
    built,
    configured,
    difference,
    flat,
    learners,
    parameters,
    trained,
    update,
)
from tests.models.test_stock import multi_agent, runner_and_learner

BOTH = (PPOTorchLearner, LeanPPOTorchLearner)


def implementation(learner):
    return [group["fused"] for o in learner._named_optimizers.values() for group in o.param_groups]


@pytest.mark.parametrize("kinds", [BOTH, BOTH[::-1]], ids=["from RLlib's", "to RLlib's"])
def test_a_checkpoint_of_one_learner_goes_on_in_the_other(kinds):
    one, other = learners(kinds, use_kl_loss=False)  # RLlib's state has no KL coefficient, see test_adapted.py
    given = list(batches(one))
    trained(one, given[:10])
    before = implementation(other)
    other.set_state(one.get_state())
    assert implementation(other) == before or not issubclass(kinds[1], LeanPPOTorchLearner)
    np.random.seed(1)  # noqa: NPY002
    for learner in (one, other):
        np.random.seed(1)  # noqa: NPY002
        for columns in given[10:]:
            update(learner, columns)
    assert difference(parameters(other), parameters(one)) < 1e-5


def test_adam_is_fused_and_has_a2cs_epsilon():
    learner = configured(A2CTorchLearner, A2CConfig, adam_epsilon=0.125).build_learner(
        spaces={DEFAULT_MODULE_ID: (configured(None).observation_space, configured(None).action_space)}
    )
    (optimizer,) = learner._named_optimizers.values()
    (group,) = optimizer.param_groups
    assert (group["fused"], group["eps"]) == (True, 0.125)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30], ids=str)
@pytest.mark.parametrize("kind", [reliable_learner(PPOTorchLearner), LeanPPOTorchLearner], ids=["RLlib's", "lean"])
def test_a_gradient_that_is_not_finite_ends_the_update_and_changes_no_weight(kind, bad):
    learner = built(configured(kind))
    (columns,) = list(batches(learner))[:1]
    before = {name: value.clone() for name, value in parameters(learner).items()}
    first = next(iter(learner._params.values()))
    hook = first.register_hook(lambda gradient: torch.full_like(gradient, bad))
    with pytest.raises(NonFiniteError, match="gradients are not finite"):
        trained(learner, [columns])
    for name, value in parameters(learner).items():
        assert torch.equal(value, before[name])
    hook.remove()
    trained(learner, [columns])  # a caller may go on
    assert difference(parameters(learner), before) > 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")], ids=str)
def test_such_a_step_is_left_out_with_rllibs_setting(bad):
    after = []
    for learner in learners(BOTH):
        learner.config._is_frozen = False
        learner.config.torch_skip_nan_gradients = True
        (columns,) = list(batches(learner))[:1]
        first = next(iter(learner._params.values()))
        first.register_hook(lambda gradient: torch.full_like(gradient, bad))
        trained(learner, [columns])
        after.append(parameters(learner))
    for name in after[0]:
        torch.testing.assert_close(after[1][name], after[0][name], equal_nan=True, rtol=1e-5, atol=1e-6)


class DoublesTheLoss(LeanPPOTorchLearner):
    def compute_loss_for_module(self, **kwargs):
        return 2 * super().compute_loss_for_module(**kwargs)


class ForgetsTheGradients(LeanPPOTorchLearner):
    def postprocess_gradients(self, gradients_dict):
        return {parameter: torch.zeros_like(gradient) for parameter, gradient in gradients_dict.items()}


@pytest.mark.parametrize(
    "kind, method",
    [(DoublesTheLoss, "compute_loss_for_module"), (ForgetsTheGradients, "postprocess_gradients")],
)
def test_a_users_own_method_brings_rllibs_update_and_a_note(kind, method, caplog):
    plain, own = learners((LeanPPOTorchLearner, kind))
    given = list(batches(plain))[:3]
    with caplog.at_level(logging.WARNING):
        theirs, mine = trained(plain, given), trained(own, given)
    assert caplog.text.count(f"{kind.__name__} overrides {method}") == 1
    if kind is DoublesTheLoss:
        losses = [float(results[0][DEFAULT_MODULE_ID]["total_loss"].peek()) for results in (mine, theirs)]
        assert losses[0] == pytest.approx(2 * losses[1], rel=0.05)
    else:
        before = built(configured(kind))
        assert difference(parameters(own), parameters(before)) == 0


def test_torch_compile_brings_rllibs_update():
    learner = built(configured(LeanPPOTorchLearner))
    assert learner._reason_for_rllibs_update() is None
    learner.config._is_frozen = False
    learner.config.torch_compile_learner = True
    assert learner._reason_for_rllibs_update() == "torch_compile_learner is set"


def two_agents(kind, **several):
    """RLlib's env runner and a learner for two agents with layers of their own."""
    config = multi_agent().training(lr=1e-2).learners(learner_class=kind)
    return runner_and_learner(config.multi_agent(**several) if several else config)


def parameters_by_module(learner):
    return {
        id_: {n: p.detach().clone() for n, p in module.named_parameters()} for id_, module in learner.module.items()
    }


def update_from_episodes(learner, episodes):
    np.random.seed(1)  # noqa: NPY002, RLlib's shuffling
    return learner.update(
        episodes=copy.deepcopy(episodes),  # RLlib's connectors change them
        timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: 0},
        num_epochs=2,
        minibatch_size=20,
        shuffle_batch_per_epoch=True,
    )


def test_several_modules_take_rllibs_steps():
    (runner, rllibs), (other, own) = (two_agents(kind) for kind in BOTH)
    own.module.set_state(rllibs.module.get_state())
    for _ in range(3):
        episodes = runner.sample(num_timesteps=60)
        theirs, mine = (update_from_episodes(learner, episodes) for learner in (rllibs, own))
        assert flat(mine) == pytest.approx(flat(theirs), rel=1e-3, abs=1e-4, nan_ok=True)
    expected = parameters_by_module(rllibs)
    for module_id, mine in parameters_by_module(own).items():
        assert difference(mine, expected[module_id]) < 1e-5
    for each in (runner, other):
        each.stop()


def test_a_module_that_is_not_to_be_trained_stays():
    runner, learner = two_agents(LeanPPOTorchLearner, policies_to_train=["often"])
    before = parameters_by_module(learner)
    update_from_episodes(learner, runner.sample(num_timesteps=60))
    moved = {
        module_id: difference(mine, before[module_id]) for module_id, mine in parameters_by_module(learner).items()
    }
    assert moved["often"] > 0 and moved["seldom"] == 0
    runner.stop()


@pytest.mark.parametrize("given", [None, PPOTorchLearner], ids=["left out", "RLlib's"])
def test_batched_rollouts_bring_it_unless_a_learner_is_chosen(given):
    config = PPOConfig().environment("CartPole-v1")
    if given is not None:
        config.learners(learner_class=given)
    chosen = use_batched_rollouts(config).learner_class
    assert issubclass(chosen, PPOTorchLearner) and issubclass(chosen, LeanPPOTorchLearner) == (given is None)


def test_a_learner_of_the_users_stays_and_is_told_of(caplog):
    class Own(PPOTorchLearner):
        pass

    config = PPOConfig().environment("CartPole-v1").learners(learner_class=Own)
    assert issubclass(use_batched_rollouts(config).learner_class, Own)
    assert "Own is not derived from rllib_stpn.learners.LeanPPOTorchLearner" in caplog.text


def test_threads_follow_the_size_of_minibatches_or_the_setting(monkeypatch):
    learner = built(configured(LeanPPOTorchLearner))
    within = []
    monkeypatch.setattr(
        learner, "_gradient_step", lambda *_, **__: within.append(torch.get_num_threads()) or ({}, {}, {})
    )
    (columns,) = list(batches(learner))[:1]
    torch.set_num_threads(2)
    for worth, setting in ((1e9, None), (0, None), (1e9, 3)):
        monkeypatch.setattr(lean, "WORTH_MORE_THREADS", worth)
        learner.config.learner_config_dict = {} if setting is None else {"torch_threads": setting}
        update(learner, columns)
    assert (within[0], within[-1]) == (1, 3) and 2 in within
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("threads", [0, 1.5, True])
def test_a_number_of_threads_that_cannot_be_is_named(threads):
    config = configured(LeanPPOTorchLearner)
    config.learner_config_dict = {"torch_threads": threads}
    with pytest.raises(UsageError, match="torch_threads: got"):
        built(config)


@pytest.mark.slow
def test_two_remote_learners_take_rllibs_steps_together(ray_session):
    after = []
    for kind in BOTH:
        config = (
            PPOConfig()
            .environment("CartPole-v1")
            .env_runners(num_env_runners=0, num_envs_per_env_runner=8, rollout_fragment_length=20)
            .training(train_batch_size_per_learner=80, minibatch_size=40, num_epochs=2, lr=1e-3)
            .learners(learner_class=kind, num_learners=2, num_cpus_per_learner=1)
            .rl_module(rl_module_spec=recurrent_spec("lstm", hidden_size=8, max_seq_len=20))
            .debugging(seed=0)
        )
        algo = use_batched_rollouts(config).build_algo()
        if kind is LeanPPOTorchLearner:  # in an actor, too, whose class Ray has wrapped
            results = algo.learner_group.foreach_learner(lambda learner: learner._reason_for_rllibs_update())
            assert [call.result_or_error.get() for call in results] == [None, None]
        algo.train()
        weights = algo.learner_group.get_weights()[DEFAULT_MODULE_ID]
        after.append({name: torch.as_tensor(value) for name, value in weights.items()})
        algo.stop()
    for name, value in after[0].items():
        torch.testing.assert_close(after[1][name], value, rtol=1e-5, atol=1e-6)
