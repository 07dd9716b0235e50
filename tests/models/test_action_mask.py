"""Masks of actions: the spaces, and RLlib's own module for them as the oracle."""

import copy
import pickle
import re

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.examples.rl_modules.classes.action_masking_rlm import ActionMaskingTorchRLModule

from rllib_stpn.errors import UsageError
from rllib_stpn.models import MemoryRLModule, recurrent_spec
from rllib_stpn.models.action_mask import MaskedSpace, mask_size, without_mask
from rllib_stpn.models.catalog import ActorCriticCatalog
from rllib_stpn.models.lean_distributions import lean_distribution
from rllib_stpn.models.spaces import FlatSpace

MASK = spaces.Box(0.0, 1.0, (4,), np.float32)
VECTOR = spaces.Box(-1.0, 1.0, (3,), np.float32)
SEEN = spaces.Dict({"action_mask": MASK, "observations": VECTOR})
LOWEST = torch.finfo(torch.float32).min


def observations(*lead):
    """Flat ones of ``SEEN``, at least one action allowed in each."""
    generator = torch.Generator().manual_seed(0)
    mask = (torch.rand(*lead, 4, generator=generator) < 0.5).float()
    mask[..., 2] = 1
    return torch.cat([torch.randn(*lead, 3, generator=generator), mask], -1)


def build(layer, masked=True, actions=None, **options):
    spec = recurrent_spec(layer, hidden_size=6, **options)
    spec.observation_space = FlatSpace(SEEN).space if masked else VECTOR
    spec.action_space = actions or spaces.Discrete(4)
    torch.manual_seed(0)
    return spec.build()


def test_the_mask_comes_last_and_the_space_knows_of_it():
    space = spaces.Dict({"action_mask": spaces.MultiBinary(2), "b": VECTOR, "a": spaces.Discrete(2)})
    flat = FlatSpace(space)
    assert (flat.size, mask_size(flat.space), without_mask(flat.space).shape) == (7, 2, (5,))
    batch = {"action_mask": np.array([[1, 0]]), "a": np.array([1]), "b": np.array([[0.5, 0.25, 0.0]])}
    assert flat.flatten(batch, (1,)).tolist() == [[0, 1, 0.5, 0.25, 0, 1, 0]]
    for other in (copy.deepcopy(flat.space), pickle.loads(pickle.dumps(flat.space))):
        assert (type(other), other.mask_size, other) == (MaskedSpace, 2, flat.space)
    assert mask_size(FlatSpace(spaces.Dict({"a": VECTOR})).space) == mask_size(VECTOR) == 0


def test_a_mask_within_another_dict_counts():
    within = spaces.Dict({"observation": SEEN, "previous_reward": spaces.Box(-np.inf, np.inf, (1,))})
    assert mask_size(FlatSpace(within).space) == 4


@pytest.mark.parametrize(
    "space, message",
    [
        (spaces.Dict({"action_mask": MASK}), "allowed is one with at least one number in it beside the action_mask"),
        (
            spaces.Dict({"a": SEEN, "b": SEEN}),
            "got 2 parts called action_mask, allowed is one",
        ),
        (
            spaces.Dict({"action_mask": spaces.Discrete(3), "b": VECTOR}),
            r"action_mask: got Discrete\(3\), allowed is a Box of one dimension or MultiBinary",
        ),
    ],
)
def test_masks_that_cannot_be_are_refused(space, message):
    with pytest.raises(UsageError, match=message):
        FlatSpace(space)


