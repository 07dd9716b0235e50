"""Episodes that our env runner records, and what BC and MARWIL learn from them."""

import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.algorithms.bc import BCConfig
from ray.rllib.algorithms.marwil import MARWILConfig
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.spaces.space_utils import batch as batch_of

import rllib_stpn
from rllib_stpn.algorithms.whole_episodes import WholeEpisodes
from rllib_stpn.cli.main import main
from rllib_stpn.errors import UsageError
from rllib_stpn.experiments.building import build_config
from rllib_stpn.models import recurrent_spec
from rllib_stpn.rollouts import RecordingEnvRunner

STPN = {"custom_model": "stpn", "custom_model_config": {"hidden_size": 4}, "max_seq_len": 5}
OBSERVATIONS, ACTIONS = gym.spaces.Box(-9.0, 99.0, (1,), np.float32), gym.spaces.Discrete(2)


def recorded(folder):
    """The episodes in a folder, in the order of the files."""
    msgpack, numpy_in_msgpack = pytest.importorskip("msgpack"), pytest.importorskip("msgpack_numpy")
    parquet = pytest.importorskip("pyarrow.parquet")
    return [
        SingleAgentEpisode.from_state(msgpack.unpackb(packed, object_hook=numpy_in_msgpack.decode))
        for file in sorted(folder.rglob("*.parquet"))
        for packed in parquet.read_table(file)["item"].to_pylist()
    ]


def runner_on(folder, **settings):
    config = build_config("PPO", {"env": "CartPole-v1", "num_env_runners": 0, "output": str(folder), **settings})
    return RecordingEnvRunner(config=config, worker_index=0)


def test_every_episode_is_recorded_once_as_it_was_and_without_states(tmp_path):
    pytest.importorskip("msgpack_numpy")
    runner = runner_on(tmp_path, num_envs_per_env_runner=2, env_runner_cls="single_agent", model=STPN)
    sampled = [*runner.sample(num_episodes=3, explore=True), *runner.sample(num_episodes=2, explore=True)]
    runner.stop()
    read = recorded(tmp_path)
    assert [episode.id_ for episode in read] == [episode.id_ for episode in sampled]
    for one, other in zip(sampled, read, strict=True):
        assert other.is_done and "state_out" not in other.extra_model_outputs
        np.testing.assert_array_equal(np.stack(one.get_observations()), np.stack(other.get_observations()))
        np.testing.assert_array_equal(np.stack(one.get_actions()), np.stack(other.get_actions()))
        np.testing.assert_array_equal(one.get_rewards(), other.get_rewards())


@pytest.mark.parametrize("rest, files, episodes", [(False, 2, 4), (True, 3, 5)])
def test_a_file_has_as_many_episodes_as_asked_for(rest, files, episodes, tmp_path):
    pytest.importorskip("msgpack_numpy")
    settings = {"output_max_rows_per_file": 2, "output_write_remaining_data": rest, "model": {"fcnet_hiddens": [4]}}
    runner = runner_on(tmp_path, num_envs_per_env_runner=1, **settings)
    for number in (3, 2):
        runner.sample(num_episodes=number, explore=True)
    runner.stop()
    assert len(list(tmp_path.rglob("*.parquet"))) == files
    assert len({episode.id_ for episode in recorded(tmp_path)}) == episodes


def made_by(config, worker_index=0):
    """Samples two episodes with a runner object of their own, as each process of a run has one, and gives their ids."""
    runner = config.env_runner_cls(config=config, worker_index=worker_index)
    ids = [episode.id_ for episode in runner.sample(num_episodes=2, explore=True)]
    runner.stop()
    return ids


@pytest.mark.parametrize("seed", [None, 3])
def test_a_recording_keeps_what_other_runners_wrote_there(seed, tmp_path):
    pytest.importorskip("msgpack_numpy")
    settings = {"num_envs_per_env_runner": 1, "seed": seed, "model": {"fcnet_hiddens": [4]}}
    config = build_config("PPO", {"env": "CartPole-v1", "num_env_runners": 0, "output": str(tmp_path), **settings})
    sampled = [id_ for worker_index in (0, 0, 1, 1) for id_ in made_by(config, worker_index)]
    assert sorted(episode.id_ for episode in recorded(tmp_path)) == sorted(sampled)


def test_evaluation_is_not_recorded(tmp_path):
    pytest.importorskip("msgpack_numpy")
    settings = {"output": str(tmp_path), "evaluation_interval": 1, "model": {"fcnet_hiddens": [4]}}
    config = build_config("PPO", {"env": "CartPole-v1", "num_env_runners": 0, **settings})
    made_by(config.get_evaluation_config_object())
    assert not list(tmp_path.rglob("*.parquet"))


def test_recordings_by_the_names_of_earlier_versions_are_read_with_new_ones(tmp_path):
    pytest.importorskip("msgpack_numpy")
    runner = runner_on(tmp_path, num_envs_per_env_runner=1, model={"fcnet_hiddens": [4]})
    for _ in range(2):
        runner.sample(num_episodes=1, explore=True)
    runner.stop()
    first, _ = sorted(tmp_path.glob("*/run-*"))
    first.rename(first.with_name("run-000000-00001"))
    config = build_config("BC", {"env": "CartPole-v1", "input_": str(tmp_path), "model": STPN})
    assert config.input_read_episodes and config.prelearner_class is WholeEpisodes
    (old, new) = recorded(tmp_path)
    assert old.id_ != new.id_


