"""Files and command lines as users of RLlib wrote them: each trains, or is refused in one sentence.

`docs/old_files.md` tells what each taught.
"""

import json
import shlex
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import yaml
from gymnasium import spaces
from ray import tune

from rllib_stpn.cli.main import main
from rllib_stpn.experiments.loading import load
from rllib_stpn.experiments.old.names import CONFIG

FOLDER = Path(__file__).parent / "old_files"
FILES = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
#: Smaller numbers, with which two iterations that learn end within seconds. All else is the file's.
PPO = {"train_batch_size": 128, "sgd_minibatch_size": 64, "num_sgd_iter": 1, "num_workers": 1}
PPO_OF_FRAGMENTS = PPO | {"rollout_fragment_length": "auto", "num_envs_per_worker": 2}
ASYNCHRONOUS = {"train_batch_size": 50, "min_time_s_per_iteration": 3, "rollout_fragment_length": 10, "num_workers": 1}
REPLAY = {"learning_starts": 40, "timesteps_per_iteration": 50, "train_batch_size": 32}
TRAINED = {
    "atari-a2c-sweep": {"num_workers": 1},
    "atari-dqn-noisy": REPLAY,
    "atari-dueling-ddqn": REPLAY,
    "atari-ppo-sweep": PPO_OF_FRAGMENTS,
    "cartpole-a2c-microbatch": {},
    "cartpole-dqn-softq": REPLAY,
    "cartpole-fake-gpus": PPO,
    "cartpole-grid-and-samples": {"train_batch_size": 256, "sgd_minibatch_size": {"grid_search": [32, 64, 128]}},
    "cheetah-appo": ASYNCHRONOUS | {"num_envs_per_worker": 2},
    "crashing-environments": ASYNCHRONOUS | {"evaluation_num_workers": 1, "evaluation_duration": 1},
    "driving-sac": REPLAY,
    "flatland-random": PPO,
    "halfcheetah-ppo": PPO | {"num_envs_per_worker": {"grid_search": [1, 2]}},
    "humanoid-ppo": PPO,
    "minerl-rainbow": REPLAY | {"num_gpus": 0, "n_step": 3},
    "minigrid-a2c": {"num_workers": 1},
    "mspacman-sac": REPLAY,
    "pendulum-transformed-actions": PPO,
    "pendulum-transformed-sac": REPLAY,
    "pong-impala-fast": ASYNCHRONOUS,
    "pong-rainbow": REPLAY,
    "procgen-default-model": PPO_OF_FRAGMENTS,
    "random-large-observations": PPO,
    "robot-ppo-defaults": PPO_OF_FRAGMENTS,
}
REFUSED = {
    "atari-apex": "run: got the unknown algorithm 'APEX': RLlib has dropped it; of those it has, DQN comes close",
    "atari-without-an-env": "'env' is missing",
    "attention-ppo": "the new API stack has no attention",
    "bullet-sac": "'HalfCheetahBulletEnv-v0'",
    "carla-flat": "where the experiment's name belongs",
    "cartpole-bc": "'/tmp/rllib-stpn-nothing-here'",
    "cartpole-marwil": "'/tmp/rllib-stpn-nothing-here'",
    "driving-misplaced": "unknown key 'framework'",
    "env-left-empty": "env: got nothing, allowed is the id of an environment",
    "flatland-broken-list": "line 7, column 52: not YAML",
    "flatland-maddpg": "unknown algorithm 'contrib/MADDPG': RLlib has dropped it",
    "flatland-marwil": "'/tmp/rllib-stpn-nothing-here'",
    "flatland-mixed-input": "config: input",
    "flatland-ppo": "'vf_share_layers' is the old name of 'model.vf_share_layers', and both are given",
    "flatland-transformer": "unknown algorithm 'CcTransformer'",
    "godot-flat": "where the experiment's name belongs",
    "invertedpendulum-td3": "unknown algorithm 'TD3': RLlib has dropped it; of those it has, SAC comes close",
    "minerl-bc": "'MineRLObtainDiamondVectorObf-v0'",
    "minigrid-custom-model": "custom_model: got 'minigrid_conv_torch_model', allowed are",
    "minigrid-missing": "'MiniGrid-FourRooms-v0'",
    "multi-agent-impala": "config: got the unknown key 'multiagent'",
    "nightly-of-several": "nightly-apex: run: got the unknown algorithm 'APEX'",
    "pendulum-cql": "'tests/data/pendulum/enormous.zip'",
    "pong-a3c": "unknown algorithm 'A3C': RLlib has dropped it; of those it has, A2C comes close",
    "procgen-baseline": "custom_model: got 'impala_cnn_tf', allowed are",
    "procgen-random": "unknown algorithm 'RandomPolicy'",
    "procgen-trailing-comma": "explore: got 'True,', allowed is true or false",
    "recommender-ppo": "recommender_system_envs.RecommSys001' cannot be imported",
    "sac-dashed-key": "unknown key 'checkpoint-freq'",
    "sac-lr-schedule": "`actor_lr`, `critic_lr` and `alpha_lr`",
    "stateless-r2d2": "unknown algorithm 'R2D2': RLlib has dropped it; of those it has, DQN comes close",
    "unity-soccer": "unity3d_env.Unity3DEnv' cannot be imported",
    "wandb-record": "got 1, allowed is a mapping with run, env (or task), stop and config",
}
#: Settings of a file that have no effect today, and that a note has to name.
NAMED = {
    "driving-sac": ("use_state_preprocessor", "clip_rewards"),
    "atari-dqn-noisy": ("noisy", "beta_annealing_fraction", "exploration_final_eps -> epsilon"),
    "atari-dueling-ddqn": ("adam_epsilon",),
    "cartpole-dqn-softq": ("soft-q: config: exploration_config", "parameter-noise: config: exploration_config"),
    "cheetah-appo": ("num_multi_gpu_tower_stacks",),
    "minerl-rainbow": ("log_to_file", "replay_sequence_length", "sigma0", "conv_filters"),
    "mspacman-sac": ("no_done_at_end", "q_model_config", "policy_model_config"),
    "pong-impala-fast": ("num_data_loader_buffers", "dim"),
    "pong-rainbow": ("prioritized_replay_beta_annealing_timesteps", "grayscale", "hiddens"),
    "procgen-default-model": (
        "observation_filter stands twice",
        "rollout_fragment_length: 256 -> auto",
        "log_sys_usage",
        "compress_observations",
    ),
}
#: Command lines, and what they print before a cluster is asked for.
ACCEPTED_LINES = {
    "train --run=A2C --env=CartPole-v0": "",
    "train --run=PPO --env=CartPole-v0 --torch": "note: --torch no longer means anything",
    "train --run APPO --env CartPole-v0 -v --eager --trace --local-mode": "note: --local-mode no longer means anything",
    "train --run PPO --env CartPole-v0 --checkpoint-at-end --checkpoint-freq 10": "note: --checkpoint-at-end",
    'train --run SAC --env CartPole-v0 --config \'{"use_pytorch": true, "Q_model": {}}\'': "note: --config: Q_model ->",
    'train --run DQN --env CartPole-v0 --config \'{"num_gpus": 2, "framework": {"grid_search": ["tf", "torch"]}}\'': (
        "tf -> torch"
    ),
    "train --run DQN --env Pong-v0": "Pong-v0 -> stpn_envs:stpn/Atari-v0",
    "train --run PPO --env PongNoFrameskip-v4 --config '{\"monitor\": true}'": "-> stpn_envs:stpn/Atari-v0",
    "train -f atari-without-an-env.yaml --env MsPacmanNoFrameskip-v4": "-> stpn_envs:stpn/Atari-v0",
    "train -f pong-impala-fast.yaml --redis-address=localhost:6379 --queue-trials": "note: --redis-address",
    "train -f pong-impala-fast.yaml --no-ray-ui --ray-num-gpus 1": "note: --no-ray-ui",
    "train --run PPO --env CartPole-v0 --ray-memory 1000000000 --ray-redis-max-memory 1000000": "note: --ray-memory",
    "train --run PPO --env CartPole-v0 --max-failures 3": "",
    'train --run PPO --env CartPole-v0 --config \'{"model": {"use_lstm": true, "lstm_use_prev_action": true}}\'': "",
    "train --run PPO --env Pong-ram-v4": "",
    "train --run PPO --env CartPole-v0 --scheduler AsyncHyperBand": "AsyncHyperBand -> asha",
}
REFUSED_LINES = {
    'train --run=PG --env=CartPole-v0 --framework=torch --config=\'{"output": "/tmp/out/"}\'': (
        "unknown algorithm 'PG': RLlib has dropped it; of those it has, A2C comes close"
    ),
    "train --run ES --env Humanoid-v4": "unknown algorithm 'ES': RLlib has dropped it",
    "train --env CartPole-v0": "both --run and --env",
    'train --run IMPALA --env Pong-v0 --config \'{"model": {"use_lstm": true, "lstm_use_prev_action": true}}\'': (
        "lstm_use_prev_action: got images of the shape"
    ),
    "train --run PPO --env CartPole-v0 --stop 100": "--stop: got '100', allowed is a JSON object",
    "train --run PPO --env CartPole-v0 --config \"{'lr': 0.1}\"": "--config: not JSON",
    "train --run PPO --env gym_cartpole_bt:CartPole-BT-v0": "module 'gym_cartpole_bt' cannot be imported",
    "train --run PPO --env CartPole-v0 --scheduler MedianStopping": "--scheduler: got 'MedianStopping', allowed are",
    'train --run PPO --env CartPole-v0 --config \'{"callbacks": {"on_episode_end": null}}\'': "callbacks: got",
    "train -f pong-a3c.yaml --ray-num-gpus 1": "unknown algorithm 'A3C'",
    "rollout /tmp/checkpoint_1/checkpoint-1 --run DQN --env CartPole-v0": "rollout: rllib evaluate takes its place",
    "evaluate /tmp/checkpoint_1/checkpoint-1 --algo DQN --env CartPole-v0 --steps 1000": "no such",
    'train --run=PPO --env=CartPole-v1 --config=\'{"output": "dataset", "output_config": {"format": "json"}}\'': (
        "config: output"
    ),
}
#: `pytest -m slow` has the others.
QUICK = ("pendulum-transformed-actions",)
NOBODY = ("--ray-address", "127.0.0.1:1")


