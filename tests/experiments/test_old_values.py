"""Settings of old whose meaning depends on several, and keys of Tune's. No Ray cluster."""

import pytest
from ray.rllib.algorithms.registry import ALGORITHMS

from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import never_read, ranges
from rllib_stpn.experiments.building import algorithm_class, default_config
from rllib_stpn.experiments.loading import from_flags, load
from rllib_stpn.experiments.old import keys as old_keys
from rllib_stpn.experiments.old.names import translate_config
from rllib_stpn.experiments.overrides import Overrides
from rllib_stpn.experiments.validation import check
from tests.experiments.of_settings import experiment_of


def translated(run="DQN", **config):
    config, notes = translate_config("x", config, run)
    return config, [note.removeprefix("x: ") for note in notes]


def test_the_exploration_of_2018_is_a_schedule_with_its_defaults():
    config, (note,) = translated(schedule_max_timesteps="2e5", exploration_final_eps=0.1)
    assert config == {"epsilon": [[0, 1.0], [20_000, 0.1]]}
    assert note == "schedule_max_timesteps, exploration_final_eps -> epsilon: [[0, 1.0], [20000, 0.1]]"
    assert translated(exploration_fraction=0)[0] == {"epsilon": [[0, 1.0], [1, 0.02]]}
    with pytest.raises(UsageError, match=r"x: exploration_fraction: epsilon: .* takes their place"):
        translated(exploration_fraction={"grid_search": [0.1, 0.2]})


def test_hidden_layers_of_q_are_those_of_the_heads():
    assert translated(hiddens=[64], model={"fcnet_hiddens": [8]})[0] == {
        "model": {"fcnet_hiddens": [8], "head_fcnet_hiddens": [64]}
    }
    assert translated("SAC", hiddens=[64])[0] == {"hiddens": [64]}


def test_sacs_networks_are_the_model_where_they_are_alike():
    alike = {"fcnet_hiddens": [8], "fcnet_activation": "tanh", "custom_model": None}
    config, notes = translated("SAC", Q_model=alike, policy_model=alike)
    assert config == {"model": {"fcnet_hiddens": [8], "fcnet_activation": "tanh"}}
    assert notes[-1].startswith("q_model_config, policy_model_config -> model:")
    for other in ({"fcnet_hiddens": [9]}, {**alike, "conv_filters": [[8, 4, 2]]}, {"fcnet_hiddens": {"choice": [[8]]}}):
        config, _ = translated("SAC", q_model_config=alike, policy_model_config=other)
        assert "model" not in config
        experiment = experiment_of("SAC", "Pendulum-v1", **config)
        assert [told.split(" has")[0].split(": ")[-1] for told in check(experiment).notes] == [
            "q_model_config",
            "policy_model_config",
        ]


def test_fragments_that_make_no_train_batch_are_as_long_as_they_must_be():
    sizes = {"train_batch_size": 1000, "num_workers": 2, "num_envs_per_worker": 3}
    config, notes = translated("PPO", **sizes, rollout_fragment_length=200)
    assert config["rollout_fragment_length"] == "auto"
    assert notes[-1].startswith("rollout_fragment_length: 200 -> auto: fragments of 2 x 3 environments make no train")
    for length in (80, 84, 150, 170, 180):  # those that RLlib takes stay
        config, _ = translated("PPO", **sizes, rollout_fragment_length=length)
        check(experiment_of("PPO", "CartPole-v1", **config))
        assert (config["rollout_fragment_length"] == length) is (length in (84, 170, 180))
    assert translated("APPO", **sizes, rollout_fragment_length=200)[0]["rollout_fragment_length"] == 200
    today = {"num_env_runners": 2, "num_envs_per_env_runner": 3, "train_batch_size": 1000, "lambda": 0.95}
    assert translated("PPO", **today, rollout_fragment_length=200)[0]["rollout_fragment_length"] == "auto"


def test_a2c_tells_what_its_loss_as_a_mean_means_for_settings_of_old():
    old = {"num_workers": 2, "grad_clip": 40.0, "vf_loss_coeff": 0.5}
    config, notes = translated("A2C", **old)
    assert config == {"num_env_runners": 2, "grad_clip": 40.0, "vf_loss_coeff": 0.5}
    renamed, of_the_clip, of_the_value = notes
    assert "for the same, divide it by the steps of a batch" in of_the_clip
    assert "for the same, halve it" in of_the_value
    assert translated("A2C", num_workers=2, grad_clip=None)[1] == [renamed]
    assert translated("PPO", **old)[1] == [renamed]
    today = {"num_env_runners": 2, "callbacks": "energy", "lambda": 0.9, "grad_clip": 40.0, "vf_loss_coeff": 0.5}
    assert translated("A2C", **today)[1] == []


def test_what_stands_in_a_replay_buffer_is_moved_out_of_a_search_where_it_is_one():
    def search(*starts):
        return {"grid_search": [{"type": "ReplayBuffer", "learning_starts": n, "capacity": 10 * n} for n in starts]}

    config, notes = translated(replay_buffer_config=search(50, 50))
    assert config["num_steps_sampled_before_learning_starts"] == 50
    kept = {"type": "EpisodeReplayBuffer", "capacity": 500}
    assert config["replay_buffer_config"] == {"grid_search": [kept, kept]}
    assert "replay_buffer_config.learning_starts -> num_steps_sampled_before_learning_starts" in notes
    with pytest.raises(UsageError, match="x: replay_buffer_config: learning_starts is num_steps_.* cannot differ"):
        translated(replay_buffer_config=search(50, 60))


