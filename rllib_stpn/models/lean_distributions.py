"""Log-probability, entropy and KL divergence of RLlib's action distributions, as plain operations.

RLlib's distributions wrap ``torch.distributions``, whose construction and broadcasting take longer than the arithmetic
of a minibatch or of a step. The classes here have the same methods, ``logp``, ``entropy`` and ``kl``, and give the same
numbers; ``sample`` draws from the same distributions with other random numbers.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable
from typing import Any

import torch
from ray.rllib.core.distribution.torch.torch_distribution import (
    TorchCategorical,
    TorchDiagGaussian,
    TorchMultiCategorical,
)

from rllib_stpn.models.distributions import SoftplusGaussian, mean_and_std

LOG_SQRT_TAU = 0.5 * math.log(2 * math.pi)


def lean_distribution(kind: Any) -> Callable[[torch.Tensor], Any]:
    """Returns the function from a model's outputs ``[..., outputs]`` to a distribution over actions.

    Args:
        kind: RLlib's distribution class, as ``module.get_train_action_dist_cls()`` gives it. One that is not known
            here, or is derived from one that is, keeps its own ``from_logits``.
    """
    if kind is TorchCategorical:
        return Categorical
    if kind is TorchDiagGaussian:
        return Gaussian.with_log_std
    if kind is SoftplusGaussian:
        return Gaussian.with_softplus
    if kind.__name__ == "DistributionPartial" and kind.__mro__[1] is TorchMultiCategorical:
        return functools.partial(MultiCategorical, choices=list(kind._merge_kwargs()["input_lens"]))
    return kind.from_logits


class Categorical:
    """One choice among ``n``; ``logits`` ``[..., n]``, actions ``[...]``."""

    def __init__(self, logits: torch.Tensor) -> None:
        self.log_p = logits.log_softmax(-1)

    def sample(self) -> torch.Tensor:
        """Actions ``[...]``, integers: the choice whose log-probability, plus Gumbel noise, is the largest."""
        noise = torch.empty_like(self.log_p).exponential_().log_()
        return (self.log_p - noise.clamp_(max=100.0)).argmax(-1)  # finite, so that a choice of -inf never wins

    def logp(self, actions: torch.Tensor) -> torch.Tensor:
        """Log-probabilities ``[...]``."""
        return self.log_p.gather(-1, actions.long().unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> torch.Tensor:
        """Entropies ``[...]``; choices whose logit is -inf add nothing."""
        return -(self.log_p.exp() * self.log_p.clamp_min(torch.finfo(self.log_p.dtype).min)).sum(-1)

    def kl(self, other: Categorical) -> torch.Tensor:
        """Divergences KL(self, other) ``[...]``; infinite where ``other`` excludes what ``self`` allows."""
        p = self.log_p.exp()
        terms = p * (self.log_p - other.log_p)
        return terms.masked_fill(other.log_p.exp() == 0, math.inf).masked_fill(p == 0, 0.0).sum(-1)


class MultiCategorical:
    """Several independent choices; ``logits`` ``[..., sum(choices)]``, actions ``[..., len(choices)]``."""

    def __init__(self, logits: torch.Tensor, choices: list[int]) -> None:
        self.parts = [Categorical(part) for part in logits.split(choices, -1)]

    def sample(self) -> torch.Tensor:
        """Actions ``[..., len(choices)]``, integers."""
        return torch.stack([part.sample() for part in self.parts], -1)

    def logp(self, actions: torch.Tensor) -> torch.Tensor:
        """Log-probabilities ``[...]``."""
        return _sum(part.logp(action) for part, action in zip(self.parts, actions.unbind(-1), strict=True))

    def entropy(self) -> torch.Tensor:
        """Entropies ``[...]``."""
        return _sum(part.entropy() for part in self.parts)

    def kl(self, other: MultiCategorical) -> torch.Tensor:
        """Divergences KL(self, other) ``[...]``."""
        return _sum(mine.kl(theirs) for mine, theirs in zip(self.parts, other.parts, strict=True))


class Gaussian:
    """Independent normal distributions of ``n`` actions; ``mean``, ``std`` and its logarithm, ``[..., n]`` each."""

    def __init__(self, mean: torch.Tensor, std: torch.Tensor, log_std: torch.Tensor) -> None:
        self.mean, self.std, self.log_std = mean, std, log_std

    @classmethod
    def with_log_std(cls, outputs: torch.Tensor) -> Gaussian:
        """RLlib's own: the outputs are means and logarithms of standard deviations, ``[..., 2n]``."""
        mean, log_std = outputs.chunk(2, dim=-1)
        return cls(mean, log_std.exp(), log_std)

    @classmethod
    def with_softplus(cls, outputs: torch.Tensor) -> Gaussian:
        """That of ``SoftplusGaussian``, ``[..., 2n]``."""
        mean, std = mean_and_std(outputs)
        return cls(mean, std, std.log())

    def sample(self) -> torch.Tensor:
        """Actions ``[..., n]``."""
        return torch.addcmul(self.mean, self.std, torch.randn_like(self.mean))

    def logp(self, actions: torch.Tensor) -> torch.Tensor:
        """Log-densities ``[...]`` of actions ``[..., n]``."""
        return (-0.5 * ((actions - self.mean) / self.std).square() - self.log_std - LOG_SQRT_TAU).sum(-1)

    def entropy(self) -> torch.Tensor:
        """Entropies ``[...]``."""
        return (self.log_std + (0.5 + LOG_SQRT_TAU)).sum(-1)

    def kl(self, other: Gaussian) -> torch.Tensor:
        """Divergences KL(self, other) ``[...]``."""
        ratio = (self.std / other.std).square()
        distance = ((self.mean - other.mean) / other.std).square()
        return (0.5 * (ratio + distance - 1) - (self.log_std - other.log_std)).sum(-1)


def _sum(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    return functools.reduce(operator.add, tensors)
