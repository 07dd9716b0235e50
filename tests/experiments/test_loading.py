"""Loading files: today's format, the old names, and what is told about mistakes. No Ray session."""

import pytest
import yaml

from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import loading
from rllib_stpn.experiments.overrides import Overrides

OLD_STACK = "{enable_rl_module_and_learner: false, enable_env_runner_and_connector_v2: false}"


def load_one(path):
    (experiment,) = loading.load(path)
    return experiment


def test_a_file_of_todays_names_is_taken_as_it_is(cartpole):
    experiment = load_one(cartpole)
    assert (experiment.name, experiment.algorithm, experiment.num_samples) == ("cartpole", "PPO", 1)
    assert experiment.config["env"] == "CartPole-v1"
    assert experiment.config["model"] == {"fcnet_hiddens": [8]}
    assert experiment.stop == {"training_iteration": 50}
    assert experiment.notes == ()


def test_several_experiments_of_a_file(write):
    path = write("one: {run: PPO, env: A-v0}\ntwo: {run: PPO, config: {env: B-v0}}\n")
    assert [(e.name, e.config["env"]) for e in loading.load(path)] == [("one", "A-v0"), ("two", "B-v0")]


def test_old_names_are_translated_and_told(write):
    experiment = load_one(
        write("""
old:
  run: PPO
  env: CartPole-v0
  stop: {timesteps_total: 1000, episode_reward_mean: 150, time_total_s: 60}
  checkpoint_freq: 5
  local_dir: /somewhere
  pass_criteria: {episode_reward_mean: 100}
  config:
    framework: tf2
    num_workers: 3
    num_envs_per_worker: 2
    num_gpus: 1
    sgd_minibatch_size: 64
    num_sgd_iter: 3
    lambda: 0.95
    lr: 0.1
    lr_schedule: [[0, 0.001], [1000, 0.0]]
    entropy_coeff_schedule: null
    vf_share_layers: true
    horizon: 200
    evaluation_num_episodes: 7
    model: {post_fcnet_hiddens: [16], framestack: false}
    evaluation_config: {num_envs_per_worker: 1}
""")
    )
    assert experiment.config == {
        "env": "CartPole-v0",
        "framework_str": "torch",
        "num_env_runners": 3,
        "num_envs_per_env_runner": 2,
        "num_gpus_per_learner": 1,
        "minibatch_size": 64,
        "num_epochs": 3,
        "lambda_": 0.95,
        "lr": [[0, 0.001], [1000, 0.0]],
        "evaluation_duration": 7,
        "evaluation_duration_unit": "episodes",
        "model": {"head_fcnet_hiddens": [16], "vf_share_layers": True},
        "evaluation_config": {"num_envs_per_env_runner": 1},
    }
    assert experiment.stop == {
        "num_env_steps_sampled_lifetime": 1000,
        "env_runners/episode_return_mean": 150,
        "time_total_s": 60,
    }
    assert experiment.checkpoint == {"checkpoint_frequency": 5}
    assert experiment.storage_path == "/somewhere"
    told = "\n".join(experiment.notes)
    for line in (
        "num_workers -> num_env_runners",
        "num_sgd_iter -> num_epochs",
        "timesteps_total -> num_env_steps_sampled_lifetime",
        "episode_reward_mean -> env_runners/episode_return_mean",
        "framework: tf2 -> torch",
        "horizon no longer means anything: limit episodes in the environment itself",
        "pass_criteria no longer means anything",
        "framestack no longer means anything",
    ):
        assert line in told
    assert "lambda" not in told


def test_the_old_stack_keeps_its_names(write):
    path = write("""
old:
  run: PPO
  env: CartPole-v1
  config:
    enable_rl_module_and_learner: false
    enable_env_runner_and_connector_v2: false
    num_gpus: 0
    lr_schedule: [[0, 0.001], [1000, 0.0]]
    model: {framestack: false}
""")
    config = load_one(path).config
    assert config["num_gpus"] == 0
    assert config["lr_schedule"] == [[0, 0.001], [1000, 0.0]]
    assert config["model"] == {"framestack": False}


@pytest.mark.parametrize(
    "stop",
    [
        "{episode_return_mean: 10}",
        "{env_runners/episode_return_mean: 10}",
        "{env_runners: {episode_return_mean: 10}}",
        "{episode_reward_mean: 10}",
        "{sampler_results/episode_reward_mean: 1e1}",
        "{env_runners/episode_reward_mean: 10}",
    ],
)
def test_every_spelling_of_the_return_is_one_criterion(write, stop):
    experiment = load_one(write(f"x: {{run: PPO, env: E-v0, stop: {stop}}}"))
    assert experiment.stop == {"env_runners/episode_return_mean": 10}


