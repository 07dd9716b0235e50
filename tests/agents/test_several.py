"""Agents that were trained together: all of them are played as RLlib's env runner plays them, and each policy alone."""

import json

import pytest
import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.connectors.env_to_module import FlattenObservations

import rllib_stpn
import tests.models.test_many_agents as many
from rllib_stpn.agents import agent_files
from rllib_stpn.agents.agent import read
from rllib_stpn.agents.several import SeveralAgents, of_policy
from rllib_stpn.cli.main import main
from rllib_stpn.errors import RolloutError, UsageError


class _Paying:
    """Every episode is the same; an agent is paid for action 1, as much as it saw and more the later."""

    def reset(self, *, seed=None, options=None):
        self.episode = 0
        return super().reset(seed=seed, options=options)

    def step(self, actions):
        observed, rewards, *rest = super().step(actions)
        paid = {agent: float(action * (self.t + ord(agent) % 7)) for agent, action in actions.items()}
        return observed, dict.fromkeys(rewards, 0.0) | paid, *rest


class Turns(_Paying, many.TurnsEnv):
    """One policy for all, in turns."""


class Together(_Paying, many.ComingAndGoingEnv):
    """A policy for "a", another for those that come and go."""


def flat(env, spaces, device):
    return FlattenObservations(multi_agent=True)


class Whole(ConnectorV2):
    """A connector of the user's, on episodes."""

    def __call__(self, *, batch, **kwargs):
        return batch


@pytest.fixture(scope="module", params=[Turns, Together])
def trained(request, ray_session, tmp_path_factory):
    """The environment, the checkpoint, and the greedy returns by agent that the algorithm's own runner had."""
    shared = request.param is Turns
    many.ENVIRONMENTS["paying"] = request.param
    settings = {"train_batch_size": 30, "minibatch_size": 15, "num_epochs": 1, "lr": 0.1}
    config = many.configured("paying", shared, 10, **settings).env_runners(env_to_module_connector=flat)
    algo, path = config.build_algo(), tmp_path_factory.mktemp("several") / "checkpoint"
    algo.train()
    algo.save_to_path(path)
    (episode,) = algo.env_runner.sample(num_episodes=1, explore=False)
    algo.stop()
    returns = {agent: each.get_return() for agent, each in episode.agent_episodes.items()}
    yield request.param, path, returns
    del many.ENVIRONMENTS["paying"]


def test_they_are_played_as_by_rllibs_env_runner(trained):
    _, path, returns = trained
    evaluation = rllib_stpn.evaluate(path, episodes=2)
    assert {agent: list(each) for agent, each in evaluation.by_agent.items()} == {a: [r, r] for a, r in returns.items()}
    assert sum(returns.values()) > 0 and list(evaluation.returns) == [sum(returns.values())] * 2
    assert list(evaluation.lengths) == [10, 10]
    assert evaluation.summary()["return_mean_by_agent"] == returns


def test_a_policy_alone_does_what_it_does_among_the_others(trained):
    kind, path, returns = trained
    names = {"a": "one", "b": "other", "c": "other"} if kind is Together else dict.fromkeys("abc")
    agents = {agent: rllib_stpn.load(path, name) for agent, name in names.items()}
    env = agents["a"].make_env()
    observed, _ = env.reset(seed=0)
    states, done, earned = dict.fromkeys(agents), False, dict.fromkeys(agents, 0.0)
    while not done:
        actions = {}
        for agent in env.acts(env.t):
            action, states[agent] = agents[agent].step(observed[agent][None], states[agent])
            actions[agent] = int(action[0])
        observed, rewards, _, _, _ = stepped = env.step(actions)
        earned = {agent: paid + rewards.get(agent, 0.0) for agent, paid in earned.items()}
        done = stepped[2]["__all__"]
    assert earned == returns


def test_sampled_actions_are_those_of_their_seed_whatever_came_before(trained):
    _, path, _ = trained
    torch.manual_seed(1)
    first = rllib_stpn.evaluate(path, episodes=6, seed=3, explore=True)
    again = rllib_stpn.evaluate(path, episodes=3, seed=6, explore=True)
    assert list(first.returns[3:]) == list(again.returns) and len(set(first.returns)) > 1


def test_the_command_line_tells_the_return_of_each(trained, tmp_path, capsys):
    _, path, returns = trained
    out = tmp_path / "results.json"
    assert main(["evaluate", str(path), "--episodes", "2", "--out", str(out), "-v"]) == 0
    told = capsys.readouterr().out
    assert "return of a" in told and f"{returns['c']:.6g} of c" in told
    assert json.loads(out.read_text())["return_mean_by_agent"] == returns
    assert main(["evaluate", str(path), "--energy"]) == 2
    assert "energy: got several agents (paying), allowed is one" in capsys.readouterr().err


@pytest.mark.parametrize(("method", "where"), [("reset", "as it was reset"), ("step", "at step 1 of its episode")])
def test_an_environment_that_fails_is_told_with_seed_and_step(trained, method, where, monkeypatch):
    kind, path, _ = trained

    def fails(*arguments, **options):
        raise ConnectionError("gone")

    monkeypatch.setattr(kind, method, fails)
    expected = rf"^ConnectionError: gone \(the environment of seed 4, {where}; .*test_several\.py:\d+\)$"
    with pytest.raises(RolloutError, match=expected):
        rllib_stpn.evaluate(path, episodes=2, seed=4)


def test_what_cannot_be_is_refused_in_a_sentence(trained, tmp_path):
    kind, path, _ = trained
    wrong = {("left",): "policy: got 'left', allowed is one of "}
    if kind is Together:
        wrong |= {(): "policy: got None, allowed is one of 'one', 'other'; rllib_stpn.evaluate plays all of them"}
    for arguments, message in wrong.items():
        with pytest.raises(UsageError, match=message):
            rllib_stpn.load(path, *arguments)
    with pytest.raises(UsageError, match="has one agent"):
        rllib_stpn.load("maze_stpn", "left")
    agent = rllib_stpn.load(path, "one")
    with pytest.raises(UsageError, match="got one policy of several agents, allowed are all of them: evaluate"):
        rllib_stpn.evaluate(agent)
    with pytest.raises(UsageError, match="num_envs: got 2, allowed is None: it has several agents"):
        agent.make_env(num_envs=2)
    with pytest.raises(UsageError, match="got the policies of several agents, allowed is one agent"):
        agent_files.write(path, tmp_path / "a.safetensors")


def test_a_connector_of_ones_own_is_played_and_no_part_of_one_policy(trained):
    _, path, returns = trained
    checkpoint = read(path)
    checkpoint.env_to_module.append(Whole())
    with pytest.raises(
        UsageError, match="got the connector Whole, which needs the episodes of all agents, allowed are"
    ):
        of_policy(checkpoint, "one")
    agents = SeveralAgents(checkpoint)
    played, _ = agents.play(agents.make_env(), seed=0, explore=False)
    assert played == returns
