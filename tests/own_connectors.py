"""Connectors as users write them, which files name by their paths."""

import gymnasium as gym
import numpy as np
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.connectors.env_to_module.observation_preprocessor import SingleAgentObservationPreprocessor


class First(SingleAgentObservationPreprocessor):
    """The first numbers of an observation, a whole number each: as bytes or as they are."""

    def __init__(self, numbers=2, dtype="float32", **spaces):
        self.numbers, self.dtype = numbers, dtype
        super().__init__(**spaces)

    def recompute_output_observation_space(self, input_observation_space, input_action_space):
        return gym.spaces.Box(-100, 100, (self.numbers,), np.dtype(self.dtype))

    def preprocess(self, observation, episode):
        return observation[: self.numbers].round().astype(self.dtype)


class Batched(First):
    def batched(self, observations):
        return observations[:, : self.numbers].round().astype(self.dtype)


class Always(ConnectorV2):
    """One action in place of those that were drawn."""

    def __init__(self, action=1, **spaces):
        super().__init__(**spaces)
        self.action = action

    def __call__(self, *, batch, **more):
        for key, actions in batch["actions"].items():
            batch["actions"][key] = [self.batched(np.asarray(action)) for action in actions]
        return batch

    def batched(self, actions):
        return np.full_like(actions, self.action)
