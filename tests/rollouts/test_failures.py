"""What goes wrong in an env runner reaches the user, from the driver's process and from a remote runner's."""

import pickle
import re

import pytest
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.tune.registry import register_env

from rllib_stpn.errors import NonFiniteError, RolloutError, UsageError
from rllib_stpn.models import recurrent_spec
from rllib_stpn.rollouts import BatchedEnvRunner, EpisodeEnvRunner, use_batched_rollouts
from rllib_stpn.rollouts.episode_runner import SURVIVED
from tests.rollouts.faulty_env import FaultyEnv, make_faulty

pytestmark = pytest.mark.usefixtures("ray_session")
RUNNERS = {"batched": BatchedEnvRunner, "episodes": EpisodeEnvRunner}
both_runners = pytest.mark.parametrize("kind", RUNNERS)
#: What of an error every path has to tell.
FAULTS = {
    "message": r"SimulatorGone: lost the connection \(.*step 2 of its episode; \S+faulty_env\.py:\d+",
    "silent": r"SimulatorGone \(.*step 2 of its episode; \S+faulty_env\.py:\d+",
    "reset": r"SimulatorGone: does not reset \(.*reset; \S+faulty_env\.py:\d+",
    "shape": r"observation.* of the shape \(2,\), where its space has \(3,\)",
    "dtype": r"observation of the type complex128, where its space has float32",
    "nan": r"observation that is not finite, at step \d+ of its episode: \[nan nan nan\]",
    "infinite": r"observation that is not finite, at step \d+ of its episode: \[  0. -inf   0.\]",
    "nan_reward": r"the reward nan, at step \d+ of its episode",
    "minus_inf_reward": r"the reward -inf, at step \d+ of its episode",
    "none_reward": r"the reward None, which is no number, at step \d+ of its episode",
    "word_reward": r"the reward '2\.5', which is no number, at step \d+ of its episode",
}
AT_ONCE = {"nan", "infinite", "nan_reward", "minus_inf_reward"}  # whatever the fault settings say


def make_config(kind, fault=None, steps=10, **env_config):
    register_env("faulty", make_faulty)
    config = (
        PPOConfig()
        .environment("faulty", env_config={"fault": fault, **env_config})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=3, rollout_fragment_length=steps)
        .training(train_batch_size=30, minibatch_size=30, num_epochs=1)
        .rl_module(rl_module_spec=recurrent_spec("lstm", hidden_size=4, max_seq_len=10))
    )
    return use_batched_rollouts(config) if kind == "batched" else config.env_runners(env_runner_cls=EpisodeEnvRunner)


def make_runner(config, worker_index=0):
    return config.env_runner_cls(config=config, worker_index=worker_index, num_workers=config.num_env_runners)


def arrived(failures):
    """What the driver gets."""
    (failure,) = pickle.loads(pickle.dumps(failures))
    return failure


@both_runners
@pytest.mark.parametrize("fault", FAULTS)
def test_the_environment_the_step_and_the_place_are_told(kind, fault):
    runner = make_runner(make_config(kind, fault))
    with pytest.raises(RolloutError, match=FAULTS[fault]) as raised:
        runner.sample()
    assert "environment 1 of env runner 0" in str(raised.value)
    assert isinstance(raised.value, NonFiniteError) == (fault in AT_ONCE)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in ("reset", "dtype")])
def test_a_vector_environment_is_told_of_as_well(fault):
    config = make_config("batched", fault).env_runners(gym_env_vectorize_mode="vector_entry_point")
    expected = FAULTS[fault].replace("step 2", "a step").replace(r"\(2,\)", r"\(3, 2\)").replace(r"\(3,\)", r"\(3, 3\)")
    with pytest.raises(RolloutError, match=expected) as raised:
        make_runner(config).sample()
    if fault not in ("message", "silent", "shape"):
        assert "environment 1 of env runner 0" in str(raised.value)


@both_runners
@pytest.mark.parametrize("fault", ["silent", "shape", "nan", "none_reward"])
def test_a_remote_runner_returns_its_failure_as_data(kind, fault):
    runner = make_runner(make_config(kind, fault), worker_index=2)
    failures = runner.sample()
    assert sum(each.env_steps() for each in failures) is failures[0]  # as RLlib's evaluation counts, over there
    assert runner.get_metrics()["num_env_steps_sampled"].peek() > 0
    for use in (len, list, lambda failure: failure.env_steps(), lambda failure: failure.observations, sum_to_zero):
        with pytest.raises(RolloutError, match=FAULTS[fault]) as raised:
            use(arrived(failures))
        assert "of env runner 2" in str(raised.value)
        assert "Traceback" in str(raised.value.__cause__)


def sum_to_zero(failure):
    return 0 + failure


@both_runners
def test_a_constructor_that_raises_is_told_where_the_driver_asks_for_spaces(kind):
    config = make_config(kind, "constructor")
    with pytest.raises(RolloutError, match=r"map\.json.*environment 1 of env runner 0, as it was made.*faulty_env\.py"):
        make_runner(config)
    remote = make_runner(config, worker_index=1)
    remote.assert_healthy()
    remote.set_state({})
    assert remote.get_state() == {}
    assert remote.get_metrics() is not None
    with pytest.raises(RolloutError, match=r"No such file.*environment 1 of env runner 1.*faulty_env\.py"):
        config.env_runner_cls(config=config, worker_index=0, spaces=arrived([remote.get_spaces()]))
    with pytest.raises(RolloutError, match=r"map\.json"):
        len(arrived(remote.sample()))
    remote.stop()


