"""What goes wrong in an env runner reaches the user, from the driver's process and from a remote runner's."""

import logging
import pickle
import re

import gymnasium as gym
import pytest
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.tune.registry import register_env

from rllib_stpn.errors import NonFiniteError, RolloutError, UsageError
from rllib_stpn.models import recurrent_spec
from rllib_stpn.rollouts import BatchedEnvRunner, EpisodeEnvRunner, use_batched_rollouts
from rllib_stpn.rollouts.episode_runner import EPISODES_DROPPED, STEPS_DROPPED, SURVIVED
from tests.rollouts import faulty_env
from tests.rollouts.faulty_env import FaultyEnv, make_faulty

pytestmark = pytest.mark.usefixtures("ray_session")
RUNNERS = {"batched": BatchedEnvRunner, "episodes": EpisodeEnvRunner}
both_runners = pytest.mark.parametrize("kind", RUNNERS)
#: The three ways in which environments are stepped.
PATHS = {"batched": ("batched", "sync"), "vector": ("batched", "vector_entry_point"), "episodes": ("episodes", "sync")}
HERE = r"\S+faulty_env\.py:\d+"
#: What of an error has to be told, by what goes wrong, whatever the path.
RAISED = {
    "raises": rf"SimulatorGone: lost the connection \(.*{HERE}\)",
    "silent": rf"SimulatorGone \(.*{HERE}\)",
    "file": rf"FileNotFoundError: .*'/nowhere/map\.json' \(.*{HERE}\)",
    "words": rf"SimulatorGone: error: failed \(step 9\).*that of 'x' \(.*{HERE}\)",
    "old_api": r"reset\(\)|step\(\)|too many values to unpack",
}
OBSERVED = {
    "shape": r"observations? of the shape \((2,|3, 2)\), where its space has \((3,|3, 3)\)",
    "dtype": "observations? of the type complex128, where its space has float32",
    "nan": r"observation that is not finite, at step \d of its episode: \[nan nan nan\]",
    "inf": r"observation that is not finite, at step \d of its episode: \[ 0\. inf  0\.\]",
    "minus_inf": r"observation that is not finite, at step \d of its episode: \[  0\. -inf   0\.\]",
    "none": r"observations? of the (type NoneType|shape \(3,\)), where its space has",
    "text": r"observations? of the (type str|shape \(3,\)), where its space has",
}
REWARDED = {
    "shape": r"the reward array\(\[0\., 0\.\]\), which is no number|rewards of the shape \(3, 1\), allowed is \(3,\)",
    "dtype": r"the reward (1j|\(1\+0j\)), which is no number",
    "nan": r"the reward nan, at step \d of its episode",
    "inf": r"the reward inf, at step \d of its episode",
    "minus_inf": r"the reward -inf, at step \d of its episode",
    "huge": r"the reward 1e\+30, at step 2 of its episode: allowed is up to 1e\+18",
    "none": "the reward None, which is no number",
    "text": r"the reward '2\.5', which is no number",
}
SAID = {
    **dict.fromkeys(("constructor", "reset", "step"), RAISED),
    **dict.fromkeys(("first_observation", "observation", "final_observation"), OBSERVED),
    "reward": REWARDED,
}
ENDINGS = [fault for fault in faulty_env.RAISED + faulty_env.WRONG if fault not in faulty_env.HARMLESS]
#: In these the whole batch is wrong, or nothing tells which environment it was.
OF_ALL = re.compile(r"(raises|silent|file|words|old_api|shape|dtype)@|@info|(none|text)@(first_|)observation")


def said(fault):
    """A pattern of what an error has to say."""
    what, _, where = fault.partition("@")
    if where in ("terminated", "truncated"):
        return rf"returned {where} .*neither True nor False|returned {where} of the shape \(3, 1\), allowed is \(3,\)"
    if where == "info":
        return "which (is|are) no dict|no final_obs"
    return SAID[where][what]


def is_at_once(fault):
    """Whether it ends the run whatever the fault settings say."""
    what, _, where = fault.partition("@")
    wrong = ("nan", "inf", "minus_inf", "huge") if where == "reward" else ("nan", "inf", "minus_inf")
    return where == "constructor" or (what in wrong and (where == "reward" or "observation" in where))


def make_config(kind, fault=None, steps=10, mode="sync", **env_config):
    register_env("faulty", make_faulty)
    config = (
        PPOConfig()
        .environment("faulty", env_config={"fault": fault, **env_config})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=3, rollout_fragment_length=steps)
        .env_runners(gym_env_vectorize_mode=mode)
        .training(train_batch_size=30, minibatch_size=30, num_epochs=1)
        .rl_module(rl_module_spec=recurrent_spec("mlp", hidden_size=4))
    )
    return use_batched_rollouts(config) if kind == "batched" else config.env_runners(env_runner_cls=EpisodeEnvRunner)


