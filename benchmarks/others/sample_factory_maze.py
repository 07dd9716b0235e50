"""PPO with an LSTM of 47 units on the maze in Sample Factory, asynchronous: environment steps per second.

    python -m venv sf && sf/bin/pip install -e . && sf/bin/pip install --no-deps sample-factory==2.1.1 ...
    sf/bin/python benchmarks/others/sample_factory_maze.py --envs 64 --seconds 60

Sample Factory asks for a gymnasium below 1.0, hence ``--no-deps``; beside it goes what it needs: ``faster-fifo
signal-slot-mp huggingface-hub colorlog threadpoolctl wandb opencv-python-headless tensorboardx psutil``.

The settings are those of ``benchmarks/peers.py``: 4 epochs of 8 minibatches, sequences of 50 steps. Each of two workers
steps half of the environments, as one of the maze's vector environments.
"""

import argparse
import sys
import tempfile
import time

import gymnasium as gym
from sample_factory.algo.runners.runner import AlgoObserver
from sample_factory.cfg.arguments import parse_full_cfg, parse_sf_args
from sample_factory.envs.env_utils import register_env
from sample_factory.train import make_runner

MAZE = "stpn_envs:stpn/Maze-v0"
STEPS, WORKERS, MINIBATCHES = 50, 2, 8


gym.Wrapper.__getattr__ = lambda wrapper, name: getattr(wrapper.env, name)  # as it was before gymnasium 1.0


class Mazes(gym.Env):
    """A vector environment as Sample Factory takes it: one environment of several agents."""

    is_multiagent = True

    def __init__(self, num_agents: int) -> None:
        self.num_agents = num_agents
        self._envs = gym.make_vec(MAZE, num_envs=num_agents, vectorization_mode="vector_entry_point")
        self.observation_space = self._envs.single_observation_space
        self.action_space = self._envs.single_action_space
        self.render_mode = None

    def reset(self, *, seed=None, options=None):
        observations, _ = self._envs.reset(seed=seed)
        return observations, [{}] * self.num_agents

    def step(self, actions):
        observations, rewards, terminated, truncated, _ = self._envs.step(actions)
        return observations, rewards, terminated, truncated, [{}] * self.num_agents


def make_mazes(name, cfg, env_config, render_mode=None):
    """Those of one worker."""
    return Mazes(cfg.batch_size * MINIBATCHES // STEPS // WORKERS)


class Speed(AlgoObserver):
    """Counts steps from a quarter of the time on, when all processes run."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.began, self.first = seconds, None, None

    def on_start(self, runner) -> None:
        self.began = time.perf_counter()

    def on_training_step(self, runner, training_iteration_since_resume: int) -> None:
        now, steps = time.perf_counter(), runner.total_env_steps_since_resume
        if self.first is None and now - self.began > self.seconds / 4:
            self.first = now, steps
        self.last = now, steps

    def steps_per_second(self) -> float:
        return (self.last[1] - self.first[1]) / (self.last[0] - self.first[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--envs", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=60)
    given = parser.parse_args()
    register_env("maze", make_mazes)
    with tempfile.TemporaryDirectory() as place:
        options = {
            "env": "maze", "experiment": "maze", "train_dir": place, "device": "cpu", "batched_sampling": True,
            "num_workers": WORKERS, "num_envs_per_worker": 1, "worker_num_splits": 1, "rollout": STEPS,
            "recurrence": STEPS, "batch_size": given.envs * STEPS // MINIBATCHES, "num_batches_per_epoch": MINIBATCHES,
            "num_epochs": 4, "use_rnn": True, "rnn_type": "lstm", "rnn_size": 47, "gamma": 0.9, "gae_lambda": 0.95,
            "normalize_input": False, "normalize_returns": False, "train_for_seconds": given.seconds,
            "decorrelate_experience_max_seconds": 0, "save_every_sec": 10**6,
        }  # fmt: skip
        arguments = [f"--{name}={value}" for name, value in options.items()] + ["--encoder_mlp_layers"]
        config = parse_full_cfg(parse_sf_args(arguments)[0], arguments)
        config, runner = make_runner(config)
        speed = Speed(given.seconds)
        runner.register_observer(speed)
        runner.init()
        runner.run()
    print(f"{given.envs} environments: {speed.steps_per_second():,.0f} environment steps/s")


if __name__ == "__main__":
    sys.exit(main())