@pytest.mark.parametrize(
    ("given", "on_new_stack", "on_old_stack"),
    [
        ("timesteps_total", "num_env_steps_sampled_lifetime", "num_env_steps_sampled_lifetime"),
        ("info/num_steps_sampled", "num_env_steps_sampled_lifetime", "num_env_steps_sampled_lifetime"),
        (
            "info/num_env_steps_trained",
            "learners/__all_modules__/num_env_steps_trained_lifetime",
            "info/num_env_steps_trained",
        ),
        ("num_steps_trained", "learners/__all_modules__/num_env_steps_trained_lifetime", "num_env_steps_trained"),
        ("sampler_results/episode_len_mean", "env_runners/episode_len_mean", "env_runners/episode_len_mean"),
        ("evaluation/episode_reward_min", *["evaluation/env_runners/episode_return_min"] * 2),
    ],
)
def test_paths_of_old_results_are_those_of_todays(write, given, on_new_stack, on_old_stack):
    stop = f"stop: {{{given}: 7}}"
    assert load_one(write(f"x: {{run: PPO, env: E-v0, {stop}}}")).stop == {on_new_stack: 7}
    assert load_one(write(f"x: {{run: PPO, env: E-v0, {stop}, config: {OLD_STACK}}}")).stop == {on_old_stack: 7}
    assert Overrides(stop={given: 7}).apply(load_one(write("x: {run: PPO, env: E-v0}"))).stop == {on_new_stack: 7}


def test_a_path_that_no_result_has_is_refused(write):
    with pytest.raises(UsageError, match="stop: got the path 'sampler/steps', allowed are those that begin with env"):
        load_one(write("x: {run: PPO, env: E-v0, stop: {sampler/steps: 7}}"))
    with pytest.raises(UsageError, match="scheduler_config: metric: got the path 'info/reward', allowed are"):
        text = "x: {run: PPO, env: E-v0, scheduler: asha, scheduler_config: {metric: info/reward}}"
        Overrides().apply(load_one(write(text)))


@pytest.mark.parametrize(
    ("given", "order", "found"),
    [
        ("episode_return_mean", None, "env_runners/episode_return_mean"),
        ("min-episode_reward_mean", "min", "env_runners/episode_return_mean"),
        ("evaluation/episode_reward_mean", None, "evaluation/env_runners/episode_return_mean"),
        ("time_total_s", None, "time_total_s"),
    ],
)
def test_checkpoints_are_scored_by_any_spelling_of_a_metric(write, given, order, found):
    block = f"{{checkpoint_score_attribute: {given}}}"
    checkpoint = load_one(write(f"x: {{run: PPO, env: E-v0, checkpoint_config: {block}}}")).checkpoint
    assert (checkpoint["checkpoint_score_attribute"], checkpoint.get("checkpoint_score_order")) == (found, order)


def test_a_score_that_no_result_has_is_refused(write):
    with pytest.raises(UsageError, match="unknown metric 'episode_retrun_mean'"):
        load_one(write("x: {run: PPO, env: E, checkpoint_config: {checkpoint_score_attribute: episode_retrun_mean}}"))


def test_models_in_a_grid_are_translated(write):
    model = "{grid_search: [{post_fcnet_hiddens: [8]}, {custom_model: stpn}]}"
    config = load_one(write(f"x: {{run: PPO, env: E-v0, config: {{model: {model}}}}}")).config
    assert config["model"] == {"grid_search": [{"head_fcnet_hiddens": [8]}, {"custom_model": "stpn"}]}


@pytest.mark.parametrize("search", ["{grid_search: null}", "{choice: 3}"])
@pytest.mark.parametrize("block", ["model", "evaluation_config"])
def test_a_search_of_no_list_is_told(write, block, search):
    with pytest.raises(UsageError, match=f"{block}: .*: got .*, allowed is a list of values"):
        load_one(write(f"x: {{run: PPO, env: E-v0, config: {{{block}: {search}}}}}"))


def test_the_command_line_goes_over_the_file(cartpole):
    experiment = Overrides(
        name="other",
        stop={"timesteps_total": 5},
        config={"num_workers": 1, "model": {"fcnet_activation": "relu"}, "seed": 3},
        num_samples=2,
        checkpoint_frequency=4,
        storage_path="/tmp/x",
        env="Acrobot-v1",
    ).apply(load_one(cartpole))
    assert (experiment.name, experiment.num_samples, experiment.storage_path) == ("other", 2, "/tmp/x")
    assert experiment.stop == {"num_env_steps_sampled_lifetime": 5}
    assert experiment.config["num_env_runners"] == 1
    assert experiment.config["model"] == {"fcnet_hiddens": [8], "fcnet_activation": "relu"}
    assert experiment.config["seed"] == 3
    assert experiment.config["env"] == "Acrobot-v1"
    assert experiment.checkpoint["checkpoint_frequency"] == 4


