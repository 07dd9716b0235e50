"""Layers of the user's own in RLlib's modules, on both API stacks."""

import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.rl_module import RLModule
from ray.rllib.models import MODEL_DEFAULTS, ModelCatalog

import rllib_stpn
from rllib_stpn.errors import UsageError
from rllib_stpn.models import encoders, recurrent_spec, spec_from_model_dict
from tests import own_layers as own
from tests.trained_agent import trained_agent

OBSERVATIONS, ACTIONS = gym.spaces.Box(-1, 1, (4,), np.float32), gym.spaces.Discrete(3)


def build(layer, **options):
    spec = recurrent_spec(layer, **{"hidden_size": 6, "max_seq_len": 4, **options})
    spec.observation_space, spec.action_space = OBSERVATIONS, ACTIONS
    return spec.build()


def batch_for(module):
    state = {key: torch.zeros(3, *leaf.shape) for key, leaf in module.get_initial_state().items()}
    return {Columns.OBS: torch.randn(3, 5, 4), Columns.STATE_IN: state}


@pytest.mark.parametrize("layer", [own.Wide, "tests.own_layers.Wide"])
def test_the_spec_holds_the_path(layer):
    settings = recurrent_spec(layer, hidden_size=6).model_config
    assert settings["custom_model"] == "tests.own_layers.Wide"
    block = {"custom_model": "tests.own_layers.Wide", "custom_model_config": {"hidden_size": 6}}
    assert spec_from_model_dict(block).model_config == settings


@pytest.mark.parametrize(
    "layer, options",
    [
        (own.Wide, {}),
        (own.Wide, {"num_layers": 2, "layer_norm": True, "fcnet_hiddens": [7]}),
        (own.Wide, {"hidden_size": None, "num_parameters": 50}),
        (own.Options, {"needed": 2}),
        (own.Rule, {"vf_share_layers": False}),
        (own.EvenInputs, {}),
        (own.Counts, {}),
    ],
)
def test_a_module_has_it_as_its_memory(layer, options, tmp_path):
    module = build(layer, **options)
    if options.get("vf_share_layers", True):
        outputs = module.forward_train(batch_for(module))
        assert outputs[Columns.ACTION_DIST_INPUTS].shape == (3, 5, 3)
    module.save_to_path(tmp_path)
    restored = RLModule.from_checkpoint(tmp_path)
    for one, two in zip(encoders(module).values(), encoders(restored).values(), strict=True):
        inputs = torch.randn(2, 3, one.layer.input_size)
        torch.testing.assert_close(one.layer(inputs), two.layer(inputs))


def test_padded_sequences_have_outputs_as_wide_as_the_layers():
    module = build(own.Wide)
    batch = batch_for(module)
    lengths = torch.tensor([5, 2, 1])
    padded = module.forward_train({**batch, Columns.SEQ_LENS: lengths})[Columns.ACTION_DIST_INPUTS]
    whole = module.forward_train(batch)[Columns.ACTION_DIST_INPUTS]
    for row, length in enumerate(lengths):
        torch.testing.assert_close(padded[row, :length], whole[row, :length])


@pytest.mark.parametrize(
    "layer, options, message",
    [
        (
            own.Wide,
            {"hidden_size": None},
            "own_layers.Wide: hidden_size, num_parameters: got None, None, allowed is one",
        ),
        (own.Wide, {"hidden_size": 0}, "own_layers.Wide: hidden_size: got 0, allowed is a whole number"),
        (own.Wide, {"width": 3}, "own_layers.Wide: got the unknown option 'width', allowed are"),
        (own.Options, {}, "own_layers.Options: needed: got no value"),
        (own.Taken, {}, "own_layers.Taken: got an option 'fcnet_hiddens', a name that the model block has already"),
        (own.NoLayer, {}, "custom_model: got <class 'tests.own_layers.NoLayer'>, allowed are"),
        ("tests.own_layers.Wyde", {}, r"custom_model: 'tests.own_layers.Wyde': .*did you mean Wide\?"),
    ],
)
def test_what_is_wrong_is_told_when_the_spec_is_made(layer, options, message):
    with pytest.raises(UsageError, match=message):
        recurrent_spec(layer, **{"hidden_size": 6, **options})


def test_the_old_stack_takes_it_by_its_path():
    rllib_stpn.register()
    options = {"layer": "tests.own_layers.Wide", "hidden_size": 6}
    model = {**MODEL_DEFAULTS, "custom_model": "own_layer", "custom_model_config": options, "fcnet_hiddens": []}
    made = ModelCatalog.get_model_v2(OBSERVATIONS, ACTIONS, 3, model, framework="torch")
    (encoder,) = encoders(made.rl_module).values()
    assert type(encoder.layer) is own.Wide
    state = [torch.zeros(2, *leaf.shape) for leaf in made.get_initial_state()]
    logits, after = made({"obs": torch.randn(6, 4), "obs_flat": torch.randn(6, 4)}, state, torch.tensor([3, 2]))
    assert (logits.shape, [leaf.shape for leaf in after]) == ((6, 3), [(2, 6)])


@pytest.mark.parametrize("batched", [True, False])
def test_remote_env_runners_and_other_processes_import_it(batched, ray_session, tmp_path):
    config = PPOConfig().environment("CartPole-v1").env_runners(num_env_runners=1, num_envs_per_env_runner=2)
    config.training(train_batch_size=64, minibatch_size=64, num_epochs=1)
    config.rl_module(rl_module_spec=recurrent_spec(own.Counts, hidden_size=4, max_seq_len=5))
    agent = trained_agent(rllib_stpn.use_batched_rollouts(config) if batched else config, tmp_path)
    (encoder,) = encoders(agent.module).values()
    assert type(encoder.layer) is own.Counts
    assert (rllib_stpn.evaluate(agent, episodes=2).lengths > 0).all()


def test_a_checkpoint_whose_layer_is_not_here_says_what_is_missing(tmp_path, monkeypatch):
    (tmp_path / "gone_layers.py").write_text("from tests.own_layers import Wide\n\n\nclass Gone(Wide):\n    pass\n")
    with monkeypatch.context() as here:
        here.syspath_prepend(tmp_path)
        module = build("gone_layers.Gone")
        module.save_to_path(tmp_path / "module")
    monkeypatch.delitem(sys.modules, "gone_layers")
    with pytest.raises(
        UsageError, match="'gone_layers.Gone' cannot be imported: No module named 'gone_layers'; allowed"
    ):
        RLModule.from_checkpoint(tmp_path / "module")
