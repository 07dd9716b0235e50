"""What results tell of env runners that hang, end, and come back; and what those have that came back."""

import logging
import re

import numpy as np
import pytest
import ray
from ray.rllib.algorithms.appo import APPOConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.tune.registry import register_env

from rllib_stpn.errors import RolloutError
from rllib_stpn.models import recurrent_spec
from rllib_stpn.rollouts import EpisodeEnvRunner, telling_failures, use_batched_rollouts
from rllib_stpn.rollouts.episode_runner import EPISODES_DROPPED, STEPS_DROPPED
from rllib_stpn.rollouts.failure import told_in_job
from rllib_stpn.rollouts.survival import SURVIVED, renew, tell, tell_why
from tests.rollouts.faulty_env import make_faulty

pytestmark = pytest.mark.usefixtures("ray_session")


def make_config(kind="batched", config_class=PPOConfig, runners=2, seconds=60.0, **env_config):
    register_env("faulty", make_faulty)
    config = (
        config_class()
        .environment("faulty", env_config=env_config)
        .env_runners(num_env_runners=runners, num_envs_per_env_runner=2, rollout_fragment_length=10)
        .env_runners(sample_timeout_s=seconds)
        .reporting(min_time_s_per_iteration=0)
        .learners(num_learners=0)
    )
    size = 20 * max(runners, 1)
    if config_class is PPOConfig:
        config.training(train_batch_size=size, minibatch_size=size, num_epochs=1, lr=0.1)
    else:
        config.training(train_batch_size_per_learner=size, lr=0.1)
    if kind == "batched":
        return use_batched_rollouts(config.rl_module(rl_module_spec=recurrent_spec("mlp", hidden_size=4)))
    return telling_failures(config.env_runners(env_runner_cls=EpisodeEnvRunner))


def restarted(algorithm, index=1):
    """Kills an env runner and lets RLlib bring it back, without a sample of it."""
    group = algorithm.env_runner_group
    ray.kill(group._worker_manager.actors()[index], no_restart=False)
    group._worker_manager.set_actor_state(index, healthy=False)
    for _ in range(10):  # each waits half a minute
        if back := algorithm.restore_env_runners(group):
            break
    algorithm._make_on_env_runners_recreated_callbacks(
        config=algorithm.config, env_runner_group=group, restored_env_runner_indices=back
    )
    (state,) = group.foreach_env_runner(
        lambda runner: runner.get_state(), local_env_runner=False, remote_worker_ids=[index]
    )
    return state


def weights_in(state):
    module = state[COMPONENT_RL_MODULE]
    module = module.get(DEFAULT_MODULE_ID, module)
    return {name: np.asarray(value) for name, value in module.items()}


def same(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one.keys() & other.keys())


@pytest.mark.slow
@pytest.mark.parametrize("config_class", [PPOConfig, APPOConfig])
def test_an_env_runner_that_was_restarted_has_the_present_weights_and_its_place(build, config_class):
    algorithm = build(make_config("batched" if config_class is PPOConfig else "episodes", config_class))
    of_learner = f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}"
    at_first = weights_in(algorithm.learner_group.get_state(of_learner)[COMPONENT_LEARNER])
    for _ in range(1000):  # APPO takes its time
        result = algorithm.train()
        present = weights_in(algorithm.learner_group.get_state(of_learner)[COMPONENT_LEARNER])
        if not same(present, at_first):
            break
    state = restarted(algorithm)
    weights = weights_in(state)
    assert weights and not same(weights, at_first)
    assert config_class is APPOConfig or same(weights, present)  # APPO's learner has a thread of its own
    assert state["num_env_steps_sampled_lifetime"] == result["env_runners"]["num_env_steps_sampled_lifetime"]
    told = algorithm.train()
    assert re.search(
        "env runner 1 .*with the present weights: its process died.*dropped: up to 20 steps", told[SURVIVED][0]
    )
    assert (told[STEPS_DROPPED], told[EPISODES_DROPPED]) == (20, 2)


def test_environments_that_are_made_again_begin_with_other_episodes():
    seeds = []
    runner = make_config("episodes", runners=0).debugging(seed=3).fault_tolerance(restart_failed_sub_environments=True)
    runner = runner.env_runner_cls(config=runner, worker_index=0)
    for _ in range(2):
        reset = runner.env.reset
        runner.env.reset = lambda reset=reset, seed=None, **arguments: (seeds.append(seed), reset(seed=seed))[1]
        runner._try_env_reset(seed=3)
        runner.make_env()
    assert seeds[0] == 3 and seeds[1] not in (None, 3)


@pytest.mark.parametrize("kind", ["batched", "episodes"])
def test_an_environment_that_hangs_is_said_while_it_does(kind, caplog, tmp_path):
    logging.getLogger("ray.rllib").propagate = True
    config = make_config(kind, runners=0, seconds=0.2, fault="hangs@step", times=1, ledger=str(tmp_path))
    config.environment(env_config={**config.env_config, "seconds": 1.5})
    runner = config.env_runner_cls(config=config, worker_index=0)
    with caplog.at_level(logging.WARNING, logger="ray.rllib"):
        runner.sample()
    runner.stop()
    place = r"environment 1 of env runner 0, at step 2 of its episode; \S+faulty_env\.py:\d+"
    assert re.search(rf"env runner 0 has made no step for 0\.2 s \(sample_timeout_s; {place}\)", caplog.text)


