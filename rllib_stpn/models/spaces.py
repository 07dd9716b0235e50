"""From the spaces of an environment to those of a module: flat observations, and flat actions counted from 0."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import tree
from gymnasium import spaces

from rllib_stpn.errors import UsageError
from rllib_stpn.models import action_mask
from rllib_stpn.models.flat_box import FlatBox, Image

_LARGEST_RANGE = 10_000
"""Most whole numbers in a Box of actions: each is a class of its own, and a wide range would be a huge model."""


def flat_action_space(space: gym.Space) -> gym.Space:
    """The space of the actions that a module draws, which :func:`for_env` turns into those of the environment.

    Numbers begin at 0, arrays have one dimension, and ``MultiBinary`` and a ``Box`` of whole numbers are
    ``MultiDiscrete``. ``Dict`` and ``Tuple`` keep their parts.

    Raises:
        UsageError: A space that no action distribution fits, named.
    """
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: flat_action_space(part) for key, part in space.spaces.items()})
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple([flat_action_space(part) for part in space.spaces])
    if isinstance(space, spaces.Discrete):
        return spaces.Discrete(int(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        return spaces.MultiDiscrete(space.nvec.ravel())
    if isinstance(space, spaces.MultiBinary):
        return spaces.MultiDiscrete([2] * int(np.prod(space.shape)))
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return spaces.Box(space.low.ravel(), space.high.ravel(), dtype=space.low.dtype.type)
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.integer):
        counts = space.high.ravel().astype(object) - space.low.ravel().astype(object) + 1  # Python's whole numbers
        if space.is_bounded() and sum(counts) <= _LARGEST_RANGE:
            return spaces.MultiDiscrete(counts.astype(np.int64))
        raise UsageError(
            f"action space: got {space}, allowed are boxes of floats, and of whole numbers with up to "
            f"{_LARGEST_RANGE:,} values in all, each of which is a class"
        )
    raise UsageError(
        f"action space: got {space}, allowed are Discrete, MultiDiscrete, MultiBinary, Box, and Dict and Tuple of these"
    )


def for_env(actions: Any, space: Any, lead: tuple[int, ...], normalize: bool, clip: bool) -> Any:
    """A module's actions as the environment takes them, in the shape and kind of its space.

    Args:
        actions: Of :func:`flat_action_space`, ``[*lead, ...]``, in dicts and tuples as the space has them.
        space: The environment's action space with its dicts and tuples as plain ones.
        lead: ``(B,)`` for a batch, ``()`` for one action.
        normalize: Whether boxes of floats are stretched from [-1, 1] to their bounds, where they have some.
        clip: Whether they are clipped to their bounds, which stretching does, too.
    """
    return tree.map_structure(lambda action, part: _for_env(action, part, lead, normalize, clip), actions, space)


def _for_env(action: Any, space: Any, lead: tuple[int, ...], normalize: bool, clip: bool) -> Any:
    if isinstance(space, spaces.Discrete):
        return action + space.start if space.start else action
    action = np.asarray(action).reshape((*lead, *space.shape))
    if isinstance(space, spaces.MultiDiscrete):
        return (action + space.start).astype(space.dtype)
    if isinstance(space, spaces.MultiBinary):
        return action.astype(space.dtype)
    if not np.issubdtype(space.dtype, np.floating):
        return (action + space.low).astype(space.dtype)
    if normalize and space.is_bounded():
        action = np.clip(space.low + (action + 1.0) * (space.high - space.low) / 2.0, space.low, space.high)
    elif clip and not normalize:
        action = np.clip(action, space.low, space.high)
    return action


class FlatSpace:
    """Flattens observations of any space that a model can take, alone or in a batch.

    Numbers of ``Discrete`` and ``MultiDiscrete`` become one-hot, wherever they start; all else is laid out as it is.
    Parts are in the order of ``tree.flatten``, as RLlib's ``FlattenObservations`` has them, but for an ``action_mask``
    in a ``Dict``, which comes last. ``Text``, or another space of texts such as Minigrid's missions, is left out where
    it stands inside a ``Dict`` or ``Tuple``.

    Attributes:
        size: Length of the flat observation.
        left_out: Names of the parts that are left out, such as ``"mission"``.

    Raises:
        UsageError: A space that no model takes, with the name of the part.
    """

    def __init__(self, space: gym.Space) -> None:
        self._parts: list[tuple[tuple, gym.Space]] = []
        self.left_out: list[str] = []
        masks: list[tuple[tuple, gym.Space]] = []
        for path, part in parts(space):
            if path and _is_text(part):
                self.left_out.append(_name(path))
            elif path and path[-1] == action_mask.KEY:
                masks.append((path, _checked_mask(path, part)))
            elif isinstance(part, (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary, spaces.Box)):
                self._parts.append((path, part))
            else:
                where = f" in {_name(path)}" if path else ""
                raise UsageError(
                    f"observation space: got {type(part).__name__}{where}, allowed are Box, Discrete, MultiDiscrete, "
                    "MultiBinary, and Dict and Tuple of these (their parts of Text are left out); a wrapper of the "
                    "environment can make one of it"
                )
        if len(masks) > 1:
            raise UsageError(f"observation space: got {len(masks)} parts called {action_mask.KEY}, allowed is one")
        if not sum(_flat_size(part) for _, part in self._parts):
            raise UsageError(
                f"observation space: got {space}, allowed is one with at least one number in it"
                f"{f' beside the {action_mask.KEY}' if masks else ''}"
            )
        self._parts += masks
        self._mask_size = sum(_flat_size(part) for _, part in masks)
        self.size = sum(_flat_size(part) for _, part in self._parts)
        self._images: list[Image] = []
        begin = 0
        for path, part in self._parts:
            if path and isinstance(part, spaces.Box) and len(part.shape) == 3:
                self._images.append(Image(_name(path), begin, part.shape, part.dtype == np.uint8))
            begin += _flat_size(part)

    @property
    def space(self) -> spaces.Box:
        """The space of the flat observations, of float32; it knows where images and a mask stand."""
        if self._mask_size or self._images:
            return FlatBox(self.size, self._images, self._mask_size)
        return spaces.Box(-np.inf, np.inf, (self.size,), np.float32)

    def flatten(self, observations: Any, lead: tuple[int, ...] = ()) -> np.ndarray:
        """Observations ``[*lead, ...]`` of the space, as ``[*lead, size]`` of float32."""
        flat = np.zeros((*lead, self.size), np.float32)
        begin = 0
        for path, part in self._parts:
            value = observations
            for key in path:
                value = value[key]
            end = begin + _flat_size(part)
            _lay_out(np.asarray(value), part, flat[..., begin:end])
            begin = end
        return flat


def _is_text(space: gym.Space) -> bool:
    return isinstance(space, spaces.Text) or (space.dtype is not None and space.dtype.kind == "U")


def _checked_mask(path: tuple, part: gym.Space) -> gym.Space:
    if isinstance(part, spaces.MultiBinary) or (isinstance(part, spaces.Box) and len(part.shape) == 1):
        return part
    raise UsageError(
        f"observation space: {_name(path)}: got {part}, allowed is a Box of one dimension or MultiBinary: 0 for each "
        "action that is not allowed"
    )


def parts(space: gym.Space, path: tuple = ()) -> Iterator[tuple[tuple, gym.Space]]:
    """Yields ``(path, space)`` for each part of nested ``Dict`` and ``Tuple`` spaces, in ``tree.flatten``'s order."""
    if isinstance(space, spaces.Dict):
        for key in sorted(space.spaces):
            yield from parts(space.spaces[key], (*path, key))
    elif isinstance(space, spaces.Tuple):
        for index, part in enumerate(space.spaces):
            yield from parts(part, (*path, index))
    else:
        yield path, space


def _name(path: tuple) -> str:
    return ".".join(map(str, path))


def _flat_size(space: Any) -> int:
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum())
    return int(np.prod(space.shape))


def _lay_out(values: np.ndarray, space: Any, into: np.ndarray) -> None:
    """Writes one part's values ``[*lead, ...]`` over zeros, ``[*lead, its flat size]``."""
    lead = into.shape[:-1]
    if isinstance(space, spaces.Box | spaces.MultiBinary):
        into[...] = values.reshape(into.shape)
        return
    if isinstance(space, spaces.Discrete):
        hot = (values.reshape(*lead, 1) - space.start).astype(np.int64)
        sizes = np.array([space.n], np.int64)
    else:
        hot = (values.reshape(*lead, -1) - space.start.ravel()).astype(np.int64)
        sizes = space.nvec.ravel().astype(np.int64)
    if ((hot < 0) | (hot >= sizes)).any():
        raise UsageError(f"environment: got an observation {values.tolist()}, allowed are those of its space, {space}")
    np.put_along_axis(into, hot + np.cumsum(sizes) - sizes, 1.0, axis=-1)