@pytest.mark.parametrize("run", sorted({*ALGORITHMS, "A2C"}))
def test_what_rllib_has_deprecated_is_dropped_and_named_whatever_its_value(run):
    for key in never_read.deprecated(default_config(run)):
        for value in (True, "auto", 3, {"grid_search": [1, 2]}):
            settings = {"lr": 0.1, key: value, "evaluation_config": {key: value, "explore": False}}
            kept, notes = never_read.without_deprecated("x", settings, run)
            assert kept == {"lr": 0.1, "evaluation_config": {"explore": False}}
            assert [note.split(" no longer")[0] for note in notes] == [f"x: {key}", f"x.evaluation_config: {key}"]


@pytest.mark.parametrize("run", sorted({*ALGORITHMS, "A2C"}))
def test_a_default_of_auto_may_be_a_number_or_a_switch(run):
    automatic = {key for key, value in vars(default_config(run)).items() if value == "auto"}
    assert automatic <= set(ranges.AUTO)


def test_an_entropy_is_auto_or_a_number():
    for given, taken in (("auto", "auto"), (-1.5, -1.5), ("1e-1", 0.1), ({"grid_search": ["auto", 2]},) * 2):
        checked = check(experiment_of("SAC", "Pendulum-v1", target_entropy=given))
        assert checked.config["target_entropy"] == taken
    with pytest.raises(UsageError, match="target_entropy: got 'automatic', allowed is a number or auto"):
        check(experiment_of("SAC", "Pendulum-v1", target_entropy="automatic"))


def test_hints_are_no_keys_that_are_gone():
    for key in ("buffer_sizes", "monitors", "prioritized_repla", "env_task_fun"):
        with pytest.raises(UsageError, match=f"unknown key '{key}'") as error:
            check(experiment_of("PPO", "CartPole-v1", **{key: 1}))
        hints = set(str(error.value).partition("did you mean ")[2].rstrip("?").split(" or "))
        assert not hints & never_read.deprecated(default_config("PPO"))


@pytest.mark.parametrize(
    ("env", "told"),
    [("Humanoid-v9", "exists"), ("CartPole-v7", "latest"), ("stpn/Maze-v7", "exists"), ("stpn_envs:stpn/Pon-v0", "")],
)
def test_of_hints_there_is_one_and_nothing_twice(env, told):
    experiment = from_flags("PPO", env)
    with pytest.raises(UsageError) as error:
        check(experiment)
    text = str(error.value).lower()
    assert text.count("did you mean") + text.count("instead") <= 1
    offered = text.partition("did you mean ")[2].rstrip("?").split(" or ")
    assert len(offered) == len(set(offered))


@pytest.mark.parametrize("run", ["contrib/MADDPG", "contrib/AlphaZero", "contrib/Whatever"])
def test_algorithms_of_contributors_are_dropped(run):
    with pytest.raises(UsageError, match=f"unknown algorithm '{run}': RLlib has dropped it"):
        algorithm_class(run)


@pytest.mark.parametrize("key", sorted(old_keys.DROPPED))
def test_keys_of_tune_are_named(write, key):
    (experiment,) = load(write(f"x: {{run: PPO, env: E-v0, {key}: 1}}"))
    (note,) = experiment.notes
    assert f"{key} no longer means anything" in note


def test_repeat_is_the_number_of_samples(write):
    (experiment,) = load(write("x: {run: PPO, env: E-v0, repeat: 3}"))
    assert experiment.num_samples == 3


@pytest.mark.parametrize(
    ("given", "today"),
    [("AsyncHyperBand", "asha"), ("async_hyperband", "asha"), ("PopulationBasedTraining", "pbt"), ("FIFO", "fifo")],
)
def test_schedulers_by_tunes_names(write, given, today):
    (experiment,) = load(write(f"x: {{run: PPO, env: E-v0, scheduler: {given}}}"))
    assert experiment.scheduler == today
    assert Overrides(scheduler=given).apply(from_flags("PPO", "E-v0")).scheduler == today
    assert any(f"{given} -> {today}" in note for note in experiment.notes) is (given != "FIFO")


@pytest.mark.parametrize("text", ["lr: 0.1\nnum_workers: 2", "run: PPO\nenv: E-v0", "stop: 3", "monitor: true\nx: {}"])
def test_settings_at_the_top_are_no_experiments(write, text):
    with pytest.raises(UsageError, match="stands at the top, where the experiment's name belongs: NAME: {run: "):
        load(write(text))


def test_an_env_may_come_from_the_command_line_and_has_to_come(write):
    for text in ("x: {run: PPO}", "x: {run: PPO, env: }"):
        (experiment,) = load(write(text))
        assert Overrides(env="E-v0").apply(experiment).config["env"] == "E-v0"
        with pytest.raises(UsageError, match="x: ('env' is missing|env: got .*, allowed is the id of an environment)"):
            Overrides().apply(experiment)
