"""Recurrent DQN learns CartPole without velocities, the same without memory does not; minutes each."""

from pathlib import Path

import pytest

from rllib_stpn.experiments.building import build_config
from rllib_stpn.experiments.loading import load

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]
FILES = Path(__file__).parents[2] / "tuned_examples"
ENOUGH = 100.0


def best_return(name, steps):
    """The best mean return of the file of this name, until it is enough; chance gives 20."""
    (experiment,) = load(FILES / f"{name}.yaml")
    algo = build_config(experiment.algorithm, {**experiment.config, "seed": 0}).build_algo()
    best, taken = float("-inf"), 0
    try:
        while taken < steps and best < ENOUGH:
            result = algo.train()
            taken = int(result["num_env_steps_sampled_lifetime"])
            best = max(best, result["env_runners"]["episode_return_mean"])
    finally:
        algo.stop()
    print(f"{name}: best mean return {best:.0f}, {taken:,} steps")
    return best


def test_with_memory_it_balances():
    assert best_return("stateless_cartpole_dqn_stpn", 60_000) >= ENOUGH


def test_without_memory_it_does_not():
    assert best_return("stateless_cartpole_dqn_mlp", 25_000) < ENOUGH
