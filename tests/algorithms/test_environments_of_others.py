"""Environments of packages that users bring: two iterations through the command line, then `rllib evaluate`."""

import json

import pytest

from rllib_stpn.cli.main import main

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]
MODEL = {
    "custom_model": "stpn",
    "custom_model_config": {"hidden_size": 8},
    "max_seq_len": 16,
    "conv_filters": [[8, 3, 1], [8, 3, 2]],
    "fcnet_hiddens": [8],
}
SMALL = {
    "num_env_runners": 0,
    "num_envs_per_env_runner": 2,
    "train_batch_size": 64,
    "minibatch_size": 32,
    "num_epochs": 1,
}
STOP = ["--stop", '{"training_iteration": 2}']
MEMORY = [("minigrid", f"minigrid:MiniGrid-Memory{name}-v0") for name in ("S7", "S11", "S13Random")]
GOALS = [("gymnasium_robotics", f"gymnasium_robotics:{name}") for name in ("PointMaze_UMaze-v3", "AntMaze_UMaze-v5")]


POPGYM = (
    "Autoencode",
    "Battleship",
    "CountRecall",
    "HigherLower",
    "MineSweeper",
    "MultiarmedBandit",
    "PositionOnlyPendulum",
    "RepeatPrevious",
)
OTHERS = [*MEMORY, *GOALS, *(("popgym", f"popgym.envs:popgym-{name}Easy-v0") for name in POPGYM)]
BOTH = [(*each, runner) for each in OTHERS for runner in ("batched", "single_agent")]
RUNS = [run for run in BOTH if run[0] != "popgym" or run[2] == "batched"]


@pytest.mark.parametrize("package, env, runner", RUNS, ids=[f"{env}-{runner}" for _, env, runner in RUNS])
def test_it_trains_and_is_evaluated(package, env, runner, tmp_path, capfd):
    pytest.importorskip(package)
    model = {key: value for key, value in MODEL.items() if key != "conv_filters" or package == "minigrid"}
    settings = {**SMALL, "env_runner_cls": runner, "model": model}
    options = ["--config", json.dumps(settings), *STOP, "--local-dir", str(tmp_path)]
    assert main(["train", "--run", "PPO", "--env", env, *options]) == 0
    assert ("mission left out" in capfd.readouterr().out) == (package == "minigrid")
    (folder,) = (each for each in tmp_path.iterdir() if each.is_dir())
    assert main(["evaluate", str(folder), "--episodes", "1"]) == 0


BOARD = """
from pettingzoo.classic import {game}
from ray.rllib.algorithms.{algorithm} import {config}
from ray.rllib.connectors.env_to_module import FlattenObservations
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.env.wrappers.pettingzoo_env import PettingZooEnv

from rllib_stpn import recurrent_spec


class Board(PettingZooEnv):
    def __init__(self, context):
        super().__init__({game}.env())


def flat(env=None, spaces=None, device=None):
    return FlattenObservations(multi_agent=True)


specs = {{f"player_{{number}}": recurrent_spec(layer, hidden_size=8, max_seq_len=5) for number, layer in {layers}}}
config = {config}().environment(Board).env_runners(num_env_runners={runners}, env_to_module_connector=flat)
config.multi_agent(policies=set(specs), policy_mapping_fn=lambda agent, episode, **kwargs: agent)
config.rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs=specs))
config.training(train_batch_size_per_learner=64)
if {runners} == 0:
    config.training(minibatch_size=32, num_epochs=1)
config.reporting(min_sample_timesteps_per_iteration=100)
stop = {{"training_iteration": 2}}
"""


@pytest.mark.parametrize(
    "algorithm, config", [("ppo", "PPOConfig"), ("impala", "IMPALAConfig"), ("appo", "APPOConfig")]
)
@pytest.mark.parametrize("game, first", [("tictactoe_v3", 1), ("connect_four_v3", 0)])
def test_two_players_with_different_layers_train(game, first, algorithm, config, tmp_path, monkeypatch, capsys):
    pytest.importorskip("pettingzoo.classic")
    monkeypatch.chdir(tmp_path)
    layers, runners = [(first, "stpn"), (3 - first if first else 1, "lstm")], int(algorithm != "ppo")
    text = BOARD.format(game=game, algorithm=algorithm, config=config, layers=layers, runners=runners)
    (tmp_path / "board.py").write_text(text)
    assert main(["train", "file", "board.py", "--local-dir", str(tmp_path / "out")]) == 0
    (results,) = (tmp_path / "out").rglob("result.json")
    assert json.loads(results.read_text().splitlines()[-1])["env_runners"]["num_env_steps_sampled"] > 0
    assert main(["evaluate", str(results.parent), "--episodes", "2"]) == 0
    told = capsys.readouterr().out
    assert all(f"of player_{number}" in told for number, _ in layers)
