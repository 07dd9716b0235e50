"""Memory of recurrent states on RLlib's own SingleAgentEnvRunner, with and without ``thin_states``.

    python benchmarks/stock_memory.py

An STPN reads a large observation of a trivial environment. Printed per variant, each in a process of its own: bytes of
state per environment step held by the episodes that ``sample()`` returns, the rise of the peak resident size over two
samples, and seconds per sample.
"""

import argparse
import multiprocessing
import resource
import time

import gymnasium as gym
import numpy as np
import torch
import tree
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

from rllib_stpn.models import recurrent_spec
from rllib_stpn.rollouts import thin_states
from rllib_stpn.rollouts.thin_states import RowsWithGaps


class Blank(gym.Env):
    """Shows zeros for ever."""

    def __init__(self, size: int) -> None:
        self.observation_space = gym.spaces.Box(-1, 1, (size,), np.float32)
        self.action_space = gym.spaces.Discrete(2)
        self.observation = np.zeros(size, np.float32)

    def reset(self, *, seed=None, options=None):
        return self.observation, {}

    def step(self, action):
        return self.observation, 0.0, False, False, {}


def held(leaf: np.ndarray | RowsWithGaps) -> int:
    """Bytes of one leaf of an episode's states."""
    rows = leaf.rows if isinstance(leaf, RowsWithGaps) else [leaf]
    return sum(row.nbytes for row in rows if row is not None)


def measure(thin: bool, given: argparse.Namespace, results) -> None:
    from ray.tune.registry import register_env

    torch.set_num_threads(1)
    register_env("blank", lambda context: Blank(given.inputs))
    config = (
        PPOConfig()
        .environment("blank")
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=given.envs,
            rollout_fragment_length=given.steps,
            module_to_env_connector=thin_states if thin else None,
        )
        .rl_module(rl_module_spec=recurrent_spec("stpn", hidden_size=given.hidden, max_seq_len=given.max_seq_len))
    )
    runner = SingleAgentEnvRunner(config=config, worker_index=0)
    runner.sample(num_timesteps=given.envs)  # compiles the kernel
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    for _ in range(2):
        episodes = runner.sample()
    seconds = (time.perf_counter() - started) / 2
    steps = sum(map(len, episodes))
    states = [episode.extra_model_outputs[Columns.STATE_OUT].data for episode in episodes]
    per_step = sum(held(leaf) for state in states for leaf in tree.flatten(state)) / steps
    rise = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    results.put((per_step, rise, seconds, steps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=2592, help="features of an observation (default: Pong's)")
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--envs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=50, help="steps of a fragment")
    parser.add_argument("--max-seq-len", type=int, default=50)
    given = parser.parse_args()
    print(f"STPN H={given.hidden}, {given.inputs} inputs, {given.envs} x {given.steps} steps")
    context = multiprocessing.get_context("spawn")
    for thin in (False, True):
        results = context.Queue()
        process = context.Process(target=measure, args=(thin, given, results))
        process.start()
        per_step, rise, seconds, steps = results.get()
        process.join()
        name = "thin_states" if thin else "RLlib alone"
        print(
            f"{name:>12}: {per_step / 1e3:8.1f} KB of state a step, peak + {rise:7.0f} MB, "
            f"{seconds:.2f} s a sample of {steps}"
        )


if __name__ == "__main__":
    main()
