"""Connectors that prepare observations as RLlib's old stack did before a model saw them."""

import functools
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES

from rllib_stpn.rollouts.preprocessing import FlatObservations, MeanStdFilter, Preprocessor


class ScalePixels(Preprocessor):
    """uint8 images to float32 ``(p - 128) / 128``, which RLlib's own modules need and ours do by themselves."""

    def recompute_output_observation_space(self, input_observation_space: Any, input_action_space: Any) -> gym.Space:
        """A Box from -1 to 1 of the images' shape."""
        return gym.spaces.Box(-1.0, 1.0, input_observation_space.shape, np.float32)

    def preprocess(self, observation: np.ndarray, episode: Any) -> np.ndarray:
        """One image."""
        return self.batched(observation)

    def batched(self, observations: np.ndarray) -> np.ndarray:
        """Images ``[B, height, width, channels]``."""
        return observations.astype(np.float32) / 128 - 1


class AsFloats(Preprocessor):
    """Whole numbers to float32. RLlib's ``MeanStdFilter`` keeps the type, and would round its results down."""

    def recompute_output_observation_space(self, input_observation_space: Any, input_action_space: Any) -> gym.Space:
        """The same Box of float32."""
        space = input_observation_space
        return gym.spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)

    def preprocess(self, observation: np.ndarray, episode: Any) -> np.ndarray:
        """One observation."""
        return self.batched(observation)

    def batched(self, observations: np.ndarray) -> np.ndarray:
        """Observations ``[B, ...]``."""
        return observations.astype(np.float32)


def connectors(
    prepared: bool, layer: bool, filtered: bool, own: Callable[..., list[Any]] | None = None
) -> Callable[..., list[Any]]:
    """An ``env_to_module_connector``: the function that RLlib calls for a list of connectors.

    Args:
        prepared: Whether observations are brought into a form that the model takes: images stay images, numbers become
            one-hot, and all else is laid out flat.
        layer: Whether the model is one of our layers, which scales images of bytes and takes whole numbers by itself.
        filtered: Whether they get a mean of 0 and a standard deviation of 1.
        own: Makes connectors of the user's own. They run first; what they put out is prepared and filtered.
    """
    return functools.partial(_connectors, prepared, layer, filtered, own)


def _connectors(
    prepared: bool,
    layer: bool,
    filtered: bool,
    own: Callable[..., list[Any]] | None,
    env: Any = None,
    spaces: Any = None,
    device: Any = None,
) -> list[Any]:
    pieces: list[Any] = own() if own else []
    if prepared:
        space = _space_behind(pieces, env, spaces)
        if not isinstance(space, gym.spaces.Box) or len(space.shape) not in (1, 3):
            pieces.append(FlatObservations())
        elif (filtered or not layer) and space.dtype == np.uint8 and len(space.shape) == 3:
            pieces.append(ScalePixels())
        elif (filtered or not layer) and not np.issubdtype(space.dtype, np.floating):
            pieces.append(AsFloats())
    return [*pieces, MeanStdFilter()] if filtered else pieces


def _space_behind(pieces: list[Any], env: Any, spaces: Any) -> gym.Space:
    """The space of what comes out of connectors in front of which an environment stands."""
    space = spaces[INPUT_ENV_SINGLE_SPACES][0] if env is None else env.single_observation_space
    for piece in pieces:
        piece.input_action_space = spaces[INPUT_ENV_SINGLE_SPACES][1] if env is None else env.single_action_space
        piece.input_observation_space = space
        space = piece.observation_space
    return space
