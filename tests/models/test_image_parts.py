"""Dict observations with images: each part goes through the encoder of its kind, and the layer reads all."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from ray.rllib.core.columns import Columns
from ray.tune import register_env

import rllib_stpn
from rllib_stpn.experiments import compatibility
from rllib_stpn.experiments.building import build_config
from rllib_stpn.models import encoders, recurrent_spec
from rllib_stpn.models.flat_box import Image, images_of
from rllib_stpn.models.spaces import FlatSpace
from rllib_stpn.rollouts.preprocessing import MeanStdFilter
from tests.trained_agent import trained_agent

GRID = spaces.Box(0, 255, (7, 7, 3), np.uint8)
SEEN = spaces.Dict(
    {"direction": spaces.Discrete(4), "image": GRID, "mission": spaces.Text(9), "z": spaces.Box(0, 1, (2,))}
)
FILTERS = [[4, 3, 2, "valid"], [6, 3, 1, "valid"]]  # 7 x 7 to 3 x 3 to 1 x 1


def build(space=SEEN, **options):
    spec = recurrent_spec("gru", **{"hidden_size": 5, "max_seq_len": 4, **options})
    spec.observation_space, spec.action_space = FlatSpace(space).space, spaces.Discrete(3)
    torch.manual_seed(0)
    return spec.build()


def test_the_flat_space_knows_where_images_stand():
    assert images_of(FlatSpace(SEEN).space) == (Image("image", 4, (7, 7, 3), True),)
    floats = spaces.Dict({"a": spaces.Dict({"b": spaces.Box(0, 1, (3, 3, 1))}), "c": spaces.Box(0, 1, (3, 3))})
    assert images_of(FlatSpace(floats).space) == (Image("a.b", 0, (3, 3, 1), False),)
    assert images_of(FlatSpace(GRID).space) == ()


@pytest.mark.parametrize("hiddens, width", [([], 6 + 6), ([8, 5], 6 + 5)], ids=["plain", "mlp"])
def test_images_go_through_convolutions_and_all_else_through_the_mlp(hiddens, width):
    (encoder,) = encoders(build(conv_filters=FILTERS, fcnet_hiddens=hiddens)).values()
    assert encoder.layer.input_size == width
    flat = FlatSpace(SEEN)
    SEEN.seed(0)
    samples = [SEEN.sample() for _ in range(6)]
    tokens = encoder.tokenizer({Columns.OBS: torch.from_numpy(np.stack([flat.flatten(each) for each in samples]))})
    pixels = torch.from_numpy(np.stack([each["image"] for each in samples])).float()
    (convolutions,) = encoder.tokenizer.convolutions
    features = convolutions({Columns.OBS: (pixels - 128) / 128})["encoder_out"]
    torch.testing.assert_close(tokens["encoder_out"][:, :6], features)
    others = np.stack([np.concatenate([np.eye(4)[each["direction"]], each["z"]]) for each in samples])
    others = torch.from_numpy(others.astype(np.float32))
    if hiddens:
        others = encoder.tokenizer.rest({Columns.OBS: others})["encoder_out"]
    torch.testing.assert_close(tokens["encoder_out"][:, 6:], others)


def test_images_without_filters_stay_flat_and_those_of_rllibs_sizes_have_some():
    (encoder,) = encoders(build()).values()
    assert (encoder.tokenizer, encoder.layer.input_size) == (None, 4 + 147 + 2)
    of_known_size = spaces.Dict({"image": spaces.Box(0, 255, (42, 42, 1), np.uint8), "x": spaces.Box(0, 1, (2,))})
    (encoder,) = encoders(build(of_known_size)).values()
    assert encoder.tokenizer.convolutions[0].config.cnn_filter_specifiers[0] == [16, [4, 4], 2]


def test_several_images_and_nothing_else():
    two = spaces.Tuple([GRID, spaces.Dict({"deep": GRID})])
    (encoder,) = encoders(build(two, conv_filters=FILTERS, fcnet_hiddens=[8])).values()
    assert encoder.layer.input_size == 12
    assert len(encoder.tokenizer.convolutions) == 2


def test_a_filter_leaves_images_to_convolutions_and_their_scale_to_itself():
    connector = MeanStdFilter(input_observation_space=FlatSpace(SEEN).space, input_action_space=spaces.Discrete(2))
    assert images_of(connector.observation_space) == (Image("image", 4, (7, 7, 3), False),)


class Grid(gym.Env):
    observation_space, action_space = SEEN, spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return SEEN.sample(), {}

    def step(self, action):
        self.t += 1
        return SEEN.sample(), 1.0, False, self.t >= 7, {}


def config_of(filters, **settings):
    register_env("grid", lambda context: Grid())
    model = {
        "custom_model": "gru",
        "custom_model_config": {"hidden_size": 4},
        "max_seq_len": 4,
        "conv_filters": filters,
    }
    sizes = {"num_env_runners": 0, "num_envs_per_env_runner": 3, "train_batch_size": 30, "minibatch_size": 15}
    return build_config("PPO", {"env": "grid", "model": model, "num_epochs": 1, **sizes, **settings})


@pytest.mark.parametrize(
    "settings",
    [
        {"env_runner_cls": "batched"},
        {"env_runner_cls": "single_agent"},
        {"env_runner_cls": "batched", "observation_filter": "MeanStdFilter"},
    ],
    ids=str,
)
def test_it_trains_and_the_agent_acts(settings, ray_session, tmp_path):
    config = config_of(FILTERS, **settings)
    assert compatibility.check(config, True, {}) == ["observations: mission left out, a text that no model reads"]
    agent = trained_agent(config, tmp_path)
    (encoder,) = encoders(agent.module).values()
    assert encoder.layer.input_size == 12
    assert (rllib_stpn.evaluate(agent, episodes=2).lengths == 7).all()
