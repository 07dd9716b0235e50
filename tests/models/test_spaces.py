"""What of an environment's spaces a model works with, and the way there and back."""

import gymnasium as gym
import numpy as np
import pytest
import torch
import tree
from gymnasium import spaces
from ray.rllib.utils.spaces.space_utils import get_base_struct_from_space

from rllib_stpn.errors import UsageError
from rllib_stpn.models import recurrent_spec
from rllib_stpn.models.spaces import FlatSpace, flat_action_space, for_env

BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)
OBSERVATIONS = {
    "from 10": spaces.Discrete(4, start=10),
    "from -1": spaces.Discrete(3, start=-1),
    "digits": spaces.MultiDiscrete([3, 4], start=[5, -2]),
    "grid": spaces.MultiDiscrete([[3, 3], [2, 4]]),
    "grid from": spaces.MultiDiscrete([[3, 3], [2, 4]], start=[[1, 2], [3, 4]]),
    "binary": spaces.MultiBinary([2, 3]),
    "whole": spaces.Box(-3, 9, (4,), np.int64),
    "doubles": spaces.Box(-1, 1, (3,), np.float64),
    "matrix": spaces.Box(-1, 1, (3, 2), np.float32),
    "one number": spaces.Box(-1, 1, (), np.float32),
    "nested": spaces.Dict(
        {
            "b": spaces.Dict({"c": spaces.Box(0, 1, (2, 2)), "m": spaces.MultiBinary(2)}),
            "a": spaces.Tuple([spaces.MultiDiscrete([[2, 2]]), spaces.Box(0, 5, (2,), np.int32)]),
        }
    ),
}
ACTIONS = {
    "from 5": spaces.Discrete(3, start=5),
    "digits": spaces.MultiDiscrete([3, 2], start=[1, -1]),
    "grid": spaces.MultiDiscrete([[3, 2], [4, 2]], start=[[1, 2], [3, 4]]),
    "binary": spaces.MultiBinary([2, 2]),
    "whole": spaces.Box(np.array([-2, 5]), np.array([3, 6]), dtype=np.int32),
    "matrix": spaces.Box(-2, 3, (2, 3), np.float32),
    "one number": spaces.Box(-2, 3, (), np.float32),
    "doubles": spaces.Box(-2, 3, (2,), np.float64),
    "nested": spaces.Dict(
        {
            "b": spaces.Tuple([spaces.Discrete(3, start=2), spaces.Box(-1, 4, (2, 2), np.float32)]),
            "a": spaces.MultiBinary(2),
        }
    ),
}


def batch_of(space, samples):
    return gym.vector.utils.concatenate(space, samples, gym.vector.utils.create_empty_array(space, len(samples)))


@pytest.mark.parametrize("kind", OBSERVATIONS)
def test_a_flat_observation_holds_what_gymnasium_puts_there(kind):
    space = OBSERVATIONS[kind]
    space.seed(1)
    samples = [space.sample() for _ in range(5)]
    flat = FlatSpace(space)
    expected = np.stack([gym.spaces.flatten(space, sample) for sample in samples])
    assert flat.flatten(batch_of(space, samples), (5,)).dtype == np.float32
    np.testing.assert_allclose(flat.flatten(batch_of(space, samples), (5,)), expected, rtol=1e-6)
    np.testing.assert_allclose(np.stack([flat.flatten(sample) for sample in samples]), expected, rtol=1e-6)


class Sentences(spaces.Space):
    """Texts of an environment's own, as Minigrid's missions."""

    def __init__(self):
        super().__init__(dtype=str)


@pytest.mark.parametrize("texts", [spaces.Text(9), Sentences()], ids=["Text", "own"])
def test_texts_inside_are_left_out_and_named(texts):
    space = spaces.Dict({"c": BOX, "t": spaces.Dict({"mission": texts, "n": spaces.Discrete(2)})})
    flat = FlatSpace(space)
    assert flat.left_out == ["t.mission"]
    np.testing.assert_array_equal(
        flat.flatten({"c": np.array([0.5, -1.0]), "t": {"mission": "go", "n": 1}}), [0.5, -1.0, 0.0, 1.0]
    )


