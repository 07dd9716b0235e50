"""Environments with an ``action_mask``, trained on both env runners, loaded, evaluated: none draws the forbidden."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from ray.rllib.connectors.env_to_module import MeanStdFilter as RLlibMeanStdFilter
from ray.tune import register_env

import rllib_stpn
from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import compatibility
from rllib_stpn.experiments.building import build_config
from rllib_stpn.rollouts import EpisodeEnvRunner, FlatObservations
from tests.trained_agent import trained_agent

LAYER = {"custom_model": "gru", "custom_model_config": {"hidden_size": 4}, "max_seq_len": 4}
LSTM = {"use_lstm": True, "lstm_cell_size": 4, "fcnet_hiddens": [4], "max_seq_len": 4}
MLP = {"fcnet_hiddens": [4]}


class Forbidding(gym.Env):
    """Forbids another two of four actions at each step, and fails when one of them is taken."""

    observation_space = spaces.Dict(
        {"action_mask": spaces.MultiBinary(4), "count": spaces.Discrete(9), "vector": spaces.Box(-9, 9, (2,))}
    )
    action_space = spaces.Discrete(4, start=10)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._observation(), {}

    def step(self, action):
        assert self.mask[action - 10], f"{action} is forbidden"
        self.t += 1
        return self._observation(), float(action == 12), False, self.t >= 7, {}

    def _observation(self):
        self.mask = np.zeros(4, np.int8)
        self.mask[self.np_random.choice(4, 2, replace=False)] = 1
        return {"action_mask": self.mask, "count": self.t, "vector": self._vector()}

    def _vector(self):
        return self.np_random.normal(5, 3, 2).clip(-9, 9).astype(np.float32)


class ForbiddingContinuous(Forbidding):
    action_space = spaces.Box(-1, 1, (4,))


def of(run, model, env=Forbidding, **settings):
    register_env("forbidding", lambda context: env())
    short = {"train_batch_size": 60} | ({"minibatch_size": 30, "num_epochs": 2} if run == "PPO" else {})
    given = {"env": "forbidding", "num_env_runners": 0, "num_envs_per_env_runner": 3, **short, **settings}
    config = build_config(run, {**given, "model": model})
    assert compatibility.check(config, True, {}) == []
    return config


@pytest.mark.parametrize(
    "run, model, settings",
    [
        ("PPO", LAYER, {"env_runner_cls": "batched"}),
        ("PPO", LAYER, {"env_runner_cls": "single_agent", "observation_filter": "MeanStdFilter"}),
        ("PPO", LSTM, {"env_runner_cls": "single_agent"}),
        ("PPO", MLP, {"env_runner_cls": "batched", "observation_filter": "MeanStdFilter"}),
        ("A2C", LAYER, {"rollout_fragment_length": 20, "lstm_use_prev_action": True}),
        ("A2C", MLP, {"rollout_fragment_length": 20}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_forbidden_is_never_drawn(run, model, settings, ray_session, tmp_path):
    if settings.pop("lstm_use_prev_action", False):
        model = {**model, "lstm_use_prev_action": True}
    agent = trained_agent(of(run, model, **settings), tmp_path, iterations=2)
    for explore in (True, False):
        played = rllib_stpn.evaluate(agent, episodes=4, num_envs=2, explore=explore)
        assert (played.lengths == 7).all()


@pytest.mark.parametrize("layer", [LAYER, MLP], ids=["layer", "MLP"])
def test_rllibs_filter_in_front_of_a_mask_is_refused(layer):
    config = of("PPO", layer, env_runner_cls="single_agent")
    config.env_runners(env_to_module_connector=lambda *args, **kwargs: [FlatObservations(), RLlibMeanStdFilter()])
    message = "connector MeanStdFilter: got RLlib's, which would filter the action_mask, too, allowed is rllib_st"
    with pytest.raises(UsageError, match=message):
        EpisodeEnvRunner(config=config, worker_index=0)
    with pytest.raises(UsageError, match=message):
        compatibility.check(config, False, {})


def test_a_mask_of_continuous_actions_is_refused():
    with pytest.raises(UsageError, match="action_mask: got actions Box.*, allowed is a mask where all actions are"):
        of("PPO", LAYER, ForbiddingContinuous)


def test_a_model_that_would_draw_what_is_forbidden_is_refused():
    with pytest.raises(UsageError, match="got DQN with action_mask among the observations, allowed are PPO, A2C, APPO"):
        of("DQN", MLP, env=ForbiddingFromZero)


class ForbiddingFromZero(Forbidding):
    action_space = spaces.Discrete(4)