class Raises(RLlibCallback):
    def on_episode_end(self, **kwargs):
        raise ZeroDivisionError


class Refuses(RLlibCallback):
    def on_episode_end(self, **kwargs):
        raise UsageError("callback: got 3, allowed is 4")


@both_runners
def test_what_else_is_raised_in_a_runner_is_told_too(kind):
    with pytest.raises(RolloutError, match=r"^ZeroDivisionError \(env runner 0; \S+test_failures\.py:\d+\)$"):
        make_runner(make_config(kind).callbacks(Raises)).sample()
    with pytest.raises(UsageError, match=r"^callback: got 3"):
        make_runner(make_config(kind).callbacks(Refuses)).sample()
    with pytest.raises(UsageError, match=r"^callback: got 3"):
        len(arrived(make_runner(make_config(kind).callbacks(Refuses), worker_index=1).sample()))


# --- RLlib's fault settings ---------------------------------------------------------------------------------------


class Flaky(FaultyEnv):
    """Fails at its seventh step as often as its class says, wherever it is made."""

    left = 0

    def step(self, action):
        if self.steps == 6 and Flaky.left:
            Flaky.left -= 1
            raise ConnectionError("flaky")
        return super().step(action)


def flaky(kind, times, **settings):
    Flaky.left = times
    register_env("flaky", Flaky)
    return make_config(kind).environment("flaky", env_config={}).fault_tolerance(**settings)


@both_runners
def test_environments_are_made_anew_where_the_settings_say_so(kind):
    runner = make_runner(flaky(kind, 3, restart_failed_sub_environments=True))
    assert sum(each.env_steps() for each in runner.sample()) >= 30
    assert runner.get_metrics()[SURVIVED].peek() == 3
    assert re.search(r"ConnectionError: flaky.*environment \d.*made anew", runner.take_survived()[0])
    assert runner.take_survived() == []


@both_runners
def test_no_end_of_failures_ends_the_run_with_the_cause(kind):
    config = flaky(kind, 10**6, restart_failed_sub_environments=True, num_consecutive_env_runner_failures_tolerance=4)
    with pytest.raises(RolloutError, match=r"flaky.*5 times without a sample in between.*tolerance is 4"):
        make_runner(config).sample()
    assert Flaky.left == 10**6 - 5


@both_runners
def test_a_remote_runner_begins_anew_once_and_fails_the_second_time(kind):
    runner = make_runner(flaky(kind, 1), worker_index=1)
    assert sum(each.env_steps() for each in runner.sample()) >= 30
    assert "env runner 1 began anew" in runner.take_survived()[0]
    failures = make_runner(flaky(kind, 2), worker_index=1).sample()
    with pytest.raises(RolloutError, match="flaky"):
        len(arrived(failures))


@both_runners
@pytest.mark.parametrize("fault", sorted(AT_ONCE))
def test_values_that_are_not_finite_are_never_survived(kind, fault):
    config = make_config(kind, fault).fault_tolerance(restart_failed_sub_environments=True)
    FaultyEnv.made.clear()
    with pytest.raises(NonFiniteError):
        len(arrived(make_runner(config, worker_index=1).sample()))
    assert len(FaultyEnv.made) == 3


@both_runners
def test_a_remote_runner_ends_where_failures_are_ignored(kind):
    config = flaky(kind, 1, restart_failed_env_runners=False, ignore_env_runner_failures=True)
    with pytest.raises(RolloutError, match="flaky"):  # which RLlib turns into the end of the actor
        make_runner(config, worker_index=1).sample()


# --- outputs that are not finite ----------------------------------------------------------------------------------


@both_runners
def test_an_observation_that_overflows_in_the_network_is_named(kind):
    runner = make_runner(make_config(kind))
    step = runner.env.step

    def huge(actions):
        observations, *rest = step(actions)
        observations[2] = 3e38
        return (observations, *rest)

    runner.env.step = huge
    with torch.no_grad():  # zeros in, zeros out; what is large opens all gates, and what follows overflows
        for name, weights in runner.module.named_parameters():
            weights.fill_(0.0 if "bias" in name else 3e38 if name.startswith("pi") else 1.0)
    with pytest.raises(
        NonFiniteError, match=r"environment 2 of env runner 0: the module's \w+ are not finite.*3\.e\+38"
    ):
        for _ in range(3):
            runner.sample()


@both_runners
def test_weights_that_are_not_finite_are_told_apart(kind):
    runner = make_runner(make_config(kind))
    runner.sample()
    with torch.no_grad():
        next(runner.module.parameters()).fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="weights are not finite since the last update"):
        runner.sample()


# --- through Ray --------------------------------------------------------------------------------------------------


@both_runners
def test_an_algorithm_with_remote_runners_raises_the_cause(kind):
    config = make_config(kind, "silent").env_runners(num_env_runners=2, num_envs_per_env_runner=2)
    config.training(train_batch_size=40)
    algo = config.build_algo()
    try:
        with pytest.raises(RolloutError, match=r"SimulatorGone \(environment 1 of env runner [12].*faulty_env\.py:\d+"):
            algo.train()
    finally:
        algo.stop()


def test_remote_evaluation_raises_the_cause():
    config = make_config("batched", None).evaluation(
        evaluation_num_env_runners=1,
        evaluation_interval=1,
        evaluation_duration=10,
        evaluation_config={"env_config": {"fault": "message"}},
    )
    algo = config.build_algo()
    try:
        with pytest.raises(RolloutError, match="SimulatorGone: lost the connection"):
            algo.train()
    finally:
        algo.stop()
