"""What measuring energy at every step costs sampling: alternating rollouts with and without, in one process.

    .venv/bin/python benchmarks/energy_overhead.py [--rounds 7] [--settings pong maze]

"pong" has Pong's frames (84 x 84, random numbers in place of the emulator, which makes the environment cheaper than the
real one and the overhead a larger part), 64 environments, the published encoder and 64 STPN neurons; "maze" is
stpn/Maze-v0 with 512 environments and 55 neurons, and, in a third row, without the previous reward's input.
"""

import argparse
import functools
import statistics
import time

import gymnasium as gym
import numpy as np
import ray
from gymnasium.vector import AutoresetMode, VectorEnv
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.tune.registry import register_env

import rllib_stpn
from rllib_stpn.algorithms import A2CConfig
from rllib_stpn.callbacks import EnergyMetricsCallback
from rllib_stpn.models import recurrent_spec
from rllib_stpn.rollouts import BatchedEnvRunner


class RandomFrames(VectorEnv):
    """Frames of noise, episodes of 1,000 steps."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(self, num_envs: int):
        self.num_envs = num_envs
        self.single_observation_space = gym.spaces.Box(0, 255, (84, 84, 1), np.uint8)
        self.single_action_space = gym.spaces.Discrete(6)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)
        self._frames = np.random.default_rng(0).integers(0, 256, (4, num_envs, 84, 84, 1), np.uint8)
        self._t = 0

    def reset(self, *, seed=None, options=None):
        return self._frames[0], {}

    def step(self, actions):
        self._t += 1
        none = np.zeros(self.num_envs, bool)
        return self._frames[self._t % 4], np.zeros(self.num_envs, np.float32), none, none, {}


SETTINGS = {
    "pong": (
        "frames",
        64,
        {"hidden_size": 64, "conv_filters": [[16, 8, 4], [32, 4, 2]], "conv_activation": "relu"},
        EnergyMetricsCallback,
    ),
    "maze": (
        "stpn_envs:stpn/Maze-v0",
        512,
        {"hidden_size": 55, "normalize": "post", "clamp": 1.0},
        EnergyMetricsCallback,
    ),
    "maze, an input ignored": (
        "stpn_envs:stpn/Maze-v0",
        512,
        {"hidden_size": 55, "normalize": "post", "clamp": 1.0},
        functools.partial(EnergyMetricsCallback, ignore_inputs=[12]),
    ),
}


def make_runner(env, num_envs, model, callbacks):
    config = (
        A2CConfig()
        .environment(env)
        .env_runners(num_envs_per_env_runner=num_envs, rollout_fragment_length=50)
        .rl_module(rl_module_spec=recurrent_spec("stpn", max_seq_len=50, **model))
        .callbacks(callbacks)
        .debugging(seed=0)
    )
    config.env_runners(gym_env_vectorize_mode="vector_entry_point")
    return BatchedEnvRunner(config=config, worker_index=0)


def seconds(runner) -> float:
    started = time.perf_counter()
    runner.sample()
    elapsed = time.perf_counter() - started
    runner.get_metrics()
    return elapsed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=SETTINGS)
    arguments = parser.parse_args()
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")
    rllib_stpn.register()
    register_env("frames", lambda context: RandomFrames(context["num_envs"]))
    print(f"{'setting':<24}{'off':>12}{'on':>12}{'on / off':>12}   (steps/s; median of {arguments.rounds} pairs)")
    for name in arguments.settings:
        env, num_envs, model, callbacks = SETTINGS[name]
        off, on = (make_runner(env, num_envs, model, each) for each in (RLlibCallback, callbacks))
        for runner in (off, on):
            seconds(runner)  # compiles kernels, makes environments
        pairs = [(seconds(off), seconds(on)) for _ in range(arguments.rounds)]
        rates = [50 * num_envs / statistics.median(each) for each in zip(*pairs, strict=True)]
        ratio = statistics.median(slow / fast for fast, slow in pairs)
        print(f"{name:<24}{rates[0]:>12,.0f}{rates[1]:>12,.0f}{ratio:>12.3f}", flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main()
