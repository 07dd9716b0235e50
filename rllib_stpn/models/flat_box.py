"""The space of flat observations that still tell what they were: images, and a mask of the actions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Image(NamedTuple):
    """Where an image stands in a flat observation.

    Attributes:
        name: The part's, such as ``"image"``.
        begin: Its first number.
        shape: ``(height, width, channels)``.
        is_bytes: Whether its numbers go from 0 to 255.
    """

    name: str
    begin: int
    shape: tuple[int, ...]
    is_bytes: bool

    @property
    def end(self) -> int:
        """Behind its last number."""
        return self.begin + int(np.prod(self.shape))


class FlatBox(spaces.Box):
    """Flat observations of float32, which may hold images, and end with a mask of the actions.

    Args:
        size: Numbers in all.
        images: Where images stand.
        mask_size: Numbers of the mask: 0 where an action is not allowed. 0 for no mask.
    """

    def __init__(self, size: int, images: Sequence[Image] = (), mask_size: int = 0) -> None:
        super().__init__(-np.inf, np.inf, (size,), np.float32)
        self.images = tuple(images)
        self.mask_size = mask_size

    def filtered(self) -> FlatBox:
        """The space behind a filter, whose images have a mean of 0."""
        return FlatBox(self.shape[0], [image._replace(is_bytes=False) for image in self.images], self.mask_size)


def mask_size(space: gym.Space) -> int:
    """Numbers of the mask that observations of a space end with; 0 for observations without one."""
    return space.mask_size if isinstance(space, FlatBox) else 0


def without_mask(space: gym.Space) -> gym.Space:
    """The space of what an encoder sees."""
    return FlatBox(space.shape[0] - space.mask_size, space.images) if isinstance(space, FlatBox) else space


def images_of(space: gym.Space) -> tuple[Image, ...]:
    """The images in flat observations."""
    return space.images if isinstance(space, FlatBox) else ()
