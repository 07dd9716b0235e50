"""Environments that go wrong on a schedule, in every way that an environment can.

A fault is ``what@where``, such as ``raises@step`` or ``nan@reward``; :data:`FAULTS` has all of them, and which of them
are no faults at all. When and in which environment one comes up is said by the environment's arguments, or drawn from a
seed (:func:`drawn`).
"""

import os
import random
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

LENGTH = 5
"""Steps of an episode, which is truncated then."""
AT = 7

ACTIONS = ("raises", "silent", "hangs", "exits", "file", "words", "old_api")
CALLS = ("constructor", "reset", "step", "close")
OBSERVATIONS = {
    "shape": np.zeros(2, np.float32),
    "dtype": np.zeros(3, complex),
    "nan": np.full(3, np.nan, np.float32),
    "inf": np.array([0, np.inf, 0], np.float32),
    "minus_inf": np.array([0, -np.inf, 0], np.float32),
    "huge": np.full(3, 1e30, np.float32),
    "none": None,
    "text": "far away",
}
NUMBERS = {
    "shape": np.zeros(2),
    "dtype": 1j,
    "nan": float("nan"),
    "inf": float("inf"),
    "minus_inf": -float("inf"),
    "huge": 1e30,
    "none": None,
    "text": "2.5",
}
INFOS = {"none": None, "text": "all is well", "shape": [{}, {}], "nan": {"speed": float("nan")}, "dtype": 3}
VALUES = {
    "first_observation": OBSERVATIONS,
    "observation": OBSERVATIONS,
    "final_observation": OBSERVATIONS,
    "reward": NUMBERS,
    "terminated": NUMBERS,
    "truncated": NUMBERS,
    "info": INFOS,
}
RAISED = [f"{what}@{where}" for where in ("constructor", "reset", "step") for what in ("raises", "silent")]
RAISED += ["file@constructor", "words@step", "old_api@reset", "old_api@step"]
CLOSING = ["raises@close", "silent@close"]
WRONG = [f"{what}@{where}" for where, values in VALUES.items() for what in values]
HARMLESS = ["nan@info"]  # an info may hold anything
DEADLY = [f"{what}@{where}" for what in ("hangs", "exits") for where in CALLS]
FAULTS = [*RAISED, *CLOSING, *WRONG, *DEADLY]


class SimulatorGone(Exception):
    """Its name is not that of an error."""


def drawn(seed, num_envs=3, latest=12):
    """A schedule: in which environment, and from which of its steps on, a fault comes up."""
    numbers = random.Random(seed)
    return {"faulty": numbers.randrange(num_envs), "at": numbers.randint(1, latest)}


class Schedule:
    """When the faults of an environment come up.

    Args:
        fault: What goes wrong, ``what@where``; None for nothing.
        at: From which of the environment's steps on.
        times: How often, over all environments and processes; None for always.
        ledger: A directory where each time leaves a file. Needed for ``times``.
        seconds: How long it hangs.
    """

    def __init__(self, fault=None, at=AT, times=None, ledger=None, seconds=3600.0):
        self.what, _, self.where = (fault or "").partition("@")
        if fault and fault not in FAULTS:
            raise KeyError(fault)
        self.at, self.times, self.ledger, self.seconds = at, times, ledger, seconds

    def comes_up(self, where, steps):
        """Whether it goes wrong here, after so many steps."""
        if where != self.where or (steps < self.at and where not in ("constructor", "close")):
            return False
        if self.ledger is None:
            return True
        for time_ in range(10**6 if self.times is None else self.times):
            try:
                os.close(os.open(os.path.join(self.ledger, f"{time_}"), os.O_CREAT | os.O_EXCL))
                return True
            except FileExistsError:
                continue
        return False

    def act(self, where, steps):
        """Raises, hangs or ends the process, if this is what goes wrong here."""
        if self.what not in ACTIONS or not self.comes_up(where, steps):
            return False
        if self.what == "raises":
            raise SimulatorGone("lost the\nconnection")
        if self.what == "silent":
            raise SimulatorGone
        if self.what == "file":
            Path("/nowhere/map.json").read_text()
        if self.what == "words":
            raise SimulatorGone("error: failed (step 9) at 0x7f; environment 7, that of 'x'")
        if self.what == "exits":
            os._exit(17)
        if self.what == "hangs":
            time.sleep(self.seconds)
        return self.what == "old_api"

    def value(self, where, steps, right):
        """What is returned there."""
        if self.what in ACTIONS or not self.comes_up(where, steps):
            return right
        return VALUES[where][self.what]


