"""Action distributions that RLlib lacks, for both of its API stacks."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core.distribution.torch.torch_distribution import TorchDiagGaussian
from ray.rllib.models.torch.torch_action_dist import TorchDiagGaussian as OldTorchDiagGaussian
from ray.rllib.models.torch.torch_action_dist import TorchDistributionWrapper
from torch.nn.functional import softplus

from rllib_stpn.errors import UsageError


class SoftplusGaussian(TorchDiagGaussian):
    """Diagonal Gaussian with ``std = softplus(s)`` where RLlib's has ``exp(s)``: the new API stack's.

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
