"""Looking inside a trained STPN: ``results/inside.py``."""

import json
import runpy
from pathlib import Path

import pytest
import torch
from ray.rllib.algorithms.ppo import PPOConfig

from rllib_stpn import recurrent_spec, use_batched_rollouts
from rllib_stpn.layers import STPN
from rllib_stpn.supervised import Supervised

INSIDE = Path(__file__).parents[1] / "results/inside.py"


@pytest.fixture
def inside(monkeypatch):
    found = runpy.run_path(str(INSIDE))
    variables = found["save"].__globals__
    monkeypatch.setitem(variables, "SEQUENCES", 200)
    return found


def test_a_decoder_reads_what_is_there_and_nothing_else(inside):
    labels = torch.arange(2000) % 10
    noise = torch.randn(2000, 20, generator=torch.Generator().manual_seed(0))
    assert inside["decoded"](noise, labels) < 0.3
    noise[:, :10] += 10 * torch.nn.functional.one_hot(labels, 10)
    assert inside["decoded"](noise, labels) == 1


def test_the_state_is_cut_and_frozen_where_it_says(inside):
    torch.manual_seed(0)
    layer, inputs = STPN(3, 4, gamma_init_scale=1.0), torch.randn(2, 6, 3)

    def weights(change):
        with torch.no_grad():
            return [state["F"] for _, state in inside["states_of"](layer, inputs, change)]

    whole, cut, frozen = weights(None), weights(inside["without"]("F", 2)), weights(inside["frozen"](2))
    assert all(torch.equal(a, b) for a, b in zip(whole[:2], cut[:2], strict=True))
    assert [bool(F.any()) for F in cut] == [True, True, False, True, True, True]
    assert not torch.equal(whole[1], whole[2])
    assert all(torch.equal(F, whole[1]) for F in frozen[2:])
    outputs = torch.stack([output for output, _ in inside["states_of"](layer, inputs)], 1)
    torch.testing.assert_close(outputs, layer(inputs)[0])


def test_a_figure_and_its_numbers_of_associative_retrieval(inside, tmp_path):
    sizes = {"train_size": 256, "validation_size": 64, "test_size": 64}
    model = {"custom_model": "stpn", "custom_model_config": {"hidden_size": 4}}
    trainable = Supervised({"task": "associative_retrieval", "task_config": sizes, "model": model, "seed": 0})
    trainable.train()
    (tmp_path / "checkpoint").mkdir()
    trainable.save_checkpoint(str(tmp_path / "checkpoint"))
    inside["retrieval"](tmp_path / "checkpoint", tmp_path / "out")
    numbers = json.loads((tmp_path / "out/retrieval.json").read_text())
    assert [len(curve) for curve in numbers["decoded"]["F"]] == [9, 9, 9]
    assert len(numbers["energy"]) == 9 and min(numbers["energy"]) > 0
    assert (tmp_path / "out/retrieval.png").stat().st_size > 10_000


def test_a_figure_and_its_numbers_of_the_maze(inside, tmp_path, ray_session):
    config = (
        PPOConfig()
        .environment("stpn_envs:stpn/Maze-v0", env_config={"episode_length": 12})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=2, rollout_fragment_length=12)
        .training(train_batch_size=24, minibatch_size=24, num_epochs=1)
        .rl_module(rl_module_spec=recurrent_spec("stpn", hidden_size=4, max_seq_len=12))
    )
    algo = use_batched_rollouts(config).build_algo()
    try:
        algo.save_to_path(tmp_path / "checkpoint")
    finally:
        algo.stop()
    inside["maze"](tmp_path / "checkpoint", tmp_path / "out", envs=3)
    numbers = json.loads((tmp_path / "out/maze.json").read_text())
    assert len(numbers["energy"]) == 12
    assert "F set to zero after step 6" in numbers
    assert (tmp_path / "out/maze.png").stat().st_size > 10_000