@pytest.mark.parametrize("mode, which", [("sync", "environment 1"), ("vector_entry_point", "an environment")])
def test_an_environment_that_hangs_as_it_is_made_is_said_while_it_does(mode, which, caplog):
    logging.getLogger("ray.rllib").propagate = True
    config = make_config(runners=0, seconds=0.02, fault="hangs@constructor")
    config.environment(env_config={**config.env_config, "seconds": 1.5})
    config.env_runners(gym_env_vectorize_mode=mode)
    with caplog.at_level(logging.WARNING, logger="ray.rllib"):
        config.env_runner_cls(config=config, worker_index=0).stop()
    place = rf"{which} of env runner 0, as it was made; \S+faulty_env\.py:\d+"
    assert re.search(
        rf"env runner 0 has made no environment for 0\.2 s \(10 times sample_timeout_s; {place}\)", caplog.text
    )


def test_each_environment_that_is_made_is_progress():
    seen = []

    class Runner(EpisodeEnvRunner):
        def _one_is_made(self):
            before = self.progress()
            super()._one_is_made()
            seen.append((before, self.progress(), self.patience()))

    config = make_config("episodes", runners=0, seconds=3.0)
    runner = Runner(config=config, worker_index=0)
    assert seen == [(("made", i), ("made", i + 1), 30.0) for i in range(2)]
    assert runner.progress() is None
    runner.stop()


def test_an_env_runner_that_ends_again_and_again_as_it_is_made_ends_the_run():
    told_in_job()  # those of other tests
    with pytest.raises(RolloutError, match="env runner 1 ended 2 times as it was made: its process died"):
        make_config(runners=1, fault="exits@constructor", worker=1).build_algo()
    (told,) = told_in_job()
    assert re.match(
        r"env runner 1 ended as it was made, and begins anew \(restart_failed_env_runners\): its proc", told
    )
    assert not told_in_job()


@pytest.mark.slow
def test_an_env_runner_that_hangs_as_it_is_made_is_restarted_once(build, tmp_path):
    told_in_job()
    config = make_config(runners=1, seconds=1.0, fault="hangs@constructor", worker=1, times=1, ledger=str(tmp_path))
    (told,) = build(config).train()[SURVIVED]
    assert re.search(r"begins anew .*: env runner 1 has made no environment for 10 s .*faulty_env\.py:\d+\)", told)
    again = make_config(runners=1, seconds=1.0, fault="hangs@constructor", worker=1)
    with pytest.raises(RolloutError, match="env runner 1 ended 2 times as it was made: env runner 1 has made no env"):
        again.build_algo()


@pytest.mark.parametrize("kind", ["batched", pytest.param("episodes", marks=pytest.mark.slow)])
def test_a_result_tells_of_env_runners_that_ended(build, kind, tmp_path):
    config = make_config(kind, fault="exits@step", worker=2, times=1, ledger=str(tmp_path))
    algorithm = build(config)
    lines = []
    for _ in range(1000):
        result = algorithm.train()
        lines += result.get(SURVIVED, [])
        if any("back" in line or "began anew" in line for line in lines):
            break
    assert re.search(r"env runner 2 (is down|ended).*its process died.*dropped: up to 20 steps, 2 episodes", lines[0])
    assert (result[STEPS_DROPPED], result[EPISODES_DROPPED]) == (20, 2)


@pytest.mark.slow
def test_where_nothing_restarts_the_env_runner_that_ended_is_named(build, tmp_path):
    config = make_config(fault="exits@step", worker=2).fault_tolerance(restart_failed_env_runners=False)
    algorithm = build(config)
    with pytest.raises(RolloutError, match="env runner 2 ended: its process died.*restart_failed_env_runners is off"):
        algorithm.train()


def test_the_callbacks_are_set_once_beside_those_that_are_there():
    def mine(**_):
        pass

    config = telling_failures(telling_failures(PPOConfig().callbacks(on_train_result=mine)))
    assert config.callbacks_on_train_result == [tell, mine]
    assert config.callbacks_on_algorithm_init == [tell_why]
    assert config.callbacks_on_env_runners_recreated == [renew]


@pytest.mark.slow
def test_an_env_runner_that_hangs_is_restarted_and_its_place_told(build, tmp_path):
    config = make_config(seconds=5.0, fault="hangs@step", worker=1, times=1, ledger=str(tmp_path))
    algorithm = build(config)
    lines = []
    for _ in range(1000):
        lines += algorithm.train().get(SURVIVED, [])
        if any("back" in line or "began anew" in line for line in lines):
            break
    assert re.search(r"env runner 1 has made no step for 5 s .*environment 1 of env runner 1.*faulty_env\.py", lines[0])


@pytest.mark.slow
def test_an_env_runner_that_ends_again_and_again_ends_the_run(build):
    algorithm = build(make_config(fault="exits@step", worker=1, runners=1))
    with pytest.raises(RolloutError, match="env runner 1 has ended 3 times without a sample in between: its process"):
        for _ in range(100):
            algorithm.train()
