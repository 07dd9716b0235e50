"""A sweep with Ray Tune: which layer learns CartPole without its velocities?"""

import sys

from ray import tune
from ray.rllib.algorithms.ppo import PPOConfig

import rllib_stpn

layers = ("stpn", "lstm", "mlp")
specs = [rllib_stpn.recurrent_spec(name, hidden_size=32, fcnet_hiddens=[64], max_seq_len=32) for name in layers]
config = PPOConfig().environment("StatelessCartPole").rl_module(rl_module_spec=tune.grid_search(specs))
config.env_runners(num_env_runners=0, num_envs_per_env_runner=16, rollout_fragment_length=128)
config.training(train_batch_size=2048, minibatch_size=256, num_epochs=6, lr=0.001, vf_loss_coeff=0.01)
config = rllib_stpn.use_batched_rollouts(config)

stop = {"training_iteration": int(sys.argv[1]) if len(sys.argv) > 1 else 20}
results = tune.Tuner("PPO", param_space=config, run_config=tune.RunConfig(stop=stop, verbose=0)).fit()
for result in results:
    model = result.config["_rl_module_spec"].model_config
    print(f"{model['custom_model']}: return {result.metrics['env_runners']['episode_return_mean']:.1f}")
