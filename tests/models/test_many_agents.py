"""Agents that act in turns, come and go, and share a policy: what is learned from is what they did and remembered."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from ray.tune.registry import register_env

from rllib_stpn.models import recurrent_spec
from rllib_stpn.rollouts import ManyAgentsEnvRunner, thin_states
from tests.models.test_stock import MAX_SEQ_LEN, chunks, from_the_reset_on, runner_and_learner, to_batch


class _AgentsEnv(MultiAgentEnv):
    """Agents whose observations are known beforehand; ``acts(t)`` tells who acts at a step."""

    possible_agents = ["a", "b", "c"]

    def __init__(self, config=None):
        super().__init__()
        self.agents = list(self.possible_agents)
        self.observation_spaces = {agent: gym.spaces.Box(-10, 10, (3,), np.float32) for agent in self.agents}
        self.action_spaces = {agent: gym.spaces.Discrete(2) for agent in self.agents}
        self.episode = 0

    def reset(self, *, seed=None, options=None):
        self.episode, self.t = self.episode + 1, 0
        return self.observed(self.acts(0)), {}

    def step(self, actions):
        assert set(actions) == set(self.acts(self.t))
        gone = self.goes(self.t)
        self.t += 1
        ends = self.t == 9 + self.episode % 4
        present = self.agents_at(self.t) if ends else [*self.acts(self.t), *gone]
        observed = self.observed(dict.fromkeys(present))
        left = dict.fromkeys(gone, True)
        return observed, dict.fromkeys(observed, 1.0), {**left, "__all__": ends}, {"__all__": False}, {}

    def observed(self, agents):
        return {
            agent: np.array([np.sin(self.t + ord(agent)), self.episode / 5, self.t / 5], np.float32) for agent in agents
        }

    def acts(self, t):
        return [self.agents_at(t)[t % len(self.agents_at(t))]]

    def agents_at(self, t):
        return self.possible_agents

    def goes(self, t):
        return []


class TurnsEnv(_AgentsEnv):
    """Three agents act one after the other."""


class AnyOrderEnv(_AgentsEnv):
    """One or two of three agents act at a step, in an order that differs from episode to episode."""

    def acts(self, t):
        order = np.random.default_rng(100 * self.episode + t).permutation(3)[: 1 + t % 2]
        return [self.agents[i] for i in sorted(order)]


class ComingAndGoingEnv(_AgentsEnv):
    """All that are there act: "a" always, "b" until step 5, "c" from step 3 on."""

    def acts(self, t):
        return self.agents_at(t)

    def agents_at(self, t):
        return [agent for agent in "abc" if agent == "a" or (agent == "b" and t < 5) or (agent == "c" and t >= 3)]

    def goes(self, t):
        return ["b"] if t == 4 else []


ENVIRONMENTS = {"turns": TurnsEnv, "any_order": AnyOrderEnv, "coming_and_going": ComingAndGoingEnv}


def configured(env, shared, fragment, algorithm=PPOConfig, connector=thin_states, **training):
    register_env(env, ENVIRONMENTS[env])
    layers = {"one": "stpn"} if shared else {"one": "stpn", "other": "lstm"}
    specs = {
        name: recurrent_spec(layer, hidden_size=5, max_seq_len=MAX_SEQ_LEN, vf_share_layers=name == "one")
        for name, layer in layers.items()
    }

    def policy_of(agent, episode, **kwargs):
        return "one" if shared or agent == "a" else "other"

    return (
        algorithm()
        .environment(env)
        .env_runners(
            env_runner_cls=ManyAgentsEnvRunner,
            num_env_runners=0,
            num_envs_per_env_runner=1,
            rollout_fragment_length=fragment,
            module_to_env_connector=connector,
        )
        .multi_agent(policies=set(specs), policy_mapping_fn=policy_of)
        .rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs=specs))
        .training(**training)
        .debugging(seed=0)
    )


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "two_policies"])
@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_every_step_has_its_own_outputs_and_state(env, shared):
    runner, learner = runner_and_learner(configured(env, shared, 3, connector=thin_states if shared else None))
    seen, counted_steps, steps = {}, 0, 0
    for _ in range(8):
        sample = runner.sample(num_timesteps=3, explore=True)
        expected = {}
        for whose, module_id, piece in chunks(sample):
            observations = seen.setdefault(whose, [])
            observations[piece.t_started :] = list(piece.get_observations())
            if len(piece):
                logits, _ = from_the_reset_on(learner.module[module_id], observations)
                expected.setdefault(module_id, []).append(logits[piece.t_started : -1])
                steps += len(piece)
        for module_id, columns in to_batch(learner, sample).items():
            counted = columns[Columns.LOSS_MASK]
            learned = learner.module[module_id].forward_train(columns)[Columns.ACTION_DIST_INPUTS][counted]
            recorded = columns[Columns.ACTION_DIST_INPUTS][counted]
            torch.testing.assert_close(learned, recorded, rtol=0, atol=1e-5)
            right = torch.cat(expected[module_id])
            assert len(learned) == len(right)
            # RLlib may have another order of the agents than the episode.
            assert torch.cdist(learned, right).min(1).values.max() < 1e-4
            counted_steps += int(counted.sum())
    assert counted_steps == steps > 10
