"""What PPO learns with memory and does not learn without; minutes each. docs/learning.md has what these reached."""

import pytest
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.connectors.env_to_module import FlattenObservations, MeanStdFilter
from ray.rllib.examples.envs.classes.repeat_after_me_env import RepeatAfterMeEnv
from ray.tune.registry import register_env

import rllib_stpn
from rllib_stpn.models import recurrent_spec
from rllib_stpn.rollouts import thin_states, use_batched_rollouts

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]

TO_MODULE = {
    "StatelessCartPole": lambda env, spaces, device: MeanStdFilter(),
    "RepeatAfterMe": lambda env, spaces, device: FlattenObservations(),
}


def best_return(env, layer, seed, steps, enough, batched=True):
    """The best mean return within so many steps, or the first one that is enough."""
    rllib_stpn.register()
    register_env("RepeatAfterMe", lambda context: RepeatAfterMeEnv({"repeat_delay": 2}))
    config = (
        PPOConfig()
        .environment(env)
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=16,
            rollout_fragment_length=32,
            env_to_module_connector=TO_MODULE[env],
            module_to_env_connector=thin_states,
        )
        .training(
            gamma=0.99,
            lambda_=0.95,
            lr=2e-3,
            vf_loss_coeff=0.002,  # returns up to 500 would drown the policy's gradient
            vf_clip_param=float("inf"),
            clip_param=0.2,
            use_kl_loss=False,
            entropy_coeff=0.01,
            grad_clip=0.5,
            train_batch_size=512,
            minibatch_size=256,
            num_epochs=4,
        )
        .rl_module(rl_module_spec=recurrent_spec(layer, hidden_size=32, max_seq_len=32, fcnet_hiddens=[64]))
        .debugging(seed=seed)
    )
    algo = (use_batched_rollouts(config) if batched else config).build_algo()
    best, taken = float("-inf"), 0
    try:
        while taken < steps and best < enough:
            result = algo.train()
            taken = int(result["num_env_steps_sampled_lifetime"])
            best = max(best, result["env_runners"].get("episode_return_mean", best))
    finally:
        algo.stop()
    how = "batched" if batched else "RLlib's own env runner"
    print(f"{env} {layer} seed {seed}, {how}: best mean return {best:.1f}, stopped at {taken:,} steps")
    return best


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("layer", ["stpn", "lstm", "gru"])
def test_memory_balances_without_velocities(layer, seed):
    assert best_return("StatelessCartPole", layer, seed, steps=300_000, enough=300) >= 300


def test_no_memory_does_not():
    assert best_return("StatelessCartPole", "mlp", 0, steps=300_000, enough=200) < 200


def test_rllibs_own_env_runner_brings_the_same_learning():
    assert best_return("StatelessCartPole", "stpn", 0, steps=150_000, enough=200, batched=False) >= 200


def test_stpn_repeats_what_it_saw_two_steps_ago():
    assert best_return("RepeatAfterMe", "stpn", 0, steps=200_000, enough=60) >= 60


def test_no_memory_cannot():
    assert best_return("RepeatAfterMe", "mlp", 0, steps=60_000, enough=60) < 30
