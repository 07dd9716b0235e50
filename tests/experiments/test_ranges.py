"""Values that make no sense are refused, wherever a setting can stand."""

import pytest

from rllib_stpn.errors import UsageError
from rllib_stpn.experiments.loading import load
from rllib_stpn.experiments.validation import check

OLD_STACK = "enable_rl_module_and_learner: false, enable_env_runner_and_connector_v2: false"


def checked(tmp_path, config, run="PPO", env="CartPole-v1"):
    path = tmp_path / "experiment.yaml"
    path.write_text(f"x: {{run: {run}, env: {env}, config: {config}}}")
    (experiment,) = load(path)
    check(experiment)


@pytest.mark.parametrize("value", [".nan", "1e999", ".inf", "-.inf"])
@pytest.mark.parametrize("key", ["num_env_runners", "train_batch_size", "num_epochs", "seed", "evaluation_interval"])
def test_a_whole_number_is_finite(tmp_path, key, value):
    with pytest.raises(UsageError, match=f"{key}: got .*, allowed is a whole number"):
        checked(tmp_path, f"{{{key}: {value}}}")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("gamma: 3.7", "gamma: got 3.7, allowed are numbers from 0 to 1"),
        ("lambda_: -1", "lambda_: got -1, allowed are numbers from 0 to 1"),
        ("lambda: 1.5", "lambda_: got 1.5, allowed are numbers from 0 to 1"),
        ("lr: -1e-3", "lr: got -0.001, allowed are numbers from 0"),
        ("lr: .inf", "lr: got inf, allowed are finite numbers"),
        ("lr: [[0, 1e-3], [1000, -1e-4]]", "lr: schedule: got -0.0001, allowed are numbers from 0"),
        ("lr: [[0, a]]", "lr: got 'a' as a value of the schedule, allowed are numbers"),
        ("lr: {grid_search: [1e-3, -1e-3]}", "lr: got -0.001"),
        ("lr: {uniform: [-1e-3, 1e-3]}", "lr: got -0.001"),
        ("entropy_coeff: .nan", "entropy_coeff: got nan"),
        ("grad_clip: []", r"grad_clip: got \[\], allowed is a number"),
        ("grad_clip: -1", "grad_clip: got -1, allowed are numbers above 0"),
        ("clip_param: 0", "clip_param: got 0, allowed are numbers above 0"),
        ("vf_loss_coeff: [[0, 1], [10, 2]]", "vf_loss_coeff: got .*, allowed is a number"),
        ("evaluation_config: {gamma: 2}", "evaluation_config: gamma: got 2"),
        ("model: {custom_model: 0}", "custom_model: got 0, allowed is the name of a layer"),
        ("model: {custom_model: {}}", "custom_model: got {}, allowed is the name of a layer"),
        ("model: {fcnet_hiddens: -1}", "fcnet_hiddens: got -1, allowed is a list of whole numbers of at least 1"),
        ("model: {fcnet_hiddens: [8, .inf]}", r"fcnet_hiddens: got \[8, inf\], allowed is a list of whole numbers"),
        ("model: {grid_search: [{fcnet_hiddens: [8]}, {fcnet_hiddens: [0]}]}", r"fcnet_hiddens: got \[0\]"),
        ("model: {fcnet_activation: rleu}", "fcnet_activation: got 'rleu', allowed are .*; did you mean relu"),
        ("model: {vf_share_layers: a}", "vf_share_layers: got 'a', allowed is true or false"),
        ("model: {conv_filters: [[16, 4]]}", r"conv_filters: got \[16, 4\], allowed are lists"),
        ("model: {max_seq_len: 0}", "max_seq_len: got 0, allowed is a whole number of at least 1"),
        (
            "model: {custom_model: lstm, custom_model_config: {hidden_size: 4}, max_seq_len: .inf}",
            "max_seq_len: got inf",
        ),
        ("vf_loss_coeff: [[a, b]]", r"vf_loss_coeff: got \[\['a', 'b'\]\], allowed is a number"),
        ("kl_coeff: null", "kl_coeff: got None, allowed is a number"),
        ("entropy_coeff: .inf", "entropy_coeff: got inf, allowed are finite numbers"),
        ("train_batch_size: 1e30", "train_batch_size: got .*, allowed is a whole number of at most 100,000,000"),
        ("seed: 4294967296", "seed: got 4294967296, allowed is a whole number of at most 4,294,967,295"),
        ("max_requests_in_flight_per_env_runner: 0", "allowed is a whole number of at least 1"),
        ("metrics_num_episodes_for_smoothing: 0", "allowed is a whole number of at least 1"),
        ("min_sample_timesteps_per_iteration: -5", "got -5, allowed are numbers from 0"),
        (
            "grad_clip_by: nrom",
            "grad_clip_by: got 'nrom', allowed are 'global_norm', 'norm', 'value'; did you mean norm",
        ),
        ("batch_mode: null", "batch_mode: got None, allowed is"),
        ("clip_rewards: [1]", r"clip_rewards: got \[1\], allowed is a number"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, setting, message):
    with pytest.raises(UsageError, match=message):
        checked(tmp_path, f"{{{setting}}}")


