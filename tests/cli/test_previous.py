"""``lstm_use_prev_action`` and its like in a `model` block: trained with, evaluated with, loaded with, or refused."""

from pathlib import Path

import gymnasium
import numpy as np
import pytest
from ray.rllib.algorithms.algorithm import Algorithm

import rllib_stpn
from rllib_stpn.errors import UsageError
from rllib_stpn.experiments.building import build_config
from rllib_stpn.experiments.loading import load
from rllib_stpn.experiments.validation import check
from tests.experiments.of_settings import experiment_of

LAYER = {"custom_model": "lstm", "custom_model_config": {"hidden_size": 4}, "max_seq_len": 5}
LSTM = {"use_lstm": True, "lstm_cell_size": 4, "fcnet_hiddens": [4], "max_seq_len": 5}
PLAIN = {"fcnet_hiddens": [4]}
ASKS = {"lstm_use_prev_action": True, "lstm_use_prev_reward": True}
MODELS = {"layer": LAYER, "lstm": LSTM, "plain": PLAIN}


class Shows(gymnasium.Env):
    """Of the space given."""

    action_space = gymnasium.spaces.MultiDiscrete([2, 3])

    def __init__(self, image=False):
        box = gymnasium.spaces.Box(0, 255, (8, 8, 1), np.uint8)
        self.observation_space = box if image else gymnasium.spaces.Dict(a=gymnasium.spaces.Discrete(4), b=box)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, True, {}


gymnasium.register("Shows-v0", Shows)


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ({"lstm_use_prev_action": True}, ("action",)),
        ({"lstm_use_prev_reward": True, "lstm_use_prev_action": False}, ("reward",)),
        ({"lstm_use_prev_action_reward": True}, ("action", "reward")),
        (ASKS, ("action", "reward")),
        ({"lstm_use_prev_action": False, "lstm_use_prev_action_reward": None}, ()),
        ({"lstm_use_prev_action_reward": -1, "lstm_use_prev_reward": 1}, ("reward",)),
    ],
    ids=lambda value: "+".join(value),
)
@pytest.mark.parametrize("model", MODELS)
def test_each_key_has_its_inputs_shown(model, keys, shown):
    config = build_config("PPO", {"model": MODELS[model] | keys})
    assert getattr(config, "_previous_inputs", ()) == shown
    assert not any(key.startswith("lstm_use_prev") for key in config.model_config)


@pytest.mark.parametrize(
    ("run", "model"),
    [("PPO", "layer"), ("PPO", "lstm"), ("A2C", "layer"), ("APPO", "layer"), ("IMPALA", "lstm"), ("DQN", "plain")],
)
def test_a_file_that_asks_for_them_is_taken_without_a_word(run, model):
    assert check(experiment_of(run, "CartPole-v1", model=MODELS[model] | ASKS)).notes == ()


def test_they_stand_in_a_grid():
    model = LAYER | {"lstm_use_prev_action": {"grid_search": [True, False]}}
    experiment = experiment_of("PPO", "Shows-v0", model=model)
    assert check(experiment).notes == ()


def test_spaces_that_are_flattened_hold_them_at_their_end(ray_session):
    for model, extra in ((LAYER, 0), (LAYER | ASKS, 2 + 3 + 1)):
        config = build_config("PPO", {"env": "Shows-v0", "num_env_runners": 0, "model": model})
        runner = config.env_runner_cls(config=config, worker_index=0)
        assert runner.module.observation_space.shape == (4 + 64 + extra,)
        runner.stop()


@pytest.mark.parametrize(
    ("run", "settings", "message"),
    [
        ("PPO", {"env_config": {"image": True}}, r"lstm_use_prev_action: got images of the shape \(8, 8, 1\), allowed"),
        ("PPO", {"policies": ["a"], "policy_mapping_fn": None}, "with several agents, allowed is one"),
        (
            "BC",
            {"input_": str(Path(__file__).parent)},
            "with recorded data, allowed is sampling",
        ),
        (
            "PPO",
            {"model": PLAIN | {"lstm_use_prev_reward": 3}},
            "lstm_use_prev_reward: got 3, allowed is true or false",
        ),
    ],
    ids=["images", "agents", "recorded", "value"],
)
def test_where_they_cannot_be_shown_one_sentence_says_so(run, settings, message):
    model = {"model": PLAIN | ASKS}
    with pytest.raises(UsageError, match=message):
        check(experiment_of(run, "Shows-v0", **(model | settings)))


