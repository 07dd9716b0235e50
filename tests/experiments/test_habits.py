"""What users add to a config beside the model: what cannot work is refused before Ray starts."""

import functools

import numpy as np
import pytest
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.connectors.env_to_module.frame_stacking import FrameStackingEnvToModule
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.examples.rl_modules.classes.lstm_containing_rlm import LSTMContainingRLModule

from rllib_stpn import EnergyMetricsCallback, recurrent_spec, use_batched_rollouts
from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import compatibility
from rllib_stpn.experiments.building import build_config


class New(RLlibCallback):
    def on_episode_end(self, *, episode, metrics_logger, **kwargs):
        """As the new API stack calls it."""


class Old(RLlibCallback):
    def on_episode_step(self, *, worker, base_env, episode, **kwargs):
        """As the old API stack calls it."""


class Short(RLlibCallback):
    def on_train_result(self, *, algorithm, result):
        """Without metrics_logger."""


class Never(RLlibCallback):
    def on_learn_on_batch(self, *, policy, train_batch, result, **kwargs):
        """Of the old API stack."""


class Piece(ConnectorV2):
    """On episodes."""

    def __call__(self, *, batch, **kwargs):
        return batch


def config():
    made = PPOConfig().environment("CartPole-v1").env_runners(num_env_runners=0)
    return made.rl_module(rl_module_spec=recurrent_spec("stpn", hidden_size=4, max_seq_len=4))


def notes_on(made):
    return compatibility.check(build_config("PPO", {}, made), prepared=False, known={})


@pytest.mark.parametrize(
    "given",
    [New, [New, functools.partial(EnergyMetricsCallback, every_n_steps=2)], RLlibCallback],
    ids=["one", "two", "none"],
)
def test_callbacks_that_rllib_can_call_are_taken(given):
    assert notes_on(config().callbacks(given)) == []


@pytest.mark.parametrize(
    "given, message",
    [
        ({"callbacks_class": Old}, "Old.on_episode_step: missing a required argument: 'worker'; passed are episode"),
        (
            {"callbacks_class": [New, Short]},
            "Short.on_train_result: got an unexpected keyword argument 'metrics_logger'",
        ),
        ({"on_episode_end": lambda base_env, **kwargs: None}, "on_episode_end=<lambda>: missing .* 'base_env'"),
        ({"on_episode_start": [New().on_episode_end, lambda episode: None]}, "on_episode_start=<lambda>: got an unexp"),
    ],
)
def test_callbacks_that_rllib_cannot_call_are_refused(given, message):
    with pytest.raises(UsageError, match=f"callbacks: {message}"):
        notes_on(config().callbacks(**given))
    if "callbacks_class" in given:
        with pytest.raises(UsageError, match=f"callbacks: {message}"):
            notes_on(config().evaluation(evaluation_config=given))


def test_callbacks_that_are_never_called_are_named():
    (note,) = notes_on(config().callbacks(Never))
    assert note == "callbacks: Never.on_learn_on_batch is never called: it is of the old API stack"


@pytest.mark.parametrize("where", ["callbacks_class", "evaluation_config"])
def test_a_file_names_callbacks_by_their_path(where):
    def built(value):
        value = {"callbacks_class": value} if where == "evaluation_config" else value
        return build_config("PPO", {"env": "CartPole-v1", where: value})

    def classes(made):
        return made.evaluation_config["callbacks_class"] if where == "evaluation_config" else made.callbacks_class

    assert classes(built("ray.rllib.callbacks.callbacks.RLlibCallback")) is RLlibCallback
    energy, own = classes(built(["energy", "ray.rllib.callbacks.callbacks.RLlibCallback"]))
    assert (energy.func, own) == (EnergyMetricsCallback, RLlibCallback)
    for wrong, message in {
        "nowhere.Mine": "callbacks: 'nowhere.Mine' cannot be imported",
        "gymnasium.Env": "callbacks: got gymnasium.Env, allowed is a class derived from RLlib's RLlibCallback",
        "mine": "callbacks: got 'mine', allowed are 'energy', .*the path of a class",
    }.items():
        with pytest.raises(UsageError, match=message):
            built(wrong)


def own_module(made):
    spec = RLModuleSpec(module_class=LSTMContainingRLModule, model_config={"lstm_cell_size": 4, "dense_layers": [4]})
    return made.rl_module(rl_module_spec=spec)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda c: c.env_runners(env_to_module_connector=lambda *a, **k: Piece()),
            "connector Piece: cannot run batched",
        ),
        (
            lambda c: c.env_runners(module_to_env_connector=lambda *a, **k: Piece()),
            "connector Piece: cannot run batched",
        ),
        (lambda c: c.learners(learner_connector=Piece), "got the learner connector Piece, allowed is none"),
        (own_module, "LSTMContainingRLModule with a recurrent encoder that is not ours"),
        (
            lambda c: c.rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs={"a": c.rl_module_spec, "b": None})),
            r"got a MultiRLModuleSpec \(a, b\), allowed is the spec of one module",
        ),
    ],
    ids=["env_to_module", "module_to_env", "learner", "module", "modules"],
)
def test_what_cannot_run_batched_is_refused_and_runs_on_rllibs_own_runner(change, message):
    made = config()
    made = change(made) or made
    assert notes_on(made) == []
    with pytest.raises(UsageError, match=message):
        notes_on(change(use_batched_rollouts(config())))


def test_connectors_for_other_observations_are_refused():
    def stacked(env, spaces, device):
        assert env is None or env.single_observation_space.shape == (4,)
        return FrameStackingEnvToModule(num_frames=2)

    with pytest.raises(UsageError, match="connectors: got observations Box.* which they do not take: AssertionError"):
        notes_on(config().env_runners(env_to_module_connector=stacked))


def test_connectors_that_want_the_environment_get_it():
    def reads(env, spaces, device):
        assert np.isfinite(env.single_observation_space.high[0])
        return Piece()

    assert notes_on(config().env_runners(env_to_module_connector=reads)) == []
