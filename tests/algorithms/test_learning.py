"""What the tuned examples learn; minutes each. The README has the numbers these reached."""

from pathlib import Path

import pytest

import rllib_stpn
from rllib_stpn.experiments.building import build_config
from rllib_stpn.experiments.loading import load

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]
EXAMPLES = Path(__file__).parents[2] / "tuned_examples"


def best_return(layer: str, seed: int) -> tuple[float, int]:
    """The best mean return of a run of at most a million steps, and the steps at which it stopped."""
    (experiment,) = load(EXAMPLES / f"stateless_cartpole_{layer}.yaml")
    rllib_stpn.register()
    algo = build_config(experiment.algorithm, {**experiment.config, "seed": seed}).build_algo()
    best, steps = 0.0, 0
    try:
        while steps < 1_000_000 and best < 450:
            result = algo.train()
            steps = int(result["num_env_steps_sampled_lifetime"])
            best = max(best, result["env_runners"].get("episode_return_mean", 0.0))
    finally:
        algo.stop()
    print(f"StatelessCartPole {layer} seed {seed}: best mean return {best:.1f}, stopped at {steps:,} steps")
    return best, steps


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_stpn_balances_without_velocities(seed):
    best, _ = best_return("stpn", seed)
    assert best > 200


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_memory_does_not(seed):
    best, _ = best_return("mlp", seed)
    assert best < 100