def make_runner(config, worker_index=0):
    return config.env_runner_cls(config=config, worker_index=worker_index, num_workers=config.num_env_runners)


def arrived(failures):
    """What the driver gets."""
    (failure,) = pickle.loads(pickle.dumps(failures))
    return failure


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("fault", ENDINGS)
def test_a_fault_ends_in_one_error_that_says_what_and_where(fault, path):
    kind, mode = PATHS[path]
    config = make_config(kind, fault, mode=mode)
    if fault.startswith("huge") and "observation" in fault:
        assert sum_of_steps(make_runner(config).sample()) >= 30  # a number as others
        return
    with pytest.raises(RolloutError, match=said(fault)) as raised:
        runner = make_runner(config)
        for _ in range(2):
            runner.sample()
    told = str(raised.value)
    assert "\n" not in told and "env runner 0" in told
    assert "environment 1 of" in told or (mode == "vector_entry_point" and OF_ALL.search(fault)), told
    assert isinstance(raised.value, NonFiniteError) == (is_at_once(fault) and "constructor" not in fault)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("fault", ENDINGS)
def test_a_remote_runner_begins_anew_once_and_counts_what_is_lost(fault, path, tmp_path):
    kind, mode = PATHS[path]
    if fault.startswith("huge") and "observation" in fault:
        pytest.skip("no fault")
    runner = make_runner(make_config(kind, fault, mode=mode, times=1, ledger=str(tmp_path)), worker_index=1)
    if is_at_once(fault):
        with pytest.raises(RolloutError, match=said(fault)):
            used_twice(runner)
        return
    sampled = sum(sum_of_steps(runner.sample()) for _ in range(2))
    (told,) = runner.take_survived()
    assert re.search(f"({said(fault)}).*env runner 1 began anew", told)
    metrics = runner.get_metrics()
    steps, episodes = (metrics[name].peek() for name in (STEPS_DROPPED, EPISODES_DROPPED))
    assert told.endswith(f"dropped: {steps:.0f} steps, {episodes:.0f} episodes")
    assert [metrics[name].peek() for name in (SURVIVED, "num_env_steps_sampled_lifetime")] == [1, sampled]
    lost = {"reset": (0, 0), "first_observation": (0, 0), "final_observation": (27, 6)}
    if mode == "sync" and "@step" in fault or "@reward" in fault:
        assert (steps, episodes) == (18, 6)  # six steps of three environments, whose second episodes were under way
    elif mode == "sync" and (where := fault.partition("@")[2]) in lost:
        assert (steps, episodes) == lost[where]


def used_twice(runner):
    """Two samples, as the driver uses them."""
    for _ in range(2):
        for each in pickle.loads(pickle.dumps(runner.sample())):
            len(each)


def sum_of_steps(samples):
    return sum(each.env_steps() for each in samples)


@both_runners
@pytest.mark.parametrize("fault", faulty_env.CLOSING)
def test_an_environment_that_does_not_close_is_logged(kind, fault, caplog):
    runner = make_runner(make_config(kind, fault))
    runner.sample()
    with caplog.at_level(logging.WARNING, logger="ray.rllib"):
        logging.getLogger("ray.rllib").propagate = True
        runner.stop()
    assert re.search(rf"SimulatorGone.* \(an environment of env runner 0, as it was closed; {HERE}\)", caplog.text)


@both_runners
@pytest.mark.parametrize("seed", range(8))
def test_whatever_the_schedule_the_error_names_environment_and_step(kind, seed):
    schedule = faulty_env.drawn(seed)
    step = (schedule["at"] - 1) % faulty_env.LENGTH + 1
    for fault in ("silent@step", "nan@reward", "none@terminated"):
        with pytest.raises(RolloutError, match=said(fault)) as raised:
            make_runner(make_config(kind, fault, steps=20, **schedule)).sample()
        assert f"environment {schedule['faulty']} of env runner 0" in str(raised.value)
        assert f"at step {step} of its episode" in str(raised.value)


@both_runners
@pytest.mark.parametrize("fault", ["silent@reset", "none@first_observation"])
def test_a_first_reset_that_fails_is_survived_as_others_are(kind, fault, tmp_path):
    config = make_config(kind, fault, at=0, times=1, ledger=str(tmp_path))
    runner = make_runner(config.fault_tolerance(restart_failed_sub_environments=True))
    assert sum_of_steps(runner.sample()) >= 30
    assert runner.take_survived()[0].endswith(
        "made anew (restart_failed_sub_environments); dropped: 0 steps, 0 episodes"
    )


