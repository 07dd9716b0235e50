"""A task that needs the previous action and reward: learned with them and not without; minutes each.

docs/learning.md has what these reached.
"""

import pytest

from rllib_stpn.experiments.building import build_config

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]
ENOUGH = 12.0
BOTH = {"lstm_use_prev_action": True, "lstm_use_prev_reward": True}


def best_return(layer, seed, steps, **inputs):
    """The best mean return of 20 pulls of 3 arms that are new in every episode, which shows nothing: 10 by chance."""
    config = build_config(
        "PPO",
        {
            "env": "stpn/Bandit-v0",
            "env_config": {"num_arms": 3, "pulls": 20},
            "gym_env_vectorize_mode": "vector_entry_point",
            "num_env_runners": 0,
            "num_envs_per_env_runner": 64,
            "rollout_fragment_length": 20,
            "train_batch_size": 1280,
            "minibatch_size": 320,
            "num_epochs": 4,
            "metrics_num_episodes_for_smoothing": 1000,
            "gamma": 0.9,
            "lambda_": 0.9,
            "lr": 0.003,
            "entropy_coeff": 0.01,
            "vf_loss_coeff": 0.05,
            "grad_clip": 0.5,
            "use_kl_loss": False,
            "seed": seed,
            "model": {
                "custom_model": layer,
                "custom_model_config": {"hidden_size": 32},
                "max_seq_len": 20,
                **inputs,
            },
        },
    )
    algo = config.build_algo()
    best, taken = float("-inf"), 0
    try:
        while taken < steps and best < ENOUGH:
            result = algo.train()
            taken = int(result["num_env_steps_sampled_lifetime"])
            if taken >= 20_000:  # a thousand episodes, as many as the mean is of
                best = max(best, result["env_runners"]["episode_return_mean"])
    finally:
        algo.stop()
    print(
        f"bandit {layer} seed {seed}, {' and '.join(inputs) or 'neither'}: best mean return {best:.2f}, {taken:,} steps"
    )
    return best


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("layer", ["stpn", "lstm"])
def test_arms_are_told_apart_by_what_they_paid(layer, seed):
    assert best_return(layer, seed, 400_000, **BOTH) >= ENOUGH


@pytest.mark.parametrize("inputs", [{}, {"lstm_use_prev_action": True}], ids=["neither", "action"])
@pytest.mark.parametrize("layer", ["stpn", "lstm"])
def test_without_the_reward_they_are_not(layer, inputs):
    assert best_return(layer, 0, 150_000, **inputs) < 11
