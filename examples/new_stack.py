"""PPO with short-term plasticity neurons on RLlib's API stack of today: CartPole without its velocities."""

from ray.rllib.algorithms.ppo import PPOConfig

import rllib_stpn

spec = rllib_stpn.recurrent_spec("stpn", hidden_size=32, normalize="pre", fcnet_hiddens=[64], max_seq_len=32)
config = PPOConfig().environment("StatelessCartPole").rl_module(rl_module_spec=spec)
config.env_runners(num_env_runners=0, num_envs_per_env_runner=16, rollout_fragment_length=128)
config.training(train_batch_size=2048, minibatch_size=256, num_epochs=6, lr=0.001, vf_loss_coeff=0.01)
algo = rllib_stpn.use_batched_rollouts(config).build_algo()
for _ in range(8):
    result = algo.train()
    steps, mean = result["num_env_steps_sampled_lifetime"], result["env_runners"]["episode_return_mean"]
    print(f"{steps:6.0f} steps: return {mean:.1f}")
algo.stop()
