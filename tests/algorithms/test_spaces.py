"""Environments of every space that a model can take: training on both env runners, and the trained agent."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from ray.tune import register_env

import rllib_stpn
from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import compatibility
from rllib_stpn.experiments.building import build_config
from tests.models.test_spaces import ACTIONS, BOX, OBSERVATIONS
from tests.trained_agent import trained_agent

WITH_TEXT = spaces.Dict({"mission": spaces.Text(9), "direction": spaces.Discrete(4, start=1), "image": BOX})
OF_RLLIB = {"use_lstm": True, "lstm_cell_size": 4, "fcnet_hiddens": [4], "max_seq_len": 4}
PAIRS = [
    *zip(OBSERVATIONS.values(), [*ACTIONS.values(), spaces.Discrete(2), spaces.Discrete(2)], strict=True),
    (WITH_TEXT, spaces.Tuple([spaces.Discrete(2), spaces.MultiDiscrete([2, 3])])),
]
IDS = [*(f"{o}-{a}" for o, a in zip(OBSERVATIONS, [*ACTIONS, "2", "2"], strict=True)), "text-tuple"]


class Sampled(gym.Env):
    """Observations drawn from a space; takes no action but those of another."""

    def __init__(self, observations, actions):
        self.observation_space, self.action_space = observations, actions

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        for part, space in zip(_leaves(action), _leaves(self.action_space), strict=True):
            part = np.asarray(part, space.dtype) if isinstance(space, spaces.Box) and space.dtype.kind == "f" else part
            assert space.contains(part), f"{action!r} is not in {self.action_space}"
        self.t += 1
        return self.observation_space.sample(), 1.0, False, self.t >= 7, {}


def _leaves(value):
    value = value.spaces if isinstance(value, (spaces.Dict, spaces.Tuple)) else value
    if isinstance(value, dict):
        return [leaf for key in sorted(value) for leaf in _leaves(value[key])]
    return [leaf for each in value for leaf in _leaves(each)] if isinstance(value, tuple | list) else [value]


def settings(model=None, **others):
    model = model or {"custom_model": "stpn", "custom_model_config": {"hidden_size": 4}, "max_seq_len": 4}
    return {"env": "sampled", "num_env_runners": 0, "num_envs_per_env_runner": 3, "model": model, **others}


def of(run, observations, actions, **others):
    register_env("sampled", lambda context: Sampled(observations, actions))
    return build_config(run, settings(**others))


def notes_on(config, prepared=True):
    return compatibility.check(config, prepared, {})


@pytest.mark.parametrize("runner", ["batched", "single_agent"])
@pytest.mark.parametrize("observations, actions", PAIRS, ids=IDS)
def test_it_trains_and_the_agent_acts(observations, actions, runner, ray_session, tmp_path):
    short = {"train_batch_size": 30, "minibatch_size": 15, "num_epochs": 1, "env_runner_cls": runner}
    config = of("PPO", observations, actions, **short)
    assert notes_on(config) == (
        ["observations: mission left out, a text that no model reads"] if observations is WITH_TEXT else []
    )
    agent = trained_agent(config, tmp_path)
    assert (agent.observation_space, agent.action_space) == (observations, actions)
    env = agent.make_env(num_envs=2)
    state, first = None, np.ones(2, bool)
    observed, _ = env.reset(seed=0)
    for step in range(4):
        acted, state = agent.step(observed, state, first, explore=step % 2 == 0)
        observed, _, terminated, truncated, _ = env.step(acted)  # asserts that the actions are the environment's
        first = terminated | truncated


@pytest.mark.parametrize("run", ["PPO", "A2C"])
@pytest.mark.parametrize("runner", ["batched", "single_agent"])
def test_deviations_that_are_parameters_train_with_memory(run, runner, ray_session):
    options = {"custom_model": "gru", "custom_model_config": {"hidden_size": 4}, "free_log_std": True, "max_seq_len": 4}
    short = {"train_batch_size": 30, "rollout_fragment_length": 10}
    short |= {"minibatch_size": 15, "num_epochs": 1} if run == "PPO" else {}
    models = [options] if runner == "batched" else [options, {**OF_RLLIB, "free_log_std": True}]
    for model in models:
        algo = of(run, BOX, BOX, model=model, env_runner_cls=runner, lr=0.1, **short).build_algo()
        try:
            before = algo.get_module().pi.log_std.tolist()
            algo.train()
            assert algo.learner_group._learner.module["default_policy"].pi.log_std.tolist() != before
        finally:
            algo.stop()


@pytest.mark.parametrize("layer", ["stpn", "lstm", "mlp", "hebbff"])
def test_deviations_that_are_parameters_are_the_same_at_every_step(layer):
    import torch

    spec = rllib_stpn.recurrent_spec(layer, hidden_size=4, free_log_std=True)
    spec.observation_space, spec.action_space = BOX, BOX
    module = spec.build()
    batch = {"obs": torch.randn(3, 5, 2)}
    if module.is_stateful():
        batch["state_in"] = {name: leaf.expand(3, *leaf.shape) for name, leaf in module.get_initial_state().items()}
    logits = module.forward_train(batch)["action_dist_inputs"]
    assert logits.shape == (3, 5, 4)
    assert (logits[..., 2:] == module.pi.log_std).all()


@pytest.mark.parametrize(
    "observations, actions, named",
    [
        (spaces.Sequence(BOX), BOX, "observation space: got Sequence"),
        (spaces.Text(4), BOX, "observation space: got Text"),
        (BOX, spaces.Box(0, 10**9, (2,), np.int64), "action space: got Box"),
        (BOX, spaces.Dict({"a": spaces.Text(3)}), "action space: got Text"),
        (spaces.Box(0, 255, (7, 9, 3), np.uint8), BOX, "has no model for observations Box"),
    ],
)
@pytest.mark.parametrize("model", [None, OF_RLLIB], ids=["layer", "of RLlib"])
def test_what_no_model_takes_is_refused_before_ray_starts(observations, actions, named, model):
    with pytest.raises(UsageError, match=named) as refused:
        notes_on(of("PPO", observations, actions, model=model, env_runner_cls="single_agent"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("run", ["SAC", "CQL", "IQL", "DreamerV3"])
@pytest.mark.parametrize("model, named", [(None, "custom_model 'stpn'"), (OF_RLLIB, "use_lstm")])
def test_algorithms_without_our_layers_are_refused_and_others_named(run, model, named):
    others = "PPO, A2C, APPO, IMPALA, DQN, BC, MARWIL"
    with pytest.raises(UsageError, match=f"run: got {run} with {named}, allowed are {others}"):
        notes_on(of(run, BOX, BOX, model=model))


@pytest.mark.parametrize("run", ["PPO", "A2C", "APPO", "IMPALA", "DQN", "BC", "MARWIL"])
def test_the_algorithms_named_take_a_layer(run):
    assert notes_on(of(run, BOX, spaces.Discrete(2))) == []


@pytest.mark.parametrize("model", [None, OF_RLLIB, {"fcnet_hiddens": [4]}], ids=["layer", "use_lstm", "mlp"])
@pytest.mark.parametrize("kind", ["binary", "digits", "matrix", "nested"])
def test_dqn_has_a_value_for_each_choice(kind, model):
    with pytest.raises(UsageError, match="run: got DQN with actions .*, allowed is Discrete: .* PPO, A2C") as refused:
        notes_on(of("DQN", BOX, ACTIONS[kind], model=model))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("run", ["BC", "MARWIL"])
@pytest.mark.parametrize("kind", ["from 10", "digits", "binary", "matrix", "nested"])
def test_recorded_observations_are_those_that_the_model_saw(run, kind):
    config = of(run, OBSERVATIONS[kind], spaces.Discrete(2), input_="recorded")
    assert config.observation_space.shape == (spaces.flatdim(OBSERVATIONS[kind]),)
    assert config.action_space == spaces.Discrete(2)


def test_algorithms_that_learn_from_actions_of_others_count_them_from_0():
    config = of("DQN", BOX, spaces.Discrete(2, start=1), model={"fcnet_hiddens": [4]})
    with pytest.raises(UsageError, match=r"DQN with actions that do not begin at 0 \(Discrete\(2, start=1\)\)"):
        notes_on(config)


def test_an_environment_that_cannot_be_made_here_is_left_to_the_run():
    def fails(context):
        raise OSError("no simulator")

    register_env("sampled", fails)
    assert notes_on(build_config("PPO", settings())) == []


def test_each_environment_is_made_once():
    made = []

    def count(**arguments):
        made.append(arguments)
        return Sampled(BOX, spaces.Discrete(2))

    gym.register("test/Counted-v0", count)
    known = {}
    for change in ({"lr": 0.1}, {"lr": 0.2}, {"env_config": {"size": 2}}):
        compatibility.check(build_config("PPO", settings(**change) | {"env": "test/Counted-v0"}), True, known)
    assert made == [{}, {"size": 2}]


@pytest.mark.parametrize("run", ["PPO", "IMPALA", "DQN"])
def test_an_environment_of_several_agents_needs_policies(run):
    from ray.rllib.examples.envs.classes.multi_agent import MultiAgentCartPole

    register_env("several", lambda context: MultiAgentCartPole({"num_agents": 2}))
    with pytest.raises(UsageError, match="env: 'several' has several agents: their policies, .* in a Python file"):
        notes_on(build_config(run, {"env": "several"}))


def test_filters_for_what_is_flattened_are_named():
    image = spaces.Box(0, 255, (8, 8, 3), np.uint8)
    filters = {"conv_filters": [[4, 4, 2]], "fcnet_hiddens": [4]}
    together = of("PPO", spaces.Dict(image=image, speed=BOX), spaces.Discrete(2), model=filters)
    assert notes_on(together) == [
        "model: conv_filters has no effect: observations of a Dict are flattened, pixels as they are"
    ]
    assert "of a Box" in notes_on(of("PPO", BOX, spaces.Discrete(2), model=filters))[0]
    assert notes_on(of("PPO", image, spaces.Discrete(2), model=filters)) == []


def test_a_python_file_hears_of_rllibs_filter_and_its_actions_from_0():
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.connectors.env_to_module import MeanStdFilter

    register_env("sampled", lambda context: Sampled(BOX, spaces.Discrete(2, start=3)))
    config = PPOConfig().environment("sampled")
    config.env_runners(num_env_runners=1, env_to_module_connector=lambda env, spaces, device: MeanStdFilter())
    filtered, begins = notes_on(config, prepared=False)
    assert "rllib_stpn.rollouts.MeanStdFilter" in filtered
    assert "Discrete(2, start=3)" in begins
    assert notes_on(rllib_stpn.use_batched_rollouts(config), prepared=False) == []
