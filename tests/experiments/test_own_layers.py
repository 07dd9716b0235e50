"""Layers of the user's own in the files of experiments: found, checked before Ray starts, and registered."""

import sys

import pytest

from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import neighbours
from rllib_stpn.experiments.building import build_config
from rllib_stpn.experiments.loading import load
from rllib_stpn.experiments.validation import check
from tests.own_layers import Wide

FILE = """\
own:
  env: CartPole-v1
  run: PPO
  stop: {{training_iteration: 1}}
  config:
    num_env_runners: 0
    train_batch_size: 64
    minibatch_size: 64
    model: {{custom_model: {layer}, custom_model_config: {{hidden_size: 4}}, max_seq_len: 4}}
    {more}
"""


@pytest.fixture(autouse=True)
def search_path(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(neighbours, "_directories", [])


@pytest.fixture
def checked(write):
    def checked(layer, more=""):
        (experiment,) = load(write(FILE.format(layer=layer, more=more)))
        return check(experiment)

    return checked


def test_a_file_names_a_layer_of_a_module_beside_it(write, checked, tmp_path):
    write("from tests.own_layers import Wide\n\n\nclass Beside(Wide):\n    pass\n", "beside_the_file.py")
    experiment = checked("beside_the_file.Beside")
    config = build_config("PPO", experiment.config)
    assert config.rl_module_spec.model_config["custom_model"] == "beside_the_file.Beside"
    assert neighbours.job_config()._py_driver_sys_path == [str(tmp_path)]  # where Ray's processes look, too
    assert not experiment.notes


def test_a_file_names_an_environment_of_a_module_beside_it(write, tmp_path):
    write(
        "from gymnasium.envs.classic_control import CartPoleEnv\n\n\nclass Env(CartPoleEnv):\n"
        "    def __init__(self, context):\n        super().__init__()\n",
        "environment_beside_the_file.py",
    )
    text = FILE.format(layer="stpn", more="").replace("CartPole-v1", "environment_beside_the_file.Env")
    (experiment,) = load(write(text))
    assert not check(experiment).notes


def test_a_note_tells_what_a_layer_breaks(checked):
    (note,) = checked("tests.own_layers.IgnoresResets").notes
    assert "own: model: IgnoresResets: is_first: with a reset at step 0 the outputs are not those of a sequence" in note


@pytest.mark.parametrize(
    "layer, more, message",
    [
        ("tests.own_layers.Fails", "", "own: Fails: a call without a state: raised RuntimeError: .*own_layers.py:"),
        ("tests.own_layers.Wyde", "", r"own: .*custom_model: 'tests.own_layers.Wyde'.*did you mean Wide\?"),
        (
            "not_beside.Layer",
            "",
            "own: .*custom_model: 'not_beside.Layer' cannot be imported: No module named 'not_beside'",
        ),
        ("tests.own_layers.NoLayer", "", "own: .*got 'tests.own_layers.NoLayer', allowed are"),
        ("tests.own_layers.Wide", "callbacks: energy", "own: Wide: got a layer that leaves its energy out, allowed is"),
        (
            "tests.own_layers.Wide",
            "evaluation_config: {callbacks: {energy: {every_n_steps: 2}}}",
            "own: Wide: got a layer that leaves its energy out",
        ),
    ],
)
def test_what_cannot_run_is_refused_before_ray_starts(checked, layer, more, message):
    with pytest.raises(UsageError, match=message):
        checked(layer, more)


def test_constructors_that_fail_are_told_with_the_sizes_of_the_experiment(write):
    text = FILE.format(layer="tests.own_layers.EvenInputs", more="")
    (experiment,) = load(write(text))
    assert not check(experiment).notes  # CartPole shows four numbers
    (experiment,) = load(write(text.replace("CartPole-v1", "Pendulum-v1")))
    told = "EvenInputs: its constructor failed with input_size=3, hidden_size=4: ValueError: heads need an even number"
    with pytest.raises(UsageError, match=told):
        check(experiment)


OLD_STACK = "enable_rl_module_and_learner: false\n    enable_env_runner_and_connector_v2: false"


def test_the_old_stack_makes_it_by_its_path(checked):
    experiment = checked("tests.own_layers.Wide", OLD_STACK)
    assert experiment.config["model"]["custom_model"] == "tests.own_layers.Wide"  # what reports read
    config = build_config("PPO", experiment.config)
    config.environment("CartPole-v1").env_runners(num_env_runners=0)
    algo = config.build_algo()
    assert type(algo.get_policy().model.rl_module.encoder.encoder.layer) is Wide
    algo.stop()


def test_the_old_stack_refuses_what_is_no_layer_and_no_model(checked):
    with pytest.raises(UsageError, match=r"own: model: custom_model: 'tests.own_layers.Wyde'.*did you mean Wide\?"):
        checked("tests.own_layers.Wyde", OLD_STACK)
    checked("ray.rllib.models.torch.fcnet.FullyConnectedNetwork", OLD_STACK)  # RLlib's own kind of path
