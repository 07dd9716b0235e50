"""What measuring energy at every step costs sampling: alternating rollouts with and without, in one process.

    .venv/bin/python benchmarks/energy_overhead.py [--rounds 11] [--threads 1] [--settings "pong stpn" "maze stpn"]

"pong" has Pong's frames (84 x 84, random numbers in place of the emulator, which makes the environment cheaper than the
real one and the overhead a larger part), 64 environments, the published encoder and 64 STPN neurons; "maze" is
stpn/Maze-v0 with 512 environments and 55 STPN neurons. Rivals are LSTMs of as many parameters. The last rows leave the
previous reward's input out, at every step and at one of ten.
"""

import argparse
import functools
import statistics
import time

import gymnasium as gym
import numpy as np
import ray
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.tune.registry import register_env

import rllib_stpn
from rllib_stpn.algorithms import A2CConfig
from rllib_stpn.energy import EnergyMetricsCallback
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


PONG = ("frames", 64, {"conv_filters": [[16, 8, 4], [32, 4, 2]], "conv_activation": "relu"})
MAZE = ("stpn_envs:stpn/Maze-v0", 512, {})
MAZE_STPN = {"hidden_size": 55, "normalize": "post", "clamp": 1.0}
SETTINGS = {
    "pong stpn": (*PONG, "stpn", {"hidden_size": 64}, {}),
    "pong lstm": (*PONG, "lstm", {"hidden_size": 48}, {}),
    "maze stpn": (*MAZE, "stpn", MAZE_STPN, {}),
    "maze lstm": (*MAZE, "lstm", {"hidden_size": 47}, {}),
    "maze stpn, ignoring": (*MAZE, "stpn", MAZE_STPN, {"ignore_inputs": [12]}),
    "maze stpn, ignoring, 10th": (*MAZE, "stpn", MAZE_STPN, {"ignore_inputs": [12], "every_n_steps": 10}),
}


def make_runner(env, num_envs, around, layer, options, callbacks):
    config = (
        A2CConfig()
        .environment(env)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=num_envs, rollout_fragment_length=50)
        .rl_module(rl_module_spec=recurrent_spec(layer, max_seq_len=50, **around, **options))
        .callbacks(callbacks)
        .debugging(seed=0)
    )
    config.env_runners(gym_env_vectorize_mode="vector_entry_point")
    return BatchedEnvRunner(config=config, worker_index=0)


def seconds(runner) -> tuple[float, float]:
    """Of wall and of CPU time."""
    started = time.perf_counter(), time.process_time()
    runner.sample()
    elapsed = time.perf_counter() - started[0], time.process_time() - started[1]
    runner.get_metrics()
    return elapsed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=1, help="1, as in RLlib's actors")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=SETTINGS)
    arguments = parser.parse_args()
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")
    rllib_stpn.register()
    torch.set_num_threads(arguments.threads)
    register_env("frames", lambda context: RandomFrames(context["num_envs"]))
    print(f"medians of {arguments.rounds} pairs; CPU time tells more than wall time where other processes run, too")
    print(f"{'setting':<28}{'off, steps/s':>14}{'on, steps/s':>14}{'on / off':>10}{'of CPU time':>13}")
    for name in arguments.settings:
        *model, options = SETTINGS[name]
        num_envs = model[1]
        callbacks = functools.partial(EnergyMetricsCallback, **options)
        off, on = (make_runner(*model, each) for each in (RLlibCallback, callbacks))
        for runner in (off, on):
            seconds(runner)  # compiles kernels, makes environments
        pairs = [(seconds(off), seconds(on)) for _ in range(arguments.rounds)]
        rates = [50 * num_envs / statistics.median(wall for wall, _ in each) for each in zip(*pairs, strict=True)]
        wall, cpu = (statistics.median(slow[i] / fast[i] for fast, slow in pairs) for i in range(2))
        print(f"{name:<28}{rates[0]:>14,.0f}{rates[1]:>14,.0f}{wall:>10.3f}{cpu:>13.3f}", flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main()