class FaultyEnv(gym.Env):
    """Episodes of five steps. Goes wrong only where its ``vector_index`` is that of the argument ``faulty``.

    Its other arguments are those of a :class:`Schedule`, and ``worker``, in which env runner alone it goes wrong.
    """

    observation_space = gym.spaces.Box(-10, 10, (3,), np.float32)
    action_space = gym.spaces.Discrete(3)
    made: list = []

    def __init__(self, context):
        self.made.append((context.worker_index, context.vector_index, context.num_workers))
        arguments = dict(context)
        here = context.vector_index == arguments.pop("faulty", 1)
        here = arguments.pop("worker", context.worker_index) == context.worker_index and here
        self.schedule = Schedule(**arguments) if here else Schedule()
        self.steps = self.t = 0
        self.schedule.act("constructor", 0)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        old = self.schedule.act("reset", self.steps)
        observation = self.schedule.value("first_observation", self.steps, np.zeros(3, np.float32))
        return observation if old else (observation, {})

    def step(self, action):
        self.t += 1
        self.steps += 1
        old = self.schedule.act("step", self.steps)
        truncated = self.t == LENGTH
        observation = self.schedule.value("observation", self.steps, np.zeros(3, np.float32))
        if truncated:
            observation = self.schedule.value("final_observation", self.steps, observation)
        reward = self.schedule.value("reward", self.steps, 1.0)
        terminated = self.schedule.value("terminated", self.steps, False)
        truncated = self.schedule.value("truncated", self.steps, truncated)
        info = self.schedule.value("info", self.steps, {})
        return (observation, reward, terminated, info) if old else (observation, reward, terminated, truncated, info)

    def close(self):
        self.schedule.act("close", self.steps)


class FaultyVectorEnv(VectorEnv):
    """The same in vector form: all episodes begin and end together, and one environment goes wrong.

    A value with a wrong shape has it in the whole batch.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
    single_observation_space = FaultyEnv.observation_space
    single_action_space = FaultyEnv.action_space

    def __init__(self, num_envs, faulty=1, worker=None, **schedule):
        self.num_envs, self.faulty, self.steps, self.t = num_envs, faulty, 0, 0
        self.schedule = Schedule(**schedule)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.schedule.act("constructor", 0)

    def reset(self, *, seed=None, options=None):
        self.t = 0
        old = self.schedule.act("reset", self.steps)
        observations = self._batch("first_observation", np.zeros((self.num_envs, 3), np.float32))
        return observations if old else (observations, {})

    def step(self, actions):
        self.steps += 1
        self.t += 1
        old = self.schedule.act("step", self.steps)
        ends = self.t == LENGTH
        observations = self._batch("observation", np.zeros((self.num_envs, 3), np.float32))
        rewards = self._batch("reward", np.ones(self.num_envs))
        terminated = self._batch("terminated", np.zeros(self.num_envs, bool))
        truncated = self._batch("truncated", np.full(self.num_envs, ends))
        infos = {}
        if ends:
            infos = {"final_obs": self._batch("final_observation", observations), "final_info": {}}
            observations, _ = self.reset()
        wrong = self.schedule.value("info", self.steps, {})
        infos = infos | wrong if isinstance(wrong, dict) else wrong
        if old:
            return observations, rewards, terminated, infos
        return observations, rewards, terminated, truncated, infos

    def close_extras(self, **kwargs):
        self.schedule.act("close", self.steps)

    def _batch(self, where, right):
        wrong = self.schedule.value(where, self.steps, right)
        if wrong is right:
            return right
        if self.schedule.what == "shape":
            return right[:, :2] if right.ndim == 2 else right[:, None]
        if self.schedule.what in ("none", "text"):
            rows = np.empty(self.num_envs, object)
            for index in range(self.num_envs):
                rows[index] = wrong if index == self.faulty else right[index]
            return rows
        batch = right.astype(np.result_type(right, np.asarray(wrong)))
        batch[self.faulty] = wrong
        return batch


def make_faulty(context):
    """Environment creator for RLlib."""
    if "num_envs" not in context:
        return FaultyEnv(context)
    if context.get("worker", context.worker_index) != context.worker_index:
        return FaultyVectorEnv(context["num_envs"])
    return FaultyVectorEnv(**context)
