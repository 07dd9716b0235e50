"""Settings of RLlib's old ``tuned_examples``, under their old names: which train, and why the others do not."""

import json
from pathlib import Path

import pytest

from rllib_stpn.cli.main import main
from rllib_stpn.experiments.loading import load

FILES = {path.stem: path for path in sorted((Path(__file__).parent / "old_examples").glob("*.yaml"))}
#: What RLlib no longer has.
REFUSED = {
    "cartpole-appo": "IMPALA and APPO do NOT support vtrace=False anymore!",
    "cartpole-pg": "unknown algorithm 'PG': RLlib has dropped it; of those it has, A2C comes close",
    "mountaincarcontinuous-ddpg": "unknown algorithm 'DDPG': RLlib has dropped it; of those it has, SAC comes close",
}
#: Smaller numbers, with which two iterations that learn end within seconds. All else is the file's.
PPO = {"train_batch_size": 128, "sgd_minibatch_size": 64}
ASYNCHRONOUS = {"train_batch_size": 50, "min_time_s_per_iteration": 3}  # what is learned is told an iteration later
REPLAY = {"learning_starts": 40, "timesteps_per_iteration": 50}
SMALLER = {
    "cartpole-dqn": REPLAY,
    "cartpole-impala": ASYNCHRONOUS,
    "cartpole-ppo": PPO,
    "cartpole-sac": REPLAY,
    "frozenlake-appo": ASYNCHRONOUS,
    "pendulum-appo": ASYNCHRONOUS,
    "pendulum-ppo": PPO,
    "pendulum-sac": REPLAY | {"train_batch_size": 32},
    "pong-appo": ASYNCHRONOUS | {"num_workers": 1, "num_envs_per_worker": 4, "rollout_fragment_length": 10},
    "pong-dqn": {"replay_buffer_config": {"min_size_for_sampling": 40}, "timesteps_per_iteration": 50},
    "pong-impala": ASYNCHRONOUS | {"num_workers": 4, "rollout_fragment_length": 10},
    "pong-ppo": PPO | {"num_workers": 4, "num_sgd_iter": 1},
    "repeatafterme-ppo-lstm": PPO,
}


def test_each_file_is_trained_or_refused():
    assert len(FILES) >= 12
    assert len(SMALLER) >= 9
    assert set(FILES) == set(SMALLER) | set(REFUSED)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLER)
def test_it_trains(capsys, tmp_path, ray_session, name):
    options = ["--stop", '{"training_iteration": 2}', "--local-dir", str(tmp_path), "--ray-num-cpus", "1"]
    assert main(["train", "file", str(FILES[name]), "--config", json.dumps(SMALLER[name]), *options]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    (experiment,) = load(FILES[name])
    (file,) = tmp_path.glob(f"{experiment.name}/*/result.json")
    first, second = (json.loads(line) for line in file.read_text().splitlines())
    assert f"{experiment.algorithm} on {second['config']['env']}: 2 iterations" in told.out
    assert 0 < first["num_env_steps_sampled_lifetime"] < second["num_env_steps_sampled_lifetime"]
    assert second["learners"]["default_policy"]["num_module_steps_trained_lifetime"] > 0
    batch = SMALLER[name].get("train_batch_size") or experiment.config.get("train_batch_size")
    if experiment.algorithm in ("DQN", "SAC") and batch:
        assert second["learners"]["default_policy"]["module_train_batch_size_mean"] == batch
    assert second["config"]["env"] == experiment.config["env"]
    for key in ("env_config", "model"):
        assert second["config"].get(key, {}) == experiment.config.get(key, {})


@pytest.mark.parametrize("name", REFUSED)
def test_what_rllib_no_longer_has_is_named_in_a_line(capsys, name):
    assert main(["train", "file", str(FILES[name])]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert REFUSED[name] in line
