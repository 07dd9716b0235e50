"""An environment that goes wrong at its seventh step, in a way that its argument says."""

from pathlib import Path

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

AT = 7
OBSERVATIONS = {
    "shape": np.zeros(2, np.float32),
    "dtype": np.zeros(3, complex),
    "infinite": np.array([0, -np.inf, 0], np.float32),
    "nan": np.full(3, np.nan, np.float32),
}
REWARDS = {"nan_reward": float("nan"), "minus_inf_reward": -float("inf"), "none_reward": None, "word_reward": "2.5"}


class SimulatorGone(Exception):
    """Its name is not that of an error."""


def fail(fault):
    if fault == "message":
        raise SimulatorGone("lost the\nconnection")
    if fault == "silent":
        raise SimulatorGone


class FaultyEnv(gym.Env):
    """Episodes of five steps. Goes wrong only where its ``vector_index`` is that of the argument ``faulty``."""

    observation_space = gym.spaces.Box(-10, 10, (3,), np.float32)
    action_space = gym.spaces.Discrete(3)
    made: list = []

    def __init__(self, context):
        self.made.append((context.worker_index, context.vector_index, context.num_workers))
        self.fault = context.get("fault") if context.vector_index == context.get("faulty", 1) else None
        self.steps = self.t = 0
        if self.fault == "constructor":
            Path("/nowhere/map.json").read_text()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        if self.fault == "reset" and self.steps >= AT - 2:
            raise SimulatorGone("does not reset")
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.t += 1
        self.steps += 1
        wrong = self.steps >= AT
        if wrong:
            fail(self.fault)
        observation = OBSERVATIONS.get(self.fault) if wrong else None
        reward = REWARDS.get(self.fault, 1.0) if wrong else 1.0
        return np.zeros(3, np.float32) if observation is None else observation, reward, False, self.t == 5, {}


class FaultyVectorEnv(VectorEnv):
    """The same in vector form, without ends of episodes."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
    single_observation_space = FaultyEnv.observation_space
    single_action_space = FaultyEnv.action_space

    def __init__(self, num_envs, fault, **_):
        self.num_envs, self.fault, self.steps = num_envs, fault, 0
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed=None, options=None):
        return np.zeros((self.num_envs, 3), np.float32), {}

    def step(self, actions):
        self.steps += 1
        observations, rewards = np.zeros((self.num_envs, 3), np.float32), [1.0] * self.num_envs
        if self.steps >= AT:
            fail(self.fault)
            if self.fault == "shape":
                observations = observations[:, :2]
            elif self.fault in OBSERVATIONS:
                observations[1] = OBSERVATIONS[self.fault]
            rewards[1] = REWARDS.get(self.fault, 1.0)
        dtype = object if self.fault in ("none_reward", "word_reward") else float
        ends = np.zeros(self.num_envs, bool)
        return observations, np.array(rewards, dtype), ends, ends, {}


def make_faulty(context):
    """Environment creator for RLlib."""
    return FaultyEnv(context) if "num_envs" not in context else FaultyVectorEnv(**context)