def test_the_number_of_trials_is_grid_times_samples(write):
    experiment = load_one(
        write(
            "x: {run: PPO, env: E-v0, num_samples: 3, config: "
            "{lr: {grid_search: [1, 2]}, model: {fcnet_hiddens: {grid_search: [[8], [16]]}}}}"
        )
    )
    assert experiment.num_trials == 12


def test_settings_are_translated_wherever_they_stand(write):
    experiment = load_one(
        write("""
x:
  run: APPO
  env: {grid_search: [FrozenLake-v0, Taxi-v3]}
  scheduler: pbt
  scheduler_config:
    time_attr: timesteps_total
    metric: episode_reward_mean
    hyperparam_mutations:
      minibatch_buffer_size: [2, 4]
      num_sgd_iter: {randint: [1, 5]}
      lambda: {uniform: [0.8, 1.0]}
  config:
    framework: {grid_search: [tf2, torch]}
    vf_share_layers: true
    model: {grid_search: [{post_fcnet_hiddens: [8]}, {free_log_std: true}]}
    replay_buffer_config: {choice: [{type: ReplayBuffer, capacity: 5}, {capacity: 7}]}
    evaluation_config: {choice: [{num_envs_per_worker: 1, env: LunarLander-v2}, null]}
    algorithm_config_overrides_per_module: {first: {num_sgd_iter: 2, lr_schedule: [[0, 0.1], [5, 0.2]], lr: 3}}
""")
    )
    experiment = Overrides(config={"evaluation_num_workers": 1}).apply(experiment)
    assert experiment.config == {
        "env": {"grid_search": ["FrozenLake-v1", "Taxi-v3"]},
        "framework_str": {"grid_search": ["torch", "torch"]},
        "model": {
            "grid_search": [
                {"head_fcnet_hiddens": [8], "vf_share_layers": True},
                {"free_log_std": True, "vf_share_layers": True},
            ]
        },
        "replay_buffer_config": {"choice": [{"type": "EpisodeReplayBuffer", "capacity": 5}, {"capacity": 7}]},
        "evaluation_config": {"choice": [{"num_envs_per_env_runner": 1, "env": "LunarLander-v3"}, None]},
        "algorithm_config_overrides_per_module": {"first": {"num_epochs": 2, "lr": [[0, 0.1], [5, 0.2]]}},
        "evaluation_num_env_runners": 1,
    }
    assert experiment.scheduler_config == {
        "time_attr": "num_env_steps_sampled_lifetime",
        "metric": "env_runners/episode_return_mean",
        "hyperparam_mutations": {
            "circular_buffer_num_batches": [2, 4],
            "num_epochs": {"randint": [1, 5]},
            "lambda_": {"uniform": [0.8, 1.0]},
        },
    }
    assert any("hyperparam_mutations: num_sgd_iter -> num_epochs" in note for note in experiment.notes)


def test_the_command_lines_algorithm_and_stack_decide_what_names_mean(write):
    text = "x: {run: PPO, env: E-v0, config: {num_gpus: 0, minibatch_buffer_size: 3, model: {post_fcnet_hiddens: [8]}}}"
    other = Overrides(run="APPO").apply(load_one(write(text)))
    assert other.config["circular_buffer_num_batches"] == 3
    old = Overrides(config=yaml.safe_load(OLD_STACK)).apply(load_one(write(text)))
    assert (old.config["num_gpus"], old.config["model"]) == (0, {"post_fcnet_hiddens": [8]})
    assert not any("num_gpus" in note for note in old.notes)


@pytest.mark.parametrize(
    ("given", "today"),
    [
        ("Pendulum-v0", "Pendulum-v1"),
        ("BipedalWalker-v2", "BipedalWalker-v3"),
        ("HalfCheetah-v3", "HalfCheetah-v4"),
        ("MountainCarContinuous-v0", "MountainCarContinuous-v0"),
        ("CartPole-v9", "CartPole-v9"),
        ("stpn/Maze-v0", "stpn/Maze-v0"),
    ],
)
def test_ids_whose_version_is_gone_are_the_next_one(write, given, today):
    text = f"x: {{run: PPO, env: {given}, config: {{evaluation_config: {{env: {given}}}}}}}"
    experiment = Overrides().apply(load_one(write(text)))
    assert experiment.config == {"env": today, "evaluation_config": {"env": today}}
    assert Overrides().apply(loading.from_flags("PPO", given)).config["env"] == given
    assert Overrides(env=given).apply(loading.from_flags("PPO", given)).config["env"] == today


