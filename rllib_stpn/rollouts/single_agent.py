"""RLlib's own runner, for what it cannot take: environments that reuse their arrays, and observations with texts."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

from rllib_stpn.rollouts.copies import copied


class OwnArraysEnvRunner(SingleAgentEnvRunner):
    """RLlib's runner, whose episodes and callbacks keep what they were given.

    RLlib's puts the arrays of the vector environment itself into its episodes, which learn from whatever the
    environment has written into these since, and takes the texts of a batch of observations letter by letter.
    """

    env: Any

    def make_env(self) -> None:
        """Creates the vector environment, behind a wrapper that hands out copies."""
        super().make_env()
        self.env = _Copies(self.env)


class _Copies(VectorWrapper):
    def __init__(self, env: VectorEnv) -> None:
        super().__init__(env)

    def reset(self, **kwargs: Any) -> Any:
        observations, infos = self.env.reset(**kwargs)
        return _texts_in_arrays(copied(observations)), copied(infos)

    def step(self, actions: Any) -> Any:
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        return (
            _texts_in_arrays(copied(observations)),
            *(copied(each) for each in (rewards, terminated, truncated, infos)),
        )


def _texts_in_arrays(observations: Any) -> Any:
    """A batch of texts, which gymnasium has as a tuple, as an array, like all other parts."""
    if isinstance(observations, dict):
        return {key: _texts_in_arrays(part) for key, part in observations.items()}
    if isinstance(observations, tuple):
        if observations and isinstance(observations[0], str):
            return np.array(observations, dtype=object)
        return tuple(_texts_in_arrays(part) for part in observations)
    return observations
