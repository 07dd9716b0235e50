"""Layers on RLlib's own env runners and learner connectors: what the learner computes is what the runner did."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.tune.registry import register_env
from torch.utils._pytree import tree_map

from rllib_stpn.algorithms import A2CConfig
from rllib_stpn.errors import UsageError
from rllib_stpn.layers import LAYERS
from rllib_stpn.models import recurrent_spec
from rllib_stpn.rollouts import ManyAgentsEnvRunner, thin_states
from tests.rollouts.scripted_env import make_scripted

MAX_SEQ_LEN = 4


class PacesEnv(MultiAgentEnv):
    """Two agents: "often" acts at every step, "seldom" at every third. Observations are known beforehand."""

    possible_agents = ["often", "seldom"]

    def __init__(self, config=None):
        super().__init__()
        self.agents = self.possible_agents
        self.observation_spaces = {agent: gym.spaces.Box(-10, 10, (3,), np.float32) for agent in self.agents}
        self.action_spaces = {agent: gym.spaces.Discrete(2) for agent in self.agents}
        self.episode = 0

    def reset(self, *, seed=None, options=None):
        self.episode, self.t = self.episode + 1, 0
        return self.observed(), {}

    def step(self, actions):
        assert set(actions) == ({"often", "seldom"} if self.t % 3 == 0 else {"often"})
        self.t += 1
        ends = self.t == 12 + self.episode
        observed = self.observed(everyone=ends)
        return observed, dict.fromkeys(observed, 1.0), {"__all__": ends}, {"__all__": False}, {}

    def observed(self, everyone=False):
        agents = ["often", "seldom"] if everyone or self.t % 3 == 0 else ["often"]
        return {
            agent: np.array([np.sin(self.t), len(agent) - 5, self.episode / 5], dtype=np.float32) for agent in agents
        }


def configured(layer, algorithm=PPOConfig, thin=True, shared=True, **training):
    register_env("scripted", make_scripted)
    return (
        algorithm()
        .environment("scripted")
        .env_runners(
            env_runner_cls=None,
            num_env_runners=0,
            num_envs_per_env_runner=3,
            rollout_fragment_length=10,
            module_to_env_connector=thin_states if thin else None,
        )
        .rl_module(rl_module_spec=recurrent_spec(layer, hidden_size=6, max_seq_len=MAX_SEQ_LEN, vf_share_layers=shared))
        .training(**training)
        .debugging(seed=0)
    )


def multi_agent(algorithm=PPOConfig):
    register_env("paces", PacesEnv)
    specs = {
        "often": recurrent_spec("stpn", hidden_size=6, max_seq_len=MAX_SEQ_LEN),
        "seldom": recurrent_spec("lstm", hidden_size=5, max_seq_len=MAX_SEQ_LEN, vf_share_layers=False),
    }
    config = configured("stpn", algorithm)
    return (
        config.environment("paces")
        .env_runners(num_envs_per_env_runner=1, env_runner_cls=ManyAgentsEnvRunner)
        .multi_agent(policies=set(specs), policy_mapping_fn=lambda agent, episode, **kwargs: agent)
        .rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs=specs))
    )


def runner_and_learner(config):
    """RLlib's env runner and learner with the same weights."""
    kind = ManyAgentsEnvRunner if config.is_multi_agent else SingleAgentEnvRunner
    runner = kind(config=config, worker_index=0)
    learner = config.build_learner(spaces=runner.get_spaces())
    weights = runner.module.get_state()
    learner.module.set_state(weights if config.is_multi_agent else {DEFAULT_MODULE_ID: weights})
    return runner, learner


def to_batch(learner, episodes):
    """The train batch; RLlib's connectors change the episodes, so they get copies."""
    return learner._learner_connector(
        rl_module=learner.module,
        batch={},
        episodes=copy.deepcopy(episodes),
        shared_data={},
        metrics=learner.metrics,
    )


def chunks(episodes):
    """The pieces of single agents' episodes as (whose, module, piece)."""
    for episode in episodes:
        if hasattr(episode, "agent_episodes"):
            for agent, piece in episode.agent_episodes.items():
                yield (episode.id_, agent), piece.module_id, piece
        else:
            yield episode.id_, DEFAULT_MODULE_ID, episode


def from_the_reset_on(module, observations):
    """Logits and values ``[T, ...]`` of a whole episode in one sequence from the initial state."""
    batch = {Columns.OBS: torch.from_numpy(np.stack(observations))[None]}
    batch[Columns.STATE_IN] = tree_map(lambda leaf: leaf[None], module.get_initial_state())
    with torch.no_grad():
        return module.forward_train(batch)[Columns.ACTION_DIST_INPUTS][0], module.compute_values(batch)[0]


