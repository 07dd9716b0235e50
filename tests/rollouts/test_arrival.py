"""What env runners in processes of their own have after a checkpoint was restored, and before an evaluation."""

import contextlib
import functools
import time

import numpy as np
import pytest
import ray
from ray.rllib.algorithms.appo import APPOConfig
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.algorithms.impala import IMPALAConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE
from ray.rllib.examples.envs.classes.multi_agent import MultiAgentCartPole

from rllib_stpn.algorithms import A2CConfig
from rllib_stpn.experiments.trial import trial_class
from rllib_stpn.models import recurrent_spec
from rllib_stpn.rollouts import EpisodeEnvRunner, MeanStdFilter, telling_failures, use_batched_rollouts

pytestmark = pytest.mark.usefixtures("ray_session")

CONFIGS = {"PPO": PPOConfig, "A2C": A2CConfig, "DQN": DQNConfig, "IMPALA": IMPALAConfig, "APPO": APPOConfig}
LONGEST = 500
"""Steps of CartPole's longest episode."""


def make_config(run="PPO", kind="batched", runners=1):
    config = (
        CONFIGS[run]()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=runners, rollout_fragment_length=20)
        .reporting(min_time_s_per_iteration=0)
        .learners(num_learners=0)
        .training(lr=0.1, train_batch_size_per_learner=20)
    )
    if run == "PPO":
        config.training(minibatch_size=20, num_epochs=1)
    if run == "DQN":
        config.training(num_steps_sampled_before_learning_starts=20).reporting(min_sample_timesteps_per_iteration=40)
    if kind == "batched":
        config.rl_module(rl_module_spec=recurrent_spec("mlp", hidden_size=4))
        return config if run == "A2C" else use_batched_rollouts(config)
    if kind == "several agents":
        config.environment(MultiAgentCartPole, env_config={"num_agents": 2})
        config.multi_agent(policies={"a", "b"}, policy_mapping_fn=lambda agent, *_, **__: "ab"[agent])
    elif run != "DQN":
        config.env_runners(env_runner_cls=EpisodeEnvRunner)
    return telling_failures(config.rl_module(model_config={"fcnet_hiddens": [4]}))


@contextlib.contextmanager
def a_state_on_its_way(group, gate):
    """Within, an earlier state reaches the env runners as soon as somebody waits for them, and not before."""
    group.fetch_ready_async_reqs(tags="set_state", timeout_seconds=None)
    group.foreach_env_runner_async(functools.partial(waits_for, gate), tag="set_state")
    fetch = group._worker_manager._fetch_result

    def fetch_result(*, timeout_seconds=None, **kwargs):
        if timeout_seconds != 0:
            gate.touch()
        return fetch(timeout_seconds=timeout_seconds, **kwargs)

    group._worker_manager._fetch_result = fetch_result
    try:
        yield
    finally:
        gate.touch()
        group._worker_manager._fetch_result = fetch


@contextlib.contextmanager
def one_before_the_weights(group, gate, monkeypatch):
    """Within, an earlier state is on its way whenever weights are to be sent."""
    sync = group.sync_weights

    def sync_weights(*args, **kwargs):
        with a_state_on_its_way(group, gate):
            sync(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(group, "sync_weights", sync_weights)
        yield
    assert gate.exists()


def waits_for(gate, runner):
    while not gate.exists():
        time.sleep(0.01)


def plays_otherwise(runner):
    runner.module.set_state({name: weights_plus_one(value) for name, value in runner.module.get_state().items()})


def weights_plus_one(value):
    return {name: each + 1 for name, each in value.items()} if isinstance(value, dict) else value + 1


def of_learner(algorithm):
    state = algorithm.learner_group.get_state(
        components=f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}", inference_only=True
    )
    return flat(state[COMPONENT_LEARNER][COMPONENT_RL_MODULE])


def of_runners(group):
    return [flat(state) for state in group.foreach_env_runner(lambda runner: runner.module.get_state())]


def flat(state):
    """Weights by name; those of one agent are with or without their module's."""
    found = {}
    for name, value in state.items():
        of_name = {f"{name}.{key}": each for key, each in value.items()} if isinstance(value, dict) else {name: value}
        found |= {key.removeprefix("default_policy."): np.asarray(each) for key, each in of_name.items()}
    return found


def assert_all_play(group, weights):
    for found in of_runners(group):
        assert found.keys() <= weights.keys()
        for name, value in found.items():
            np.testing.assert_array_equal(value, weights[name])


def pushes(runner):
    (stats,) = runner.get_state()["env_to_module_connector"]["MeanStdFilter"][None]["running_stats"]
    return stats["num_pushes"]


def filtered(config):
    return config.env_runners(env_to_module_connector=lambda env, spaces, device: MeanStdFilter())


