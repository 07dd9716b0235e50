"""The catalog, its encoder and the spec."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from rllib_stpn.errors import UsageError
from rllib_stpn.layers import LAYERS
from rllib_stpn.models import encoders, recurrent_spec, spec_from_model_dict
from rllib_stpn.models.encoder import observations_at_once

VECTOR = gym.spaces.Box(-1, 1, (5,), np.float32)
IMAGE = gym.spaces.Box(0, 255, (84, 84, 1), np.uint8)
PONG_FILTERS = [[16, 8, 4, "valid"], [32, 4, 2, "valid"]]
ACTIONS = {
    "discrete": (gym.spaces.Discrete(3), 3),
    "multi_discrete": (gym.spaces.MultiDiscrete([3, 2]), 5),
    "continuous": (gym.spaces.Box(-1, 1, (2,), np.float32), 4),
}


def build(name, observations=VECTOR, actions=ACTIONS["discrete"][0], **options):
    spec = recurrent_spec(name, **{"hidden_size": 6, "max_seq_len": 4, **options})
    spec.observation_space, spec.action_space = observations, actions
    return spec.build()


def batch_for(module, observations, batch=3, steps=4):
    sample = np.stack([[observations.sample() for _ in range(steps)] for _ in range(batch)])
    columns = {Columns.OBS: torch.from_numpy(sample)}
    if module.is_stateful():
        columns[Columns.STATE_IN] = torch.utils._pytree.tree_map(
            lambda s: s.expand(batch, *s.shape).clone(), module.get_initial_state()
        )
    return columns


@pytest.mark.parametrize("actions", ACTIONS)
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "separate"])
@pytest.mark.parametrize("layer", ["stpn", "lstm", "mlp"])
def test_module_answers_for_every_action_space(layer, shared, actions):
    space, width = ACTIONS[actions]
    module = build(layer, actions=space, vf_share_layers=shared)
    batch = batch_for(module, VECTOR)
    outputs = module.forward_train(batch)
    assert outputs[Columns.ACTION_DIST_INPUTS].shape == (3, 4, width)
    assert module.compute_values(batch, embeddings=outputs[Columns.EMBEDDINGS]).shape == (3, 4)
    assert len(encoders(module)) == (1 if shared else 2)
    assert module.is_stateful() == (layer != "mlp")
    rollout = module.forward_rollout(batch)
    torch.testing.assert_close(rollout[Columns.ACTION_DIST_INPUTS], outputs[Columns.ACTION_DIST_INPUTS])
    torch.testing.assert_close(rollout[Columns.VF_PREDS], module.compute_values(batch))
    assert not module.compute_values(batch).requires_grad


def test_is_first_resets_the_state_inside_a_sequence():
    module = build("stpn")
    batch = batch_for(module, VECTOR)
    fresh = dict(batch)
    fresh[Columns.OBS] = batch[Columns.OBS][:, 2:]
    batch["is_first"] = torch.tensor([[False, False, True, False]] * 3)
    whole = module.forward_train(batch)[Columns.ACTION_DIST_INPUTS][:, 2:]
    torch.testing.assert_close(whole, module.forward_train(fresh)[Columns.ACTION_DIST_INPUTS])


def test_pongs_core_has_the_published_size():
    sizes = {}
    for layer, hidden in (("stpn", 64), ("lstm", 48)):
        module = build(layer, IMAGE, gym.spaces.Discrete(6), hidden_size=hidden, conv_filters=PONG_FILTERS)
        (encoder,) = encoders(module).values()
        sizes[layer] = sum(p.numel() for p in encoder.layer.parameters())
        assert sum(p.numel() for p in encoder.tokenizer.parameters()) == 9264
    assert sizes == {"stpn": 510_016, "lstm": 507_264}


def test_pixels_are_scaled_around_zero():
    module = build("mlp", IMAGE, conv_filters=PONG_FILTERS)
    (encoder,) = encoders(module).values()
    seen = []
    encoder.tokenizer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][Columns.OBS]))
    image = torch.zeros(1, 84, 84, 1, dtype=torch.uint8)
    image[0, 0, 0, 0], image[0, 1, 0, 0] = 128, 255
    module.forward_inference({Columns.OBS: image})
    assert (seen[0].min(), seen[0][0, 0, 0, 0], seen[0].max()) == (-1.0, 0.0, 127 / 128)
    assert image[0, 1, 0, 0] == 255


@pytest.mark.parametrize("layer", ["mlp", "lstm"])
def test_images_go_through_the_convolutions_in_pieces(layer):
    module = build(layer, IMAGE, conv_filters=PONG_FILTERS)
    (encoder,) = encoders(module).values()
    batch = batch_for(module, IMAGE)  # of 12 frames
    found, sizes = {}, []
    encoder.tokenizer.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0][Columns.OBS])))
    for at_once in (encoder._at_once, 5):
        encoder._at_once = at_once
        module.zero_grad()
        outputs = module.forward_train(batch)[Columns.ACTION_DIST_INPUTS]
        outputs.square().sum().backward()
        found[at_once] = outputs.detach(), *[p.grad.clone() for p in encoder.parameters()]
    assert sizes == [12, 5, 5, 2]
    for whole, pieces in zip(*found.values(), strict=True):
        torch.testing.assert_close(whole, pieces)


def test_only_convolutions_without_statistics_of_the_batch_take_pieces():
    convolution = torch.nn.Conv2d(1, 2, 3)
    large, small = (observations_at_once(torch.nn.Sequential(convolution), (side, side, 1)) for side in (84, 42))
    assert small > large > 0
    assert observations_at_once(torch.nn.Sequential(convolution, torch.nn.BatchNorm2d(2)), (84, 84, 1)) == 0
    assert observations_at_once(torch.nn.Linear(3, 3), (3,)) == 0


@pytest.mark.parametrize("layer", sorted(LAYERS))
def test_every_layer_runs_in_the_module_by_size_and_by_budget(layer):
    for size in ({"hidden_size": 6}, {"hidden_size": None, "num_parameters": 400}):
        module = build(layer, **size)
        outputs = module.forward_train(batch_for(module, VECTOR))
        assert outputs[Columns.ACTION_DIST_INPUTS].shape == (3, 4, 3)
    (encoder,) = encoders(module).values()
    assert abs(sum(p.numel() for p in encoder.layer.parameters()) - 400) < 100


def test_layers_stack():
    module = build("gru", num_layers=2, layer_norm=True, input_projection=7)
    assert len(module.get_initial_state()) == 2
    assert module.forward_train(batch_for(module, VECTOR))[Columns.ACTION_DIST_INPUTS].shape == (3, 4, 3)


def test_a_layer_reads_the_observation_itself_unless_given_hidden_layers():
    (plain,) = encoders(build("stpn")).values()
    (tokenized,) = encoders(build("stpn", fcnet_hiddens=[9])).values()
    assert (plain.layer.input_size, tokenized.layer.input_size) == (5, 9)


@pytest.mark.parametrize(
    "space", [gym.spaces.Discrete(4), gym.spaces.Box(0, 1, (3, 3)), gym.spaces.Dict({"a": VECTOR})]
)
def test_an_observation_space_that_the_encoder_cannot_take_is_named(space):
    with pytest.raises(UsageError, match="observation space: got"):
        build("stpn", space)


@pytest.mark.parametrize(
    "model, message",
    [
        ({"custom_model": "sptn", "custom_model_config": {"hidden_size": 3}}, "custom_model.*'sptn'.*'stpn'"),
        ({"custom_model": "stpn"}, "got no hidden_size"),
        ({"custom_model": "stpn", "custom_model_config": {"hidden_size": 0}}, "hidden_size.*0"),
        (
            {"custom_model": "stpn", "custom_model_config": {"hidden_size": 3, "normalise": "pre"}},
            "normalise.*normalize",
        ),
        (
            {"custom_model": "stpn", "custom_model_config": {"hidden_size": 3, "normalize": "sideways"}},
            "sideways.*pre.*post",
        ),
        (
            {"custom_model": "stpn", "custom_model_config": {"hidden_size": 3}, "max_seq_len": 0},
            "max_seq_len",
        ),
        (
            {"custom_model": "stpn", "custom_model_config": {"hidden_size": 3}, "conv_filter": []},
            "conv_filter.*conv_filters",
        ),
        ({"custom_model": "stpn", "custom_model_config": 3}, "custom_model_config.*mapping"),
    ],
)
def test_a_wrong_model_block_says_what_is_allowed(model, message):
    with pytest.raises(UsageError, match=message):
        spec_from_model_dict(model)