def check_last_sample(samples, learner):
    """Compares the learner's logits and values at every step, the bootstrap's included, with whole episodes."""
    seen, expected = {}, {}
    for sample in samples:
        expected.clear()
        for whose, module_id, piece in chunks(sample):
            observations = seen.setdefault(whose, [])
            assert len(observations) in (0, piece.t_started + 1)
            observations[piece.t_started :] = list(piece.get_observations())
            if len(piece):
                logits, values = from_the_reset_on(learner.module[module_id], observations)
                expected.setdefault(module_id, []).append((logits[piece.t_started :], values[piece.t_started :]))
    batch = to_batch(learner, samples[-1])
    assert set(batch) == set(expected)
    for module_id, pieces in expected.items():
        columns, module = batch[module_id], learner.module[module_id]
        outputs = module.forward_train(columns)
        taken = torch.arange(MAX_SEQ_LEN) < columns[Columns.SEQ_LENS][:, None]  # [N, L]
        logits, values = (torch.cat(parts) for parts in zip(*pieces, strict=True))
        torch.testing.assert_close(outputs[Columns.ACTION_DIST_INPUTS][taken], logits, rtol=0, atol=1e-5)
        torch.testing.assert_close(module.compute_values(columns)[taken], values, rtol=0, atol=1e-5)
        counted = columns[Columns.LOSS_MASK]
        recorded = columns[Columns.ACTION_DIST_INPUTS][counted]
        torch.testing.assert_close(outputs[Columns.ACTION_DIST_INPUTS][counted], recorded, rtol=0, atol=1e-5)
        assert counted.sum() == sum(len(values) - 1 for _, values in pieces)


@pytest.mark.parametrize("thin", [True, False], ids=["thin", "whole"])
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "separate"])
@pytest.mark.parametrize("layer", ["stpn", "plastic_lstm"])
def test_the_learner_sees_the_state_that_the_runner_had_at_each_sequence(layer, shared, thin):
    runner, learner = runner_and_learner(configured(layer, thin=thin, shared=shared))
    samples = [runner.sample() for _ in range(4)]
    last = samples[-1]
    assert any(e.t_started and e.is_done for e in last) and any(e.t_started == 0 and e.is_done for e in last)
    assert any(len(e) > 2 * MAX_SEQ_LEN for sample in samples for e in sample)
    for upto in range(1, 5):
        check_last_sample(samples[:upto], learner)


@pytest.mark.parametrize("layer", sorted(set(LAYERS) - {"mlp"}))
def test_every_layer_does(layer):
    runner, learner = runner_and_learner(configured(layer))
    check_last_sample([runner.sample() for _ in range(2)], learner)


def test_agents_of_different_layers_and_paces_keep_their_states_apart():
    runner, learner = runner_and_learner(multi_agent())
    samples = [runner.sample() for _ in range(4)]
    for upto in range(1, 5):
        check_last_sample(samples[:upto], learner)


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "separate"])
def test_a_memoryless_layer_has_no_state_anywhere(shared):
    runner, learner = runner_and_learner(configured("mlp", shared=shared))
    assert not runner.module.is_stateful() and not learner.module[DEFAULT_MODULE_ID].is_stateful()
    sample = runner.sample()
    assert all(Columns.STATE_OUT not in episode.extra_model_outputs for episode in sample)
    columns = to_batch(learner, sample)[DEFAULT_MODULE_ID]
    assert Columns.STATE_IN not in columns
    outputs = learner.module[DEFAULT_MODULE_ID].forward_train(columns)[Columns.ACTION_DIST_INPUTS]
    counted = columns[Columns.LOSS_MASK]
    torch.testing.assert_close(outputs[counted], columns[Columns.ACTION_DIST_INPUTS][counted])


def test_episodes_hold_one_state_a_sequence():
    runner, _ = runner_and_learner(configured("stpn"))
    for episode in [e for _ in range(3) for e in runner.sample()]:
        for leaf in episode.extra_model_outputs[Columns.STATE_OUT].data.values():
            if len(episode) > 1:
                kept = [row for row in leaf.rows if row is not None]
                assert len(kept) <= len(episode) // MAX_SEQ_LEN + 2  # the last one and the one before the episode
                assert all(row.base is None for row in kept)  # nobody else's states are kept alive


