"""Action distributions that RLlib lacks, for both of its API stacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tree
from ray.rllib.core.distribution.torch.torch_distribution import TorchDiagGaussian, TorchMultiDistribution
from ray.rllib.models.torch.torch_action_dist import TorchDiagGaussian as OldTorchDiagGaussian
from ray.rllib.models.torch.torch_action_dist import TorchDistributionWrapper
from ray.rllib.utils.spaces.space_utils import get_base_struct_from_space
from torch.nn.functional import softplus

from rllib_stpn.errors import UsageError


class SoftplusGaussian(TorchDiagGaussian):
    """Diagonal Gaussian with ``std = softplus(s)``, where RLlib's has ``exp(s)``; for the new API stack.

    Far from zero the standard deviation follows ``s`` linearly, so a large step of the optimizer does not multiply it.
    It never falls below 1e-6. The model's outputs are ``[..., 2 * actions]``: the means, then ``s``. RLlib's policy
    head keeps ``s`` within ``±log_std_clip_param`` (20).
    """

    @classmethod
    def from_logits(cls, logits: torch.Tensor, **kwargs) -> SoftplusGaussian:
        """The distribution for a model's outputs."""
        mean, std = mean_and_std(logits)
        return cls(loc=mean, scale=std)

    @staticmethod
    def required_input_dim(space: gym.Space, **kwargs) -> int:
        """Number of model outputs for an action space."""
        _check_space(space)
        return TorchDiagGaussian.required_input_dim(space)


class SeveralActions(TorchMultiDistribution):
    """Independent actions in dicts and tuples.

    RLlib's own class drops an axis of length 1, even where that is the time of a sequence of one step, and it adds up
    the log-probabilities of the most probable actions in shapes that do not fit.
    """

    @classmethod
    def of(cls, space: gym.Space, of_part: Callable[[gym.Space], Any]) -> type[SeveralActions]:
        """The distribution for a space of nested ``Dict`` and ``Tuple``; ``of_part`` gives the one of each part."""
        struct = get_base_struct_from_space(space)
        kinds = tree.map_structure(of_part, struct)
        lengths = [
            int(kind.required_input_dim(part))
            for kind, part in zip(tree.flatten(kinds), tree.flatten(struct), strict=True)
        ]
        return cls.get_partial_dist_cls(space=space, child_distribution_cls_struct=kinds, input_lens=lengths)

    def logp(self, value: Any) -> torch.Tensor:
        """Log-probability of ``value``, in dicts and tuples as the space has them, summed over the parts."""
        flat = tree.flatten(value)
        return sum(part.logp(v) for part, v in zip(self._flat_child_distributions, flat, strict=True))

    def to_deterministic(self) -> TorchMultiDistribution:
        """The most probable action of each part."""
        parts = [part.to_deterministic() for part in self._flat_child_distributions]
        return _Certain(tree.unflatten_as(self._original_struct, parts), self)


class _Certain(TorchMultiDistribution):
    def __init__(self, parts: Any, of: SeveralActions) -> None:
        super().__init__(parts)
        self._of = of

    def logp(self, value: Any) -> torch.Tensor:
        return torch.zeros_like(self._of.logp(value))


class OldStackSoftplusGaussian(OldTorchDiagGaussian):
    """:class:`SoftplusGaussian` for RLlib's old API stack."""

    def __init__(self, inputs, model=None):
        TorchDistributionWrapper.__init__(self, inputs, model)
        mean, std = mean_and_std(self.inputs)
        self.dist = torch.distributions.Normal(mean, std, validate_args=False)
        # RLlib hands the action space to its own Gaussian alone.
        self.zero_action_dim = getattr(getattr(model, "action_space", None), "shape", None) == ()

    @staticmethod
    def required_model_output_shape(action_space, model_config):
        """Number of model outputs for an action space."""
        _check_space(action_space)
        return OldTorchDiagGaussian.required_model_output_shape(action_space, model_config)


ACTION_DISTRIBUTIONS = {"softplus_gaussian": SoftplusGaussian}
"""By the name that ``custom_action_dist`` has in a model config, new API stack."""

OLD_STACK_ACTION_DISTRIBUTIONS = {"softplus_gaussian": OldStackSoftplusGaussian}
"""The same on the old API stack."""


def mean_and_std(outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation ``[..., actions]`` from a model's outputs ``[..., 2 * actions]``."""
    mean, s = outputs.chunk(2, dim=-1)
    return mean, softplus(s).clamp_min(1e-6)  # float32's softplus reaches 0, where densities are infinite


def _check_space(space: gym.Space) -> None:
    if not isinstance(space, gym.spaces.Box) or not np.issubdtype(space.dtype, np.floating) or len(space.shape) > 1:
        raise UsageError(
            f"custom_action_dist softplus_gaussian: action space: got {space}, "
            "allowed is a Box of floats with one dimension"
        )