MISTAKES = {
    "no-yaml": ("a: [1\nb: 2", ["line 2", "not YAML"]),
    "tab": ("a:\n\t- 1", ["line 2", "not YAML"]),
    "python-object": ("a: !!python/object/apply:os.system [echo]", ["not YAML", "python/object"]),
    "empty": ("", ["allowed is a mapping of experiment names", "nothing"]),
    "a-list": ("- a\n- b", ["allowed is a mapping of experiment names", "a list"]),
    "no-experiment-name": ("run: PPO\nenv: CartPole-v1", ["'run' stands at the top"]),
    "a-slash-in-the-name": ("a/b: {run: PPO, env: E-v0}", ["name of a directory", "'a/b'"]),
    "experiment-no-mapping": ("x: 3", ["x", "allowed is a mapping", "3"]),
    "no-run": ("x: {env: E-v0}", ["x: 'run' is missing"]),
    "no-env": ("x: {run: PPO}", ["x: 'env' is missing"]),
    "run-a-number": ("x: {run: 3, env: E-v0}", ["run", "3"]),
    "two-envs": ("x: {run: PPO, env: E-v0, config: {env: F-v0}}", ["env is given twice", "'F-v0'"]),
    "unknown-key": ("x: {run: PPO, env: E-v0, stopp: {}}", ["unknown key 'stopp'", "did you mean stop"]),
    "config-a-list": ("x: {run: PPO, env: E-v0, config: [1]}", ["config", "allowed is a mapping", "a list"]),
    "stop-a-number": ("x: {run: PPO, env: E-v0, stop: 5}", ["stop", "allowed is a mapping", "5"]),
    "stop-unknown": (
        "x: {run: PPO, env: E-v0, stop: {episode_retrun_mean: 5}}",
        ["stop", "episode_return_mean"],
    ),
    "stop-no-number": (
        "x: {run: PPO, env: E-v0, stop: {training_iteration: soon}}",
        ["allowed is a number", "'soon'"],
    ),
    "stop-true": (
        "x: {run: PPO, env: E-v0, stop: {training_iteration: true}}",
        ["allowed is a number", "True"],
    ),
    "grid-empty": (
        "x: {run: PPO, env: E-v0, config: {lr: {grid_search: []}}}",
        ["lr", "grid_search", "list"],
    ),
    "grid-no-list": ("x: {run: PPO, env: E-v0, config: {lr: {grid_search: 3}}}", ["lr", "grid_search", "3"]),
    "grid-not-alone": (
        "x: {run: PPO, env: E-v0, config: {lr: {grid_search: [1], log: 3}}}",
        ["lr", "beside grid_search, allowed is grid_search alone", "log"],
    ),
    "both-names": (
        "x: {run: PPO, env: E-v0, config: {num_workers: 1, num_env_runners: 2}}",
        ["'num_workers' is the old name of 'num_env_runners'"],
    ),
    "num-samples": ("x: {run: PPO, env: E-v0, num_samples: many}", ["num_samples", "whole number", "'many'"]),
    "num-samples-0": ("x: {run: PPO, env: E-v0, num_samples: 0}", ["num_samples", "at least 1", "0"]),
    "checkpoint-key": (
        "x: {run: PPO, env: E-v0, checkpoint_config: {frequency: 1}}",
        ["checkpoint_config", "'frequency'", "checkpoint_frequency"],
    ),
    "checkpoint-value": (
        "x: {run: PPO, env: E-v0, checkpoint_config: {checkpoint_at_end: 1}}",
        ["checkpoint_at_end", "true or false", "1"],
    ),
    "storage-a-number": ("x: {run: PPO, env: E-v0, storage_path: 3}", ["storage_path", "3"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named_with_the_file(write, mistake):
    text, parts = MISTAKES[mistake]
    path = write(text)
    with pytest.raises(UsageError) as error:
        for experiment in loading.load(path):
            Overrides().apply(experiment)
    for part in (str(path), *parts):
        assert part in str(error.value)


def test_a_missing_file_names_its_neighbour(cartpole):
    with pytest.raises(UsageError, match=r"cart_pole\.yaml: no such file; did you mean .*cartpole\.yaml\?"):
        loading.load(cartpole.with_name("cart_pole.yaml"))


def test_a_directory_is_no_file(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        loading.load(tmp_path)


def test_a_binary_file_is_no_yaml(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UsageError, match="not a text file"):
        loading.load(path)


def test_a_search_inside_a_setting_of_a_python_file_is_found(write):
    path = write(
        "from ray import tune\n"
        "from ray.rllib.algorithms.ppo import PPOConfig\n"
        'config = PPOConfig().environment("E-v0", env_config={"size": tune.grid_search([5, 9]), "reward": 1})\n',
        "search.py",
    )
    assert load_one(path).config["env_config"] == {"size": {"grid_search": [5, 9]}, "reward": 1}
    path.write_text(path.read_text() + 'config.rl_module(model_config={"fcnet_hiddens": tune.grid_search([[8], [9]])})')
    with pytest.raises(UsageError, match="model_config: a search in it goes into --config"):
        load_one(path)