def test_a_state_that_was_not_kept_is_named():
    runner, learner = runner_and_learner(configured("stpn"))
    episode = max(runner.sample(), key=len)
    assert len(to_batch(learner, [episode.slice(slice(MAX_SEQ_LEN, None), len_lookback_buffer=1)])) == 1
    with pytest.raises(UsageError, match="thin_states: state.*was not kept.*num_learners"):
        to_batch(learner, [episode.slice(slice(MAX_SEQ_LEN - 1, None), len_lookback_buffer=1)])


def test_thinned_episodes_survive_pickling():
    runner, learner = runner_and_learner(configured("stpn"))
    runner.sample()
    sample = runner.sample()
    direct, pickled = to_batch(learner, sample), to_batch(learner, pickle.loads(pickle.dumps(sample)))
    for name, leaf in direct[DEFAULT_MODULE_ID][Columns.STATE_IN].items():
        torch.testing.assert_close(pickled[DEFAULT_MODULE_ID][Columns.STATE_IN][name], leaf)


@pytest.mark.parametrize("layer", sorted(set(LAYERS) - {"mlp"}))
def test_padding_is_spared_without_a_trace(layer):
    module = configured(layer).rl_module_spec
    module.observation_space, module.action_space = gym.spaces.Box(-1, 1, (3,)), gym.spaces.Discrete(2)
    module = module.build()
    lengths = torch.tensor([9, 1, 5, 2, 9, 1])
    columns = {
        Columns.OBS: torch.randn(6, 9, 3),
        Columns.STATE_IN: tree_map(lambda leaf: torch.randn(6, *leaf.shape), module.get_initial_state()),
    }
    inside = torch.arange(9) < lengths[:, None]
    results = []
    for batch in (columns, {**columns, Columns.SEQ_LENS: lengths}):
        module.zero_grad()
        logits = module.forward_train(batch)[Columns.ACTION_DIST_INPUTS][inside]
        logits.square().sum().backward()
        results.append([logits, *(p.grad for name, p in module.named_parameters() if not name.startswith("vf"))])
    for plain, spared in zip(*results, strict=True):
        torch.testing.assert_close(spared, plain)


@pytest.mark.parametrize("bootstrap", [True, False], ids=["bootstrap", "no_bootstrap"])
def test_a2c_gets_the_returns_of_rllibs_episodes(bootstrap):
    gamma = 0.5
    config = configured("stpn", A2CConfig, gamma=gamma, bootstrap_truncated=bootstrap)
    runner, learner = runner_and_learner(config)
    sample = runner.sample()
    columns = to_batch(learner, sample)[DEFAULT_MODULE_ID]
    module, expected = learner.module[DEFAULT_MODULE_ID], []
    for episode in sample:
        _, values = from_the_reset_on(module, list(episode.get_observations()))
        goes_on = not episode.is_terminated and (bootstrap or not episode.is_truncated)
        running, targets = float(values[-1]) if goes_on else 0.0, []
        for reward in reversed(episode.get_rewards()):
            running = float(reward) + gamma * running
            targets.append(running)
        expected += reversed(targets)
    assert any(e.is_truncated for e in sample) and any(e.is_terminated for e in sample)
    torch.testing.assert_close(
        columns["value_targets"][columns[Columns.LOSS_MASK]], torch.tensor(expected), rtol=1e-5, atol=1e-5
    )


def test_a2c_forgets_states_by_itself():
    runner, _ = runner_and_learner(configured("stpn", A2CConfig, thin=False))
    states = max(runner.sample(), key=len).extra_model_outputs[Columns.STATE_OUT].data
    assert any(row is None for row in states["F"].rows)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"F": (2, 3, 9), "h": (2, 6)}, r"stpn: state: got shapes .*\(2, 3, 9\).*allowed is a dict of shapes"),
        ({"h": (2, 6)}, "stpn: state: got shapes .*allowed is a dict of shapes"),
        (None, "model stpn: got no state_in, allowed is a dict of"),
    ],
    ids=["shape", "leaf", "missing"],
)
def test_a_wrong_state_is_named(wrong, message):
    runner, _ = runner_and_learner(configured("stpn"))
    batch = {Columns.OBS: torch.zeros(2, 1, 3)}
    if wrong is not None:
        batch[Columns.STATE_IN] = {name: torch.zeros(*shape) for name, shape in wrong.items()}
    with pytest.raises(UsageError, match=message):
        runner.module.forward_exploration(batch)
