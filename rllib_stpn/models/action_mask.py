"""Masks of actions among the observations: what an environment does not allow is never drawn.

An environment shows one as ``action_mask`` in a ``Dict``. Flat observations have it behind all else
(:class:`MaskedSpace`). Encoders and value do not see it; the policy's head (:class:`MaskedHead`) does.
"""

from __future__ import annotations

import functools
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tree
from gymnasium import spaces
from ray.rllib.core.columns import Columns
from ray.rllib.core.models.base import ACTOR, ENCODER_OUT
from ray.rllib.core.models.torch.base import TorchModel
from ray.rllib.utils.spaces.space_utils import get_base_struct_from_space
from torch import nn

from rllib_stpn.errors import UsageError

KEY = "action_mask"


class MaskedSpace(spaces.Box):
    """Flat observations of float32 that end with a mask: 0 where an action is not allowed.

    Args:
        size: Numbers in all.
        mask_size: Numbers of the mask.
    """

    def __init__(self, size: int, mask_size: int) -> None:
        super().__init__(-np.inf, np.inf, (size,), np.float32)
        self.mask_size = mask_size


def mask_size(space: gym.Space) -> int:
    """Numbers of the mask that observations of a space end with; 0 for observations without one."""
    return space.mask_size if isinstance(space, MaskedSpace) else 0


def without_mask(space: gym.Space) -> gym.Space:
    """The space of what an encoder sees."""
    if not isinstance(space, MaskedSpace):
        return space
    return spaces.Box(-np.inf, np.inf, (space.shape[0] - space.mask_size,), np.float32)


def check_mask(observations: gym.Space, actions: gym.Space) -> None:
    """Raises a UsageError unless the mask has a number for each value of each action, in ``tree.flatten``'s order.

    Args:
        observations: Flat ones.
        actions: As :func:`rllib_stpn.models.spaces.flat_action_space` makes them.
    """
    size = mask_size(observations)
    if not size:
        return
    wanted = 0
    for part in tree.flatten(get_base_struct_from_space(actions)):
        if not isinstance(part, spaces.Discrete | spaces.MultiDiscrete):
            raise UsageError(
                f"observation space: {KEY}: got actions {actions}, allowed is a mask where all actions are discrete"
            )
        wanted += int(part.n if isinstance(part, spaces.Discrete) else part.nvec.sum())
    if size != wanted:
        raise UsageError(
            f"observation space: {KEY}: got {size} numbers, allowed is one for each of the {wanted} values of {actions}"
        )


def hide_mask(encoder: nn.Module, size: int) -> None:
    """Lets an actor-critic encoder of RLlib work without the mask, and hand it on to :class:`MaskedHead`."""
    for name in ("encoder", "actor_encoder", "critic_encoder"):
        part = getattr(encoder, name, None)
        if part is not None:
            part.register_forward_pre_hook(functools.partial(_without_mask, size))
    encoder.register_forward_hook(functools.partial(_with_mask, size))


def _without_mask(size: int, encoder: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    batch, *rest = arguments
    return {**batch, Columns.OBS: batch[Columns.OBS][..., :-size]}, *rest


def _with_mask(size: int, encoder: nn.Module, arguments: tuple[Any, ...], outputs: dict[str, Any]) -> dict[str, Any]:
    encoded = outputs[ENCODER_OUT]
    mask = arguments[0][Columns.OBS][..., -size:].to(encoded[ACTOR].dtype)
    return {**outputs, ENCODER_OUT: {**encoded, ACTOR: torch.cat([encoded[ACTOR], mask], -1)}}


class MaskedHead(TorchModel):
    """A policy's head behind features ``[..., H + mask]``: logits of what is not allowed are the lowest number."""

    def __init__(self, head: TorchModel, size: int) -> None:
        super().__init__(head.config)
        self.head = head
        self._size = size

    def _forward(self, inputs: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        logits = self.head(inputs[..., : -self._size], **kwargs)
        return torch.where(inputs[..., -self._size :] > 0, logits, torch.finfo(logits.dtype).min)
