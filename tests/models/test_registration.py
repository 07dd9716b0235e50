"""What a plain script needs to register by hand: nothing, on RLlib's new API stack."""

import subprocess
import sys

import pytest
import stpn_envs
from ray.rllib.env.env_context import EnvContext
from ray.tune import registry

from rllib_stpn import A2CConfig, recurrent_spec, register
from rllib_stpn.errors import UsageError
from rllib_stpn.ray_names import how_to_register, register_environments

NAMES = ("StatelessCartPole", *stpn_envs.ENV_IDS)


@pytest.fixture
def known(monkeypatch):
    """An empty registry, as in a new process."""
    monkeypatch.setattr(registry, "_global_registry", registry._Registry(prefix="test"))
    monkeypatch.setattr(registry, "_internal_kv_initialized", lambda: False)
    return lambda category, name: registry._global_registry.contains(category, name)


@pytest.mark.parametrize("call", [A2CConfig, lambda: recurrent_spec("stpn", hidden_size=3)], ids=["A2C", "spec"])
def test_the_environments_come_with_the_first_call(known, call):
    assert not any(known(registry.ENV_CREATOR, name) for name in NAMES)
    call()
    assert all(known(registry.ENV_CREATOR, name) for name in NAMES)
    assert known(registry.TRAINABLE_CLASS, "A2C") == (call is A2CConfig)


def test_names_that_are_taken_keep_what_they_have(known):
    registry.register_env("StatelessCartPole", lambda context: "the user's own")
    register_environments()
    assert registry._global_registry.get(registry.ENV_CREATOR, "StatelessCartPole")({}) == "the user's own"


def test_what_another_process_has_to_call_is_told(known, tmp_path, monkeypatch):
    (tmp_path / "somewhere.py").write_text("class Env:\n    def __init__(self, c):\n        self.context = c\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert how_to_register("somewhere.Env") is None  # nobody has registered it
    register("somewhere.Env")
    assert registry._global_registry.get(registry.ENV_CREATOR, "somewhere.Env")({"a": 1}).context == {"a": 1}
    assert how_to_register("somewhere.Env") == 'rllib_stpn.register("somewhere.Env")'
    assert how_to_register("StatelessCartPole") == how_to_register("stpn/Maze-v0") == "rllib_stpn.register()"
    assert how_to_register("CartPole-v1") is how_to_register(dict) is None
    with pytest.raises(UsageError, match="got 'CartPole-v1', allowed are paths of classes"):
        register("CartPole-v1")


def test_an_environment_has_both_forms(known):
    register_environments()
    create = registry._global_registry.get(registry.ENV_CREATOR, "stpn/MazeSmall-v0")
    env = create(EnvContext({"episode_length": 3}, worker_index=1))
    env.reset(seed=0)
    assert [env.step(0)[3] for _ in range(3)] == [False, False, True]
    assert create(EnvContext({"num_envs": 3}, worker_index=1)).num_envs == 3


TUNE = """
import sys
from ray import tune
from ray.rllib.algorithms.ppo import PPOConfig
import rllib_stpn

name, env, directory = sys.argv[1:]
config = (rllib_stpn.A2CConfig if name == "A2C" else PPOConfig)()
config.environment(env).env_runners(num_env_runners=1, num_envs_per_env_runner=2, rollout_fragment_length=20)
config.training(train_batch_size=40).reporting(min_time_s_per_iteration=0)
if name == "PPO":
    config.training(minibatch_size=40, num_epochs=1)
config.rl_module(rl_module_spec=rllib_stpn.recurrent_spec("stpn", hidden_size=4, max_seq_len=10))
run = tune.RunConfig(stop={"training_iteration": 1}, storage_path=directory, verbose=0)
(result,) = tune.Tuner(name, param_space=config, run_config=run).fit()
assert result.error is None
print(result.metrics["num_env_steps_sampled_lifetime"])
"""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "env"), [("PPO", "StatelessCartPole"), ("A2C", "stpn/MazeSmall-v0")])
def test_tune_trials_and_remote_env_runners_know_all_of_it(name, env, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", TUNE, name, env, str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(done.stdout.split()[-1]) >= 40