@both_runners
def test_a_reward_that_an_observation_shows_is_named_and_not_the_observation(kind):
    config = make_config(kind, "nan@reward")
    config._previous_inputs = ("reward",)
    with pytest.raises(NonFiniteError, match="environment 1 of env runner 0 returned the reward nan, at step 2 of its"):
        make_runner(config).sample()


def test_the_step_of_a_reward_is_told_where_its_episode_began_in_an_earlier_sample():
    runner = make_runner(make_config("batched", "nan@reward", steps=3, at=10))
    for _ in range(3):
        runner.sample()
    with pytest.raises(NonFiniteError, match="environment 1 of env runner 0 returned the reward nan, at step 5 of its"):
        runner.sample()


@pytest.mark.parametrize("mode", ["sync", "vector_entry_point"])
def test_the_value_of_a_final_observation_that_is_not_finite_is_named(mode):
    runner = make_runner(make_config("batched", mode=mode))
    values = runner._values
    runner._values = lambda *arguments, **named: values(*arguments, **named) * float("nan")
    with pytest.raises(NonFiniteError, match=r"environment 0 of env runner 0: the value of its (final )?observation"):
        runner.sample()


@both_runners
@pytest.mark.parametrize("fault", ["silent@step", "shape@observation", "nan@observation", "none@reward"])
def test_a_remote_runner_returns_its_failure_as_data(kind, fault):
    runner = make_runner(make_config(kind, fault), worker_index=2)
    failures = runner.sample()
    assert sum(each.env_steps() for each in failures) is failures[0]  # as RLlib's evaluation counts, over there
    assert runner.get_metrics()["num_env_steps_sampled"].peek() > 0
    for use in (len, list, lambda failure: failure.env_steps(), lambda failure: failure.observations, sum_to_zero):
        with pytest.raises(RolloutError, match=said(fault)) as raised:
            use(arrived(failures))
        assert "of env runner 2" in str(raised.value)
        assert "Traceback" in str(raised.value.__cause__)


def sum_to_zero(failure):
    return 0 + failure


@both_runners
def test_a_constructor_that_raises_is_told_where_the_driver_asks_for_spaces(kind):
    config = make_config(kind, "file@constructor")
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


class Counting(FaultyEnv):
    """Has attributes of its own by names that whoever watches it may want, too."""

    steps = resets = observation = name = under_way = "its own"


@both_runners
def test_attributes_of_an_environment_are_found_and_set_as_its_own(kind):
    register_env("counting", Counting)
    runner = make_runner(make_config(kind).environment("counting", env_config={}))
    runner.sample()
    envs = runner.env.unwrapped
    for name in ("resets", "observation", "name", "under_way", "steps"):
        envs.set_attr(name, "changed")
        assert {getattr(each.unwrapped, name) for each in envs.envs} == {"changed"}
        assert set(envs.get_attr(name)) == {"changed"}
    around = envs.envs[0]
    assert not [name for name in vars(around).keys() - vars(gym.Wrapper(around)).keys() if name[0] != "_"]


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
def test_a_remote_runner_that_fails_twice_without_a_sample_in_between_ends_the_run(kind):
    failures = make_runner(flaky(kind, 2), worker_index=1).sample()
    with pytest.raises(RolloutError, match="flaky"):
        len(arrived(failures))


@both_runners
@pytest.mark.parametrize("fault", ["nan@observation", "inf@first_observation", "minus_inf@reward", "huge@reward"])
def test_values_that_are_not_finite_are_never_survived(kind, fault):
    config = make_config(kind, fault).fault_tolerance(restart_failed_sub_environments=True)
    FaultyEnv.made.clear()
    runner = make_runner(config, worker_index=1)
    with pytest.raises(NonFiniteError):
        used_twice(runner)
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


@pytest.mark.parametrize("kind", ["batched", pytest.param("episodes", marks=pytest.mark.slow)])
def test_an_algorithm_with_remote_runners_raises_the_cause(kind):
    config = make_config(kind, "silent@step").env_runners(num_env_runners=2, num_envs_per_env_runner=2)
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
        evaluation_config={"env_config": {"fault": "raises@step"}},
    )
    algo = config.build_algo()
    try:
        with pytest.raises(RolloutError, match="SimulatorGone: lost the connection"):
            algo.train()
    finally:
        algo.stop()
