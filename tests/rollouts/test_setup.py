"""What does not go with an env runner is refused, in whatever order a config was put together."""

import pytest
from ray.rllib.algorithms.ppo import PPOConfig

from rllib_stpn.algorithms import A2CConfig
from rllib_stpn.errors import UsageError
from rllib_stpn.models import recurrent_spec
from rllib_stpn.rollouts import EpisodeEnvRunner, ManyAgentsEnvRunner, use_batched_rollouts

pytestmark = pytest.mark.usefixtures("ray_session")
BATCHED = "output: batched env runners record nothing, env_runner_cls: single_agent does"


def config_of(algorithm=PPOConfig, remote=0):
    config = algorithm().environment("CartPole-v1")
    config.env_runners(num_env_runners=remote, batch_mode="complete_episodes")  # as RLlib asks of recordings
    return config.rl_module(rl_module_spec=recurrent_spec("mlp", hidden_size=4))


def test_batched_rollouts_of_a_config_that_records_are_refused(tmp_path):
    with pytest.raises(UsageError, match=BATCHED):
        use_batched_rollouts(config_of().offline_data(output=str(tmp_path)))


@pytest.mark.parametrize("remote", [0, 1], ids=["local", "remote"])
@pytest.mark.parametrize("algorithm", [PPOConfig, A2CConfig])
def test_a_recording_that_batched_rollouts_are_given_later_is_refused(algorithm, remote, tmp_path):
    config = use_batched_rollouts(config_of(algorithm, remote)).offline_data(output=str(tmp_path))
    with pytest.raises(UsageError, match=BATCHED):
        config.build_algo().stop()


def test_so_is_one_that_rllibs_env_runner_is_given(tmp_path):
    config = config_of().env_runners(env_runner_cls=EpisodeEnvRunner).offline_data(output=str(tmp_path))
    with pytest.raises(UsageError, match="output: EpisodeEnvRunner records nothing, RecordingEnvRunner does"):
        config.build_algo().stop()


def test_so_is_one_of_several_agents(tmp_path):
    config = config_of().offline_data(output=str(tmp_path))
    with pytest.raises(UsageError, match="output: ManyAgentsEnvRunner records nothing, and RLlib records no several"):
        ManyAgentsEnvRunner(config=config, worker_index=0)


def test_a_run_that_records_may_evaluate_batched(tmp_path):
    config = use_batched_rollouts(config_of()).offline_data(output=str(tmp_path)).evaluation(evaluation_interval=1)
    config = config.get_evaluation_config_object()
    runner = config.env_runner_cls(config=config, worker_index=0)
    runner.sample(num_episodes=1)
    runner.stop()
    assert not list(tmp_path.iterdir())