@pytest.mark.parametrize(
    "actions, message",
    [
        (spaces.Discrete(5), "action_mask: got 4 numbers, allowed is one for each of the 5 values of Discrete(5)"),
        (
            spaces.Box(-1, 1, (2,)),
            "action_mask: got actions Box(-1.0, 1.0, (2,), float32), allowed is a mask where all",
        ),
        (
            spaces.Tuple([spaces.Discrete(2), spaces.Box(-1, 1, (1,))]),
            "allowed is a mask where all actions are discrete",
        ),
    ],
)
def test_masks_that_do_not_fit_the_actions_are_refused(actions, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        build("lstm", actions=actions)


@pytest.mark.parametrize("shared", [True, False])
def test_it_equals_rllibs_own_module(shared):
    settings = DefaultModelConfig(fcnet_hiddens=[8], vf_share_layers=shared)
    theirs = ActionMaskingTorchRLModule(
        observation_space=SEEN, action_space=spaces.Discrete(4), model_config=settings, inference_only=False
    )
    ours = MemoryRLModule(
        observation_space=FlatSpace(SEEN).space,
        action_space=spaces.Discrete(4),
        model_config=settings,
        catalog_class=ActorCriticCatalog,
        inference_only=False,
    )
    ours.load_state_dict({key.replace("pi.", "pi.head."): value for key, value in theirs.state_dict().items()})
    flat = observations(20)

    def batch():
        return {Columns.OBS: {"observations": flat[:, :3], "action_mask": flat[:, 3:]}}

    for forward in ("forward_inference", "forward_exploration"):
        found = getattr(ours, forward)({Columns.OBS: flat})[Columns.ACTION_DIST_INPUTS]
        expected = getattr(theirs, forward)(batch())[Columns.ACTION_DIST_INPUTS]
        allowed = flat[:, 3:] > 0
        assert torch.equal(found[allowed], expected[allowed])
        assert (expected[~allowed] <= -3.4e38).all()  # RLlib's lowest number, a little above the type's
        assert torch.equal(found.softmax(-1), expected.softmax(-1))
    values = ours.compute_values({Columns.OBS: flat})
    torch.testing.assert_close(values, theirs.compute_values(batch()), rtol=0, atol=0)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("layer", ["stpn", "lstm", "mlp"])
def test_what_is_allowed_is_as_without_a_mask(layer, shared):
    masked, plain = (build(layer, masked, vf_share_layers=shared) for masked in (True, False))
    plain.load_state_dict({key.replace("pi.head.", "pi."): value for key, value in masked.state_dict().items()})
    flat = observations(5, 6)
    batch, alone = {Columns.OBS: flat}, {Columns.OBS: flat[..., :3]}
    if plain.is_stateful():
        start = torch.utils._pytree.tree_map(lambda leaf: leaf.expand(5, *leaf.shape), plain.get_initial_state())
        batch[Columns.STATE_IN] = alone[Columns.STATE_IN] = start
        lengths = torch.tensor([6, 2, 1, 6, 3])  # RLlib's learner pads
        padded = masked.forward_train({**batch, Columns.SEQ_LENS: lengths})[Columns.ACTION_DIST_INPUTS][1, :2]
        torch.testing.assert_close(padded, masked.forward_train(batch)[Columns.ACTION_DIST_INPUTS][1, :2])
    forbidden = flat[..., 3:] == 0
    for forward in ("forward_train", "forward_inference", "forward_exploration", "forward_rollout"):
        found = getattr(masked, forward)(batch)
        expected = getattr(plain, forward)(alone)
        logits, unmasked = found[Columns.ACTION_DIST_INPUTS], expected[Columns.ACTION_DIST_INPUTS]
        assert (logits[forbidden] == LOWEST).all()
        torch.testing.assert_close(logits[~forbidden], unmasked[~forbidden])
        for column in (Columns.VF_PREDS, Columns.EMBEDDINGS, Columns.STATE_OUT):
            torch.testing.assert_close(found.get(column), expected.get(column))
    torch.testing.assert_close(masked.compute_values(batch), plain.compute_values(alone))


@pytest.mark.parametrize("actions", [spaces.MultiDiscrete([2, 2]), spaces.Dict({"a": spaces.Discrete(2), "b": MASK})])
def test_several_discrete_actions_have_their_values_in_a_row(actions):
    if isinstance(actions, spaces.Dict):
        actions = spaces.Dict({"a": spaces.Discrete(2), "b": spaces.MultiBinary(1)})
    module = build("mlp", actions=actions)
    flat = observations(50)
    flat[:, 3:] = torch.tensor([0.0, 1.0, 1.0, 0.0])  # the second value of the first, the first of the second
    outputs = module.forward_exploration({Columns.OBS: flat})[Columns.ACTION_DIST_INPUTS]
    drawn = module.get_exploration_action_dist_cls().from_logits(outputs).sample()
    if isinstance(actions, gym.spaces.Dict):
        drawn = torch.cat([drawn["a"][:, None], drawn["b"]], 1)
    assert (drawn == torch.tensor([1, 0])).all()


def test_losses_and_gradients_are_finite():
    module = build("stpn")
    batch = {Columns.OBS: observations(5, 6), Columns.STATE_IN: {}}
    batch[Columns.STATE_IN] = {key: leaf.expand(5, *leaf.shape) for key, leaf in module.get_initial_state().items()}
    inputs = module.forward_train(batch)[Columns.ACTION_DIST_INPUTS]
    for kind in (module.get_train_action_dist_cls(), lean_distribution(module.get_train_action_dist_cls())):
        distribution = kind.from_logits(inputs) if hasattr(kind, "from_logits") else kind(inputs)
        actions = torch.full((5, 6), 2)
        other = kind.from_logits(inputs.detach()) if hasattr(kind, "from_logits") else kind(inputs.detach())
        loss = (distribution.logp(actions) + distribution.entropy() + distribution.kl(other)).sum()
        gradients = torch.autograd.grad(loss, list(module.encoder.parameters()), retain_graph=True, allow_unused=True)
        assert torch.isfinite(loss)
        assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)
        assert any(gradient.any() for gradient in gradients if gradient is not None)


def test_target_networks_are_masked_too():
    module = build("stpn")
    module.make_target_networks()
    start = {key: leaf.expand(5, *leaf.shape) for key, leaf in module.get_initial_state().items()}
    batch = {Columns.OBS: observations(5, 6), Columns.STATE_IN: start}
    (found,) = module.forward_target(batch).values()
    torch.testing.assert_close(found, module.forward_train(batch)[Columns.ACTION_DIST_INPUTS])
