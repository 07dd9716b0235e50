"""Wrappers that a file names."""

import gymnasium
import numpy as np
import pytest
from stpn_envs import Wrapped

from rllib_stpn.agents.environments import make_env
from rllib_stpn.experiments.loading import load
from rllib_stpn.experiments.validation import check

LIMIT = {"gymnasium.wrappers.TimeLimit": {"max_episode_steps": 3}}
FILE = """
x:
  run: PPO
  env: stpn_envs.Wrapped
  config:
    num_env_runners: 0
    env_config:
      env: Pendulum-v1
      g: 9.0
      wrappers:
        - gymnasium.wrappers.TimeLimit: {max_episode_steps: 3}
        - %s
"""


def test_wrappers_go_around_in_their_order_and_the_rest_goes_to_the_environment():
    rescaled = {"gymnasium.wrappers.RescaleAction": {"min_action": -1, "max_action": 1}}
    env = Wrapped({"env": "Pendulum-v1", "g": 5.0, "wrappers": [LIMIT, rescaled, "gymnasium.wrappers.ClipAction"]})
    assert env.unwrapped.g == 5.0
    assert isinstance(env.env, gymnasium.wrappers.ClipAction)
    assert isinstance(env.env.env, gymnasium.wrappers.RescaleAction)
    env.reset(seed=0)
    assert [env.step(np.zeros(1))[3] for _ in range(3)] == [False, False, True]


def test_a_file_names_them(write):
    (experiment,) = load(write(FILE % "gymnasium.wrappers.ClipAction"))
    config = check(experiment).config
    env = make_env(config["env"], config["env_config"], num_envs=2)
    env.reset(seed=0)
    ended = [env.step(np.zeros((2, 1), np.float32))[3].tolist() for _ in range(3)]
    assert ended[-1] == [True, True]


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"wrappers": []}, "env is missing"),
        ({"env": "CartPole-v1"}, "wrappers is missing"),
        ({"env": "CartPole-v1", "wrappers": "x"}, "got 'x', allowed is a list"),
        ({"env": "CartPole-v1", "wrappers": ["TimeLimit"]}, "allowed is a path such as gymnasium.wrappers.TimeLimit"),
        ({"env": "CartPole-v1", "wrappers": ["gymnasium.wrappers.Nothing"]}, "has no attribute 'Nothing'"),
        ({"env": "CartPole-v1", "wrappers": ["gymnasium.spaces.Box"]}, "which is no gymnasium.Wrapper"),
        ({"env": "CartPole-v1", "wrappers": [3]}, "got 3"),
    ],
)
def test_what_is_wrong_is_told(config, told):
    with pytest.raises(ValueError, match=told):
        Wrapped(config)