@pytest.mark.parametrize(
    "space, named",
    [
        (spaces.Text(5), "Text"),
        (spaces.Sequence(BOX), "Sequence"),
        (spaces.Graph(BOX, None), "Graph"),
        (spaces.OneOf([BOX, spaces.Discrete(2)]), "OneOf"),
        (spaces.Dict({"a": BOX, "b": spaces.Tuple([spaces.Sequence(BOX)])}), r"Sequence in b\.0"),
        (spaces.Dict({"a": spaces.Text(5)}), "one number"),
    ],
)
def test_observations_that_no_model_takes_are_refused_by_name(space, named):
    with pytest.raises(UsageError, match=named):
        FlatSpace(space)


def test_an_observation_outside_its_space_is_refused():
    with pytest.raises(UsageError, match=r"got an observation 3, allowed .* Discrete\(4, start=10\)"):
        FlatSpace(OBSERVATIONS["from 10"]).flatten(3)


@pytest.mark.parametrize("kind", ACTIONS)
@pytest.mark.parametrize("layer", ["stpn", "mlp"])
def test_a_model_draws_actions_of_the_environment(kind, layer):
    space = ACTIONS[kind]
    spec = recurrent_spec(layer, hidden_size=4)
    spec.observation_space, spec.action_space = BOX, space
    module = spec.build()
    lead = (6, 1) if module.is_stateful() else (6,)
    batch = {"obs": torch.randn(*lead, 2)}
    if module.is_stateful():
        batch["state_in"] = {name: leaf.expand(6, *leaf.shape) for name, leaf in module.get_initial_state().items()}
    logits = module.forward_exploration(batch)["action_dist_inputs"]
    distribution = module.get_exploration_action_dist_cls().from_logits(logits)
    assert distribution.entropy().shape == lead
    struct = get_base_struct_from_space(space)
    for drawn in (distribution, distribution.to_deterministic()):
        actions = drawn.sample()
        assert drawn.logp(actions).shape[: len(lead)] == lead
        rows = tree.map_structure(lambda part: part.numpy().reshape(6, *part.shape[len(lead) :]), actions)
        together = for_env(rows, struct, (6,), normalize=True, clip=False)
        for row in range(6):
            alone = for_env(tree.map_structure(lambda a, row=row: a[row], rows), struct, (), normalize=True, clip=False)
            for a, b in zip(tree.flatten(alone), tree.flatten(together), strict=True):
                np.testing.assert_array_equal(a, b[row])
            assert space.contains(tree.map_structure(in_the_kind_of, alone, struct)), alone


def in_the_kind_of(action, space):
    """In the precision of a space of floats; others are as they should be."""
    floats = isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating)
    return np.asarray(action, space.dtype) if floats else action


def test_numbers_that_begin_elsewhere_are_sent_from_there():
    assert [for_env(n, spaces.Discrete(3, start=5), (), True, False) for n in range(3)] == [5, 6, 7]
    grid = spaces.MultiDiscrete([[2, 2], [3, 2]], start=[[1, 2], [3, 4]])
    np.testing.assert_array_equal(for_env(np.array([0, 1, 2, 0]), grid, (), True, False), [[1, 3], [5, 4]])
    whole = spaces.Box(np.array([-2, 5]), np.array([3, 6]), dtype=np.int32)
    np.testing.assert_array_equal(for_env(np.array([[0, 1], [5, 0]]), whole, (2,), True, False), [[-2, 6], [3, 5]])


@pytest.mark.parametrize(
    "space",
    [spaces.Sequence(BOX), spaces.Text(3), spaces.Box(0, 10**9, (2,), np.int64), spaces.Dict({"t": spaces.Text(3)})],
)
def test_actions_that_no_model_draws_are_refused_by_name(space):
    with pytest.raises(UsageError, match="action space: got (Sequence|Text|Box)"):
        flat_action_space(space)


@pytest.mark.parametrize("steps", [1, 3])
def test_several_actions_are_as_likely_as_their_parts_together(steps):
    """Also where a sequence has one step, whose axis is not one too many."""
    space = spaces.Dict({"n": spaces.Discrete(3), "x": spaces.Box(-1, 1, (2,))})
    spec = recurrent_spec("rnn", hidden_size=4)
    spec.observation_space, spec.action_space = BOX, space
    kind = spec.build().get_train_action_dist_cls()
    logits = torch.randn(4, steps, 7)
    actions = {"n": torch.randint(3, (4, steps)), "x": torch.randn(4, steps, 2)}
    expected = torch.distributions.Categorical(logits=logits[..., :3]).log_prob(actions["n"])
    expected += torch.distributions.Normal(logits[..., 3:5], logits[..., 5:].exp()).log_prob(actions["x"]).sum(-1)
    torch.testing.assert_close(kind.from_logits(logits).logp(actions), expected)