def episode_of(number, steps):
    """An episode whose observations tell its number and step."""
    return SingleAgentEpisode(
        id_=str(number),
        observations=[np.array([10 * number + t], np.float32) for t in range(steps + 1)],
        actions=[t % 2 for t in range(steps)],
        rewards=[1.0] * steps,
        infos=[{}] * (steps + 1),
        terminated=True,
        extra_model_outputs={"state_out": [{"h": np.ones(3)}] * steps},  # of another model
        len_lookback_buffer=0,
    )


def mapped(algorithm, layer, burn_in, episodes, **training):
    """The module's batch that a prelearner makes of episodes."""
    config = algorithm().environment(observation_space=OBSERVATIONS, action_space=ACTIONS)
    config.rl_module(rl_module_spec=recurrent_spec(layer, hidden_size=4, max_seq_len=5))
    config.offline_data(input_read_episodes=True)
    config.training(**training)
    config.learner_config_dict = {"burnin_len": burn_in}
    spaces = (OBSERVATIONS, ACTIONS)
    config.rl_module(rl_module_spec=config.get_multi_rl_module_spec(spaces={"default_policy": spaces}))
    prelearner = WholeEpisodes(config=config, spaces=spaces)
    msgpack, numpy_in_msgpack = pytest.importorskip("msgpack"), pytest.importorskip("msgpack_numpy")
    packed = [msgpack.packb(episode.get_state(), default=numpy_in_msgpack.encode) for episode in episodes]
    columns = prelearner({"item": packed})
    return {name.removeprefix("default_policy/"): np.asarray(value) for name, value in columns.items()}


@pytest.mark.parametrize("burn_in", [0, 2, 4])
def test_each_step_counts_once_after_a_burn_in_or_from_the_start_of_its_episode(burn_in):
    batch = mapped(BCConfig, "stpn", burn_in, [episode_of(1, 7), episode_of(2, 3), episode_of(3, 6), episode_of(1, 7)])
    mask, seen = batch["loss_mask"], batch["obs"][..., 0]
    counted = sorted(seen[mask].tolist())
    assert counted == [*range(10, 17), *range(20, 23), *range(30, 36)]
    for row, its_mask in zip(seen, mask, strict=True):
        first = int(its_mask.argmax())
        assert first == (0 if row[0] % 10 == 0 else burn_in)
        np.testing.assert_array_equal(np.diff(row[: first + its_mask.sum()]), 1.0)
    assert all((leaf == 0).all() for name, leaf in batch.items() if name.startswith("state_in"))


@pytest.mark.parametrize("algorithm", [BCConfig, MARWILConfig])
@pytest.mark.parametrize(
    "steps, allowed",
    [
        (5, "less than max_seq_len, 5"),
        (8, "less than"),
        (-1, "a whole number of at least 0"),
        (1.5, "a whole number"),
        (True, "a whole number"),
    ],
)
def test_a_burn_in_that_leaves_no_step_to_learn_from_is_refused(algorithm, steps, allowed):
    for burn_in, training in ((steps, {}), (0, {"burnin_len": steps})):
        with pytest.raises(UsageError, match=f"burnin_len: got {steps}, allowed is {allowed}"):
            mapped(algorithm, "stpn", burn_in, [], **training)


def test_without_memory_each_step_counts_once():
    batch = mapped(BCConfig, "mlp", 2, [episode_of(1, 7), episode_of(2, 3)])
    assert sorted(batch["obs"][:, 0].tolist()) == [*range(10, 17), *range(20, 23)]


def test_marwil_gets_the_returns_of_whole_episodes():
    batch = mapped(MARWILConfig, "gru", 0, [episode_of(1, 7), episode_of(2, 3)])
    steps, counted = batch["obs"][..., 0][batch["loss_mask"]], batch["value_targets"][batch["loss_mask"]]
    left = {1: 7, 2: 3}
    expected = [(1 - 0.99 ** (left[step // 10] - step % 10)) / 0.01 for step in steps.astype(int)]
    np.testing.assert_allclose(counted, expected, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("evaluates", [False, True], ids=["no_evaluation", "evaluation"])
@pytest.mark.parametrize("run", ["BC", "MARWIL"])
def test_it_learns_from_a_recording_and_is_loaded(run, evaluates, ray_session, tmp_path):
    pytest.importorskip("msgpack_numpy")
    runner = runner_on(tmp_path / "recording", num_envs_per_env_runner=2, env_runner_cls="single_agent", model=STPN)
    runner.sample(num_episodes=20, explore=True)
    runner.stop()
    settings = {"input": str(tmp_path / "recording"), "train_batch_size": 40, "burnin_len": 2, "model": STPN}
    if evaluates:
        settings |= {"evaluation_interval": 1, "evaluation_duration": 1, "evaluation_num_env_runners": 0}
    options = ["--config", json.dumps(settings), "--stop", '{"training_iteration": 2}', "--local-dir", str(tmp_path)]
    assert main(["train", "--run", run, "--env", "CartPole-v1", *options]) == 0
    (results,) = tmp_path.rglob("result.json")
    assert np.isfinite(json.loads(results.read_text().splitlines()[-1])["learners"]["default_policy"]["policy_loss"])
    agent = rllib_stpn.load(results.parent)
    actions, state = agent.step(batch_of([np.zeros(4, np.float32)] * 3))
    assert actions.shape == (3,) and all(torch.isfinite(leaf).all() for leaf in state.values())
    assert len(rllib_stpn.evaluate(agent, episodes=2).returns) == 2