class Small(gym.Env):
    """Ten steps of random observations."""

    def __init__(self, observation: spaces.Space, action: spaces.Space):
        self.observation_space, self.action_space = observation, action

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.steps += 1
        return self.observation_space.sample(), 1.0, False, self.steps >= 10, {}


def image(*shape: int) -> spaces.Box:
    return spaces.Box(0, 255, shape, np.uint8)


#: The spaces of environments that are not installed.
SPACES = {
    "procgen_env_wrapper": (image(64, 64, 3), spaces.Discrete(15)),
    "PictureAndVector": (spaces.Dict(pov=image(64, 64, 3), vector=spaces.Box(-1, 1, (64,))), spaces.Discrete(30)),
    "flatland_sparse": (spaces.Box(-1, 1, (231,)), spaces.Discrete(5)),
    "FourRooms": (image(7, 7, 3), spaces.Discrete(7)),
}


@pytest.fixture(autouse=True)
def stand_ins():
    for name, (observation, action) in SPACES.items():
        tune.register_env(name, lambda _, observation=observation, action=action: Small(observation, action))


def refusal(capsys, arguments: list[str]) -> str:
    """The one sentence on stderr; what is not refused asks for a cluster, which nobody answers for."""
    assert main([*arguments, *(NOBODY if arguments[0] == "train" else ())]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rllib: error: ")
    assert "To suppress all validation errors" not in line, "advice to run what is wrong"
    assert ".;" not in line, "a hint behind a hint"
    return line


def accepted(capsys, arguments: list[str], storage: Path) -> str:
    """What is printed before a cluster is asked for, which nobody answers for: all that comes first went well."""
    code = main([*arguments, *NOBODY, "--local-dir", str(storage)])
    told = capsys.readouterr()
    assert told.err.startswith("rllib: error: --ray-address or RAY_ADDRESS: nothing answers at '127.0.0.1:1'")
    assert code == 2
    return told.out


def arguments_of(line: str) -> list[str]:
    return [str(FOLDER / word) if word.endswith(".yaml") else word for word in shlex.split(line)]


def test_each_file_trains_or_is_refused_and_says_whose_it_is():
    assert set(FILES) == {*TRAINED, *REFUSED}
    assert len(FILES) >= 24
    assert all(path.read_text().startswith("# ") for path in FILES.values())


@pytest.mark.parametrize("name", TRAINED)
def test_what_trains_passes_every_check(capsys, tmp_path, name):
    accepted(capsys, ["train", "file", str(FILES[name])], tmp_path)


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_train_is_refused_in_a_sentence(capsys, name):
    assert REFUSED[name] in refusal(capsys, ["train", "file", str(FILES[name])])


@pytest.mark.parametrize("name", NAMED)
def test_what_has_no_effect_is_named(capsys, tmp_path, name):
    main(["train", "file", str(FILES[name]), *NOBODY, "--local-dir", str(tmp_path)])
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    unnamed = [key for key in NAMED[name] if not any(key in note for note in notes)]
    assert not unnamed


@pytest.mark.parametrize("line", ACCEPTED_LINES)
def test_command_lines_of_old(capsys, tmp_path, line):
    assert ACCEPTED_LINES[line] in accepted(capsys, arguments_of(line), tmp_path)


@pytest.mark.parametrize("line", REFUSED_LINES)
def test_command_lines_that_are_refused(capsys, line):
    assert REFUSED_LINES[line] in refusal(capsys, arguments_of(line))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in TRAINED]
)
def test_it_trains(capsys, tmp_path, ray_session, name):
    options = ["--stop", '{"training_iteration": 2}', "--local-dir", str(tmp_path), "--ray-num-cpus", "1"]
    options += ["--num-samples", "1", "--config", json.dumps(TRAINED[name])]
    assert main(["train", "file", str(FILES[name]), *options]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    written = yaml.safe_load(FILES[name].read_text())
    for experiment in load(FILES[name]):
        files = list(tmp_path.glob(f"{experiment.name}/*/result.json"))
        assert len(files) == experiment.num_trials // experiment.num_samples
        for file in files:
            first, second = (json.loads(line) for line in file.read_text().splitlines())
            assert 0 < first["num_env_steps_sampled_lifetime"] < second["num_env_steps_sampled_lifetime"]
            assert second["learners"]["default_policy"]["num_module_steps_trained_lifetime"] > 0
            for key, value in written[experiment.name]["config"].items():
                kept = {key, CONFIG.get(key)} & set(second["config"])
                assert kept or value is None or f" {key}" in told.out, f"{key} is neither kept nor named"
