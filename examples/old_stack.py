"""PPO with short-term plasticity neurons on RLlib's old API stack: CartPole without its velocities."""

from ray.rllib.algorithms.ppo import PPOConfig

import rllib_stpn

rllib_stpn.register()  # knows the environment and, as custom models, the layers
config = PPOConfig().environment("StatelessCartPole").env_runners(num_env_runners=1, num_envs_per_env_runner=8)
config.api_stack(enable_rl_module_and_learner=False, enable_env_runner_and_connector_v2=False)
config.training(train_batch_size=1024, minibatch_size=256, num_epochs=6, lr=0.001, vf_loss_coeff=0.01)
layer = {"hidden_size": 32, "normalize": "pre"}
config.training(model={"custom_model": "stpn", "custom_model_config": layer, "fcnet_hiddens": [64], "max_seq_len": 32})
algo = config.build_algo()
for _ in range(4):
    result = algo.train()
    steps, mean = result["num_env_steps_sampled_lifetime"], result["env_runners"]["episode_return_mean"]
    print(f"{steps:6.0f} steps: return {mean:.1f}")
algo.stop()