@pytest.mark.parametrize(
    "run, kind",
    [
        ("PPO", "batched"),
        ("PPO", "episodes"),
        ("PPO", "several agents"),
        ("A2C", "batched"),
        ("DQN", "episodes"),
        ("IMPALA", "episodes"),
        ("APPO", "episodes"),
    ],
)
def test_remote_env_runners_play_a_checkpoints_weights_at_once(build, tmp_path, monkeypatch, run, kind):
    """Also where the weights that they were built with are still on their way, for which RLlib drops the others."""
    algorithm = build(make_config(run, kind))
    algorithm.save_to_path(tmp_path / "checkpoint")
    algorithm.env_runner_group.foreach_env_runner(plays_otherwise)
    with one_before_the_weights(algorithm.env_runner_group, tmp_path / "gate", monkeypatch):
        algorithm.restore_from_path(tmp_path / "checkpoint")
    assert_all_play(algorithm.env_runner_group, of_learner(algorithm))


def test_a_trial_that_tune_restores_plays_its_checkpoints_weights_at_once(tmp_path, monkeypatch):
    settings = {
        "env": "CartPole-v1",
        "num_env_runners": 2,
        "train_batch_size": 40,
        "minibatch_size": 20,
        "num_epochs": 1,
        "model": {"fcnet_hiddens": [4]},
    }
    trial = trial_class("PPO")(settings)
    try:
        trial.save(str(tmp_path / "checkpoint"))
        trial.env_runner_group.foreach_env_runner(plays_otherwise)
        with one_before_the_weights(trial.env_runner_group, tmp_path / "gate", monkeypatch):
            trial.restore(str(tmp_path / "checkpoint"))
        assert_all_play(trial.env_runner_group, of_learner(trial))
    finally:
        trial.stop()


@pytest.mark.parametrize("runners", [0, 1])
@pytest.mark.parametrize("restore", ["restore_from_path", "set_state"])
def test_an_algorithm_that_goes_back_to_an_earlier_checkpoint_plays_its_weights_at_once(
    build, tmp_path, runners, restore
):
    """RLlib's env runners pass over weights that have had fewer updates than theirs."""
    algorithm = build(filtered(make_config(runners=runners)))
    algorithm.train()
    earlier = {"restore_from_path": tmp_path, "set_state": algorithm.get_state()}
    algorithm.save_to_path(tmp_path)
    weights, seen = of_learner(algorithm), pushes(algorithm.env_runner)
    for _ in range(2):
        algorithm.train()
    getattr(algorithm, restore)(earlier[restore])
    assert_all_play(algorithm.env_runner_group, weights)
    assert algorithm.env_runner_group.foreach_env_runner(pushes) == [seen] * (1 + runners)
    algorithm.train()
    assert_all_play(algorithm.env_runner_group, of_learner(algorithm))


def test_async_env_runners_that_go_back_to_an_earlier_checkpoint_get_no_later_weights(build, tmp_path):
    algorithm = build(make_config("APPO", "episodes"))
    server = getattr(algorithm, "_env_runner_state_server", None)
    if server is None:
        pytest.skip("this Ray's env runners do not ask for weights themselves")
    algorithm.save_to_path(tmp_path)
    while ray.get(server.get_version.remote()) < 1:
        algorithm.train()
    algorithm.restore_from_path(tmp_path)
    algorithm.env_runner_group.foreach_env_runner("sample", local_env_runner=False)
    assert_all_play(algorithm.env_runner_group, of_learner(algorithm))


@pytest.mark.parametrize("kind", ["batched", "episodes"])
@pytest.mark.parametrize("runners, of_evaluation", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_evaluation_filters_with_what_training_has_seen_up_to_now(build, tmp_path, kind, runners, of_evaluation):
    config = filtered(make_config(kind=kind, runners=runners))
    config.training(train_batch_size_per_learner=LONGEST + 100, minibatch_size=LONGEST + 100)
    config.evaluation(evaluation_interval=1, evaluation_duration=1, evaluation_num_env_runners=of_evaluation)
    algorithm = build(config)
    group = algorithm.eval_env_runner_group
    with a_state_on_its_way(group, tmp_path / "gate") if of_evaluation else contextlib.nullcontext():
        sampled = algorithm.train()["num_env_steps_sampled_lifetime"]
    training = pushes(algorithm.env_runner)
    assert training > LONGEST
    for evaluation in group.foreach_env_runner(pushes, local_env_runner=not of_evaluation):
        assert training < evaluation <= training + LONGEST + 1  # then an episode of its own
    assert training < 2 * sampled  # an observation for each step and each episode: none counted twice
    assert algorithm.env_runner_group.foreach_env_runner(pushes) == [training] * (1 + runners)
