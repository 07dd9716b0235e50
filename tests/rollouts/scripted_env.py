"""An environment whose episodes, rewards and observations are known beforehand."""

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv


class ScriptedEnv(gym.Env):
    """Episodes of scripted lengths, ending by termination and truncation in turn.

    The observation is a fixed function of (environment, episode, step), the reward of (episode, step, action). Actions
    do not change what is observed, so two runners that act differently still see the same.
    """

    def __init__(self, number: int | None = None, action_space: gym.Space | None = None, nan_at: int | None = None):
        self.observation_space = gym.spaces.Box(-10, 10, (3,), np.float32)
        self.action_space = action_space or gym.spaces.Discrete(3)
        self.number, self.nan_at = number, nan_at
        self.episode, self.steps_in_all = -1, 0

    def reset(self, *, seed=None, options=None):
        if self.number is None:  # several scalar environments are told apart by their seeds
            self.number = (seed or 0) % 5
        self.episode += 1
        self.t = 0
        return self.observation(self.episode, 0), self.info()

    def step(self, action):
        self.t += 1
        self.steps_in_all += 1
        ends = self.t == self.length(self.episode)
        observation = self.observation(self.episode, self.t)
        if self.steps_in_all == self.nan_at:
            observation[1] = np.nan
        by_termination = self.terminates(self.episode)
        return (
            observation,
            self.reward(self.episode, self.t, action),
            ends and by_termination,
            ends and not by_termination,
            self.info(),
        )

    def info(self) -> dict:
        return {"episode": self.episode, "t": self.t}

    def observation(self, episode: int, t: int) -> np.ndarray:
        return np.array([np.sin(3.0 * self.number + episode), np.cos(t), 0.1 * t], dtype=np.float32)

    def reward(self, episode: int, t: int, action) -> float:
        return float(episode + 0.5 * t + 0.1 * np.sum(action))

    def length(self, episode: int) -> int:
        return (3, 7, 4, 1, 11)[(self.number + episode) % 5]

    def terminates(self, episode: int) -> bool:
        return (self.number + episode) % 2 == 0


def make_scripted(context):
    """Environment creator for RLlib; ``context["autoreset"]`` asks for a vector form with that mode."""
    arguments = {key: context[key] for key in ("action_space", "nan_at") if key in context}
    num_envs = context.get("num_envs")
    if num_envs is None:
        return ScriptedEnv(**arguments)
    return SyncVectorEnv(
        [lambda i=i: ScriptedEnv(i, **arguments) for i in range(num_envs)],
        autoreset_mode=AutoresetMode(context["autoreset"]),
    )