def test_in_python_the_way_is_named():
    for ask in (
        lambda: rllib_stpn.recurrent_spec("stpn", hidden_size=4, lstm_use_prev_action=True),
        lambda: rllib_stpn.models.spec_from_model_dict(LAYER | ASKS),
    ):
        with pytest.raises(UsageError, match="stpn_envs.PreviousActionReward around the environment"):
            ask()


def test_a_python_files_own_model_settings_ask_as_well(write):
    file = write(
        "from ray.rllib.algorithms.ppo import PPOConfig\n"
        "config = PPOConfig().environment('CartPole-v1')\n"
        "config.rl_module(model_config={'use_lstm': True, 'lstm_use_prev_reward': True})\n",
        "mine.py",
    )
    (experiment,) = load(file)
    config = build_config(experiment.algorithm, experiment.config, experiment.base)
    assert config._previous_inputs == ("reward",)


def test_an_env_runner_of_the_users_own_does_not_show_them(write):
    file = write(
        "from ray.rllib.algorithms.ppo import PPOConfig\n"
        "from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner\n"
        "class Mine(SingleAgentEnvRunner): pass\n"
        "config = PPOConfig().environment('CartPole-v1').env_runners(env_runner_cls=Mine)\n",
        "mine.py",
    )
    (experiment,) = load(file)
    experiment.config["model"] = PLAIN | ASKS
    with pytest.raises(UsageError, match="got true with Mine, allowed are the env runners batched and single_agent"):
        check(experiment)


REMOTE = {"num_env_runners": 1, "evaluation_num_env_runners": 1}
TRAINED = [
    ("PPO", "layer", {"num_env_runners": 1}),
    pytest.param("APPO", "layer", {"num_env_runners": 0}, marks=pytest.mark.slow),
    *(
        pytest.param(run, model, REMOTE, marks=pytest.mark.slow)
        for run, model in [("PPO", "lstm"), ("A2C", "layer"), ("IMPALA", "lstm"), ("APPO", "layer"), ("DQN", "plain")]
    ),
]


@pytest.mark.parametrize(("run", "model", "settings"), TRAINED)
def test_remote_runners_evaluation_and_a_loaded_agent_see_them(ray_session, tmp_path, run, model, settings):
    config = build_config(
        run,
        {
            "env": "CartPole-v1",
            "num_envs_per_env_runner": 2,
            "train_batch_size_per_learner": 40,
            "evaluation_interval": 1,
            "evaluation_duration": 2,
            "model": MODELS[model] | ASKS,
            **({"minibatch_size": 20, "num_epochs": 1} if run == "PPO" else {}),
            **({"num_learners": 0} if run in ("APPO", "IMPALA") else {}),
            **settings,
        },
    )
    algo = config.build_algo()
    try:
        result = algo.train()
        assert result["evaluation"]["env_runners"]["num_episodes"] >= 2
        algo.save_to_path(tmp_path / "checkpoint")
    finally:
        algo.stop()
    agent = rllib_stpn.load(tmp_path / "checkpoint")
    assert agent.module.observation_space.shape == agent.observation_space.shape == (7,)
    evaluation = rllib_stpn.evaluate(agent, episodes=3)
    assert (evaluation.returns > 0).all()
    observation, _ = agent.make_env().reset(seed=0)
    np.testing.assert_array_equal(observation[4:], 0)


@pytest.mark.slow
def test_rllib_itself_goes_on_from_a_checkpoint(ray_session, tmp_path):
    config = build_config("A2C", {"env": "CartPole-v1", "num_env_runners": 1, "model": LAYER | ASKS})
    algo = config.build_algo()
    algo.save_to_path(tmp_path / "checkpoint")
    algo.stop()
    again = Algorithm.from_checkpoint(tmp_path / "checkpoint")
    try:
        again.train()
        assert again.get_module().observation_space.shape == (7,)
    finally:
        again.stop()
