"""Actions drawn without RLlib's distribution objects have their distribution."""

import torch
from ray.rllib.core.distribution.torch.torch_distribution import TorchCategorical, TorchDiagGaussian

from rllib_stpn.models.lean_distributions import MultiCategorical, lean_distribution

DRAWS = 200_000


def test_choices_come_as_often_as_their_probability_says():
    logits = torch.tensor([0.0, 1.0, -2.0, -torch.inf, 0.5])
    distribution = lean_distribution(TorchCategorical)(logits.expand(DRAWS, 5))
    actions = distribution.sample()
    p = logits.softmax(-1)
    assert actions.shape == (DRAWS,) and actions.dtype == torch.int64
    shares = actions.bincount(minlength=5) / DRAWS
    assert ((shares - p).abs() <= 6 * (p * (1 - p) / DRAWS).sqrt()).all()  # none of probability 0
    assert distribution.logp(actions).isfinite().all()


def test_the_only_choice_left_is_always_taken():
    for masked in (-torch.inf, torch.finfo(torch.float32).min):
        logits = torch.full((DRAWS, 3), masked)
        logits[:, 2] = -50.0
        assert (lean_distribution(TorchCategorical)(logits).sample() == 2).all()


def test_several_choices_are_drawn_each_from_its_own():
    logits = torch.tensor([9.0, -torch.inf, -torch.inf, -torch.inf, 4.0]).expand(10, 5)
    actions = MultiCategorical(logits, [2, 3]).sample()
    assert actions.tolist() == [[0, 2]] * 10


def test_numbers_have_mean_and_standard_deviation():
    outputs = torch.tensor([3.0, -1.0, 0.5, -2.0])
    actions = lean_distribution(TorchDiagGaussian)(outputs.expand(DRAWS, 4)).sample()
    mean, std = outputs[:2], outputs[2:].exp()
    assert actions.shape == (DRAWS, 2)
    assert ((actions.mean(0) - mean).abs() <= 6 * std / DRAWS**0.5).all()
    assert ((actions.std(0) / std - 1).abs() <= 6 / (2 * DRAWS) ** 0.5).all()
