"""What RLlib's old stack did to observations before a model saw them, as connectors of the new one."""

import functools
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from ray.rllib.connectors.env_to_module import FlattenObservations, MeanStdFilter
from ray.rllib.connectors.env_to_module.observation_preprocessor import SingleAgentObservationPreprocessor
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES


class ScalePixels(SingleAgentObservationPreprocessor):
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


class AsFloats(SingleAgentObservationPreprocessor):
    """Whole numbers to float32: RLlib's ``MeanStdFilter`` keeps the kind, and cuts off what is behind the point."""

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


def connectors(prepared: bool, scaled: bool, filtered: bool) -> Callable[..., list[Any]]:
    """What RLlib calls for a list of env-to-module connectors.

    Args:
        prepared: Whether observations other than a ``Box`` are flattened (numbers one-hot).
        scaled: Whether, beside that, images of bytes are scaled.
        filtered: Whether they get a mean of 0 and a standard deviation of 1.
    """
    return functools.partial(_connectors, prepared, scaled, filtered)


def _connectors(
    prepared: bool, scaled: bool, filtered: bool, env: Any = None, spaces: Any = None, device: Any = None
) -> list[Any]:
    pieces: list[Any] = []
    if prepared:
        space = spaces[INPUT_ENV_SINGLE_SPACES][0] if env is None else env.single_observation_space
        if not isinstance(space, gym.spaces.Box):
            pieces.append(FlattenObservations())
        elif (scaled or filtered) and space.dtype == np.uint8 and len(space.shape) == 3:
            pieces.append(ScalePixels())
        elif filtered and not np.issubdtype(space.dtype, np.floating):
            pieces.append(AsFloats())
    return [*pieces, MeanStdFilter()] if filtered else pieces