@pytest.mark.parametrize(
    "setting",
    [
        "vf_clip_param: .inf",
        "vf_clip_param: null",
        "grad_clip_by: norm",
        "model: {fcnet_activation: SiLU}",
        "lr: 0",
        "gamma: 0",
        "gamma: 1",
        "grad_clip: null",
        "lr: [[0, 1e-3], [9, 0]]",
    ],
)
def test_the_ends_of_the_ranges_are_taken(tmp_path, setting):
    checked(tmp_path, f"{{{setting}}}")


@pytest.mark.parametrize(
    ("run", "env", "setting"),
    [
        ("DQN", "CartPole-v1", "replay_buffer_config: {capasity: 1000}"),
        ("DQN", "CartPole-v1", "replay_buffer_config: {type: EpisodeReplayBuffer, alhpa: 0.6}"),
        ("SAC", "Pendulum-v1", "q_model_config: {fcnet_hidens: [8]}"),
        ("SAC", "Pendulum-v1", "Q_model: {fcnet_hidens: [8]}"),
        ("SAC", "Pendulum-v1", "policy_model: {fcnet_hidens: null}"),
        ("SAC", "Pendulum-v1", "optimization: {ator_learning_rate: 1e-3}"),
        ("DQN", "CartPole-v1", "exploration_config: {epsilon_timesteps: 100, final_epsilo: 0.1}"),
        ("DQN", "CartPole-v1", f"{OLD_STACK}, exploration_config: {{type: EpsilonGreedy, final_epsilo: 0.1}}"),
    ],
)
def test_a_misspelt_key_in_a_block_that_is_handed_on_is_refused(tmp_path, run, env, setting):
    with pytest.raises(UsageError, match="got the unknown key .*, allowed are .*; did you mean"):
        checked(tmp_path, f"{{{setting}}}", run, env)


@pytest.mark.parametrize(
    ("run", "setting", "message"),
    [
        ("DQN", "replay_buffer_config: {nonsense: 1}", "got the unknown key 'nonsense'"),
        ("DQN", "replay_buffer_config: {type: EpisodeReplayBufer}", "got 'EpisodeReplayBufer', allowed are"),
        ("DQN", "replay_buffer_config: {capacity: .inf}", "capacity: got inf, allowed is a whole number"),
        ("DQN", "replay_buffer_config: {alpha: {grid_search: [0.5, a]}}", "alpha: got 'a', allowed is a number"),
        ("DQN", "epsilon: [[0, 1.0], [100, .inf]]", "epsilon: schedule: got inf"),
        ("DQN", "exploration_fraction: -1", "epsilon: .* takes their place"),
        ("DQN", "schedule_max_timesteps: .nan", "epsilon: .* takes their place"),
        ("DQN", "target_network_update_freq: -1", "got -1, allowed are numbers from 0"),
        ("IMPALA", "broadcast_interval: 0", "got 0, allowed is a whole number of at least 1"),
    ],
)
def test_so_is_a_value_in_it_that_makes_no_sense(tmp_path, run, setting, message):
    with pytest.raises(UsageError, match=message):
        checked(tmp_path, f"{{{setting}}}", run)


def test_a_buffer_of_the_users_own_may_take_anything(tmp_path):
    block = "{type: ray.rllib.utils.replay_buffers.episode_replay_buffer.EpisodeReplayBuffer, mine: 1}"
    checked(tmp_path, f"{{replay_buffer_config: {block}}}", "DQN")
    checked(tmp_path, "{n_step: [1, 3]}", "DQN")


@pytest.mark.parametrize(
    ("stop", "message"),
    [
        ("{training_iteration: 1e999}", "training_iteration: got the string '1e999', allowed is a finite number"),
        ("{training_iteration: 0}", "got 0, which the first result reaches"),
        ("{training_iteration: {}}", "training_iteration: got a mapping, allowed is a number"),
        ("{env_runners/episode_return_mean/a: 1}", "episode_return_mean is a number, with nothing below it"),
        ("{env_runners/episode_retrun_mean: 1}", "got the unknown metric 'episode_retrun_mean'.*did you mean"),
        ("{evaluation/episode_retrun_mean: 1}", "allowed are paths in evaluation/env_runners"),
        ("{env_runner/episode_return_mean: 1}", "got the path"),
        ("{training_iteratoin: 1}", "got the unknown metric"),
    ],
)
def test_a_stop_criterion_that_cannot_be_met_or_is_met_at_once_is_refused(tmp_path, stop, message):
    path = tmp_path / "experiment.yaml"
    path.write_text(f"x: {{run: PPO, env: CartPole-v1, stop: {stop}, config: {{evaluation_interval: 1}}}}")
    with pytest.raises(UsageError, match=message):
        check(*load(path))


@pytest.mark.parametrize("block", ["model", "env_config"])
@pytest.mark.parametrize("value", ["3", "[1, 2]", "a", ".nan"])
@pytest.mark.parametrize("env", ["PongNoFrameskip-v4", "CartPole-v1"])
def test_a_block_that_is_no_mapping_is_refused(tmp_path, env, block, value):
    with pytest.raises(UsageError, match=f"{block}: got .*, allowed is a mapping"):
        checked(tmp_path, f"{{{block}: {value}}}", env=env)


def test_an_environment_that_does_not_take_its_arguments_is_told_before_ray_starts(tmp_path):
    with pytest.raises(UsageError, match="cannot be made: TypeError: .*'nonsense'"):
        checked(tmp_path, "{env_config: {nonsense: 1}}")
