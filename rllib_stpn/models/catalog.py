"""The seam to RLlib's new API stack: catalogs that build the encoder from the model's settings.

Only the encoder is ours. Heads, action distributions and the routing of actor and critic are RLlib's own, so
everything that works with ``DefaultPPOTorchRLModule`` works here.
"""

from __future__ import annotations

import functools

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.algorithms.dqn.dqn_catalog import DQNCatalog
from ray.rllib.algorithms.ppo.ppo_catalog import PPOCatalog
from ray.rllib.core.models.base import ActorCriticEncoder
from ray.rllib.core.models.catalog import Catalog
from ray.rllib.core.models.configs import ModelConfig
from ray.rllib.core.models.torch.base import TorchModel
from ray.rllib.core.models.torch.heads import TorchFreeLogStdMLPHead
from ray.rllib.models.utils import get_filter_config

from rllib_stpn.errors import UsageError
from rllib_stpn.layers import make_layer
from rllib_stpn.models import action_mask
from rllib_stpn.models.distributions import ACTION_DISTRIBUTIONS, SeveralActions
from rllib_stpn.models.encoder import PartsEncoderConfig, RecurrentLayerEncoderConfig, StatelessLayerEncoderConfig
from rllib_stpn.models.flat_box import Image, images_of, mask_size, without_mask
from rllib_stpn.models.spaces import flat_action_space


class ActorCriticCatalog(PPOCatalog):
    """PPO's catalog for every action space that has a distribution, for ``free_log_std`` with memory, and for masks.

    Its action space is :func:`rllib_stpn.models.spaces.flat_action_space` of the environment's.

    Raises:
        UsageError: A mask in the observations does not fit the actions.
    """

    def __init__(self, observation_space: gym.Space, action_space: gym.Space, model_config_dict: dict) -> None:
        actions = flat_action_space(action_space)
        action_mask.check_mask(observation_space, actions)
        self._mask_size = mask_size(observation_space)
        super().__init__(without_mask(observation_space), actions, model_config_dict)

    def build_actor_critic_encoder(self, framework: str) -> ActorCriticEncoder:
        """Builds the encoder; a mask goes past it."""
        encoder = super().build_actor_critic_encoder(framework)
        if self._mask_size:
            action_mask.hide_mask(encoder, self._mask_size)
        return encoder

    @classmethod
    def _get_dist_cls_from_action_space(cls, action_space: gym.Space, *, framework: str | None = None):
        if isinstance(action_space, gym.spaces.Dict | gym.spaces.Tuple) and framework == "torch":
            of_part = functools.partial(cls._get_dist_cls_from_action_space, framework="torch")
            return SeveralActions.of(action_space, of_part)
        return super()._get_dist_cls_from_action_space(action_space, framework=framework)

    def build_pi_head(self, framework: str) -> TorchModel:
        """Builds the policy's head."""
        head = super().build_pi_head(framework)
        if isinstance(head, TorchFreeLogStdMLPHead):
            head = FreeLogStdHead(self.pi_head_config)
        return action_mask.MaskedHead(head, self._mask_size) if self._mask_size else head


class FreeLogStdHead(TorchFreeLogStdMLPHead):
    """RLlib's head whose standard deviations are parameters, also for inputs with an axis of time, ``[B, T, ...]``."""

    def _forward(self, inputs: torch.Tensor, **kwargs) -> torch.Tensor:
        return super()._forward(inputs.flatten(0, -2), **kwargs).unflatten(0, inputs.shape[:-1])


def through_convolutions(space: gym.Space, model_config: dict) -> list[Image]:
    """The images in flat observations that convolutions read: of sizes that RLlib has filters for, or that the model's
    ``conv_filters`` are for. Others stay flat."""
    return [image for image in images_of(space) if model_config.get("conv_filters") or _has_filters(image.shape)]


def _has_filters(shape: tuple[int, ...]) -> bool:
    try:
        return bool(get_filter_config(shape))
    except ValueError:
        return False


class _LayerEncoders(Catalog):
    """A catalog with ``model_config["custom_model"]`` naming the layer of the encoder, or its class by the path.

    ``model_config["custom_model_config"]`` holds the layer's options. The keys of RLlib's ``DefaultModelConfig``
    keep their meaning; ``fcnet_hiddens: []`` (our default) puts the layer straight on the observation. Of flat
    observations, images go through convolutions (:func:`through_convolutions`), and all else through
    ``fcnet_hiddens``; the layer reads both.

    Raises:
        UsageError: The observation space is not a 1D Box or an image.
    """

    @classmethod
    def _get_encoder_config(
        cls,
        observation_space: gym.Space,
        model_config_dict: dict,
        action_space: gym.Space | None = None,
    ) -> ModelConfig:
        name = model_config_dict["custom_model"]
        options = model_config_dict["custom_model_config"]
        if not isinstance(observation_space, gym.spaces.Box) or len(observation_space.shape) not in (1, 3):
            raise UsageError(
                f"model {name}: observation space: got {observation_space}, allowed are Box with one dimension "
                "and Box with three (an image, channels last); the connector rllib_stpn.rollouts.FlatObservations "
                "turns other spaces into the first"
            )
        tokenizer: ModelConfig | None = None
        images = through_convolutions(observation_space, model_config_dict)
        if images:
            tokenizer = cls._parts(observation_space, images, model_config_dict)
        elif len(observation_space.shape) == 3 or model_config_dict["fcnet_hiddens"]:
            # A copy: RLlib writes default filters for the image's size into the dict that it is given.
            tokenizer = super()._get_encoder_config(
                observation_space, dict(model_config_dict, use_lstm=False), action_space
            )
        input_size = int(np.prod(observation_space.shape)) if tokenizer is None else tokenizer.output_dims[0]
        layer = make_layer(name, input_size=input_size, **options)
        config_class = RecurrentLayerEncoderConfig if layer.state_shapes() else StatelessLayerEncoderConfig
        return config_class(
            input_dims=observation_space.shape,
            observation_space=observation_space,
            tokenizer_config=tokenizer,
            layer_name=name,
            layer_options=options,
            layer_output_size=layer.output_size,
        )

    @classmethod
    def _parts(cls, space: gym.spaces.Box, images: list[Image], model_config_dict: dict) -> PartsEncoderConfig:
        """Convolutions for each image, and an MLP for all else where the model has one."""
        config = dict(model_config_dict, use_lstm=False)
        size = space.shape[0] - sum(image.end - image.begin for image in images)
        rest = None
        if size and config["fcnet_hiddens"]:
            rest = super()._get_encoder_config(gym.spaces.Box(-np.inf, np.inf, (size,)), config)
        convolutions = [
            super(_LayerEncoders, cls)._get_encoder_config(gym.spaces.Box(-1.0, 1.0, image.shape), dict(config))
            for image in images
        ]
        return PartsEncoderConfig(
            input_dims=space.shape, images=images, convolutions=convolutions, rest=rest, rest_size=size
        )


class LayerCatalog(_LayerEncoders, ActorCriticCatalog):
    """PPO's catalog whose encoder is one of our layers, see :class:`_LayerEncoders`."""

    def get_action_dist_cls(self, framework: str):
        """The class that ``model_config["custom_action_dist"]`` names, otherwise RLlib's for the action space."""
        name = self._model_config_dict.get("custom_action_dist")
        return ACTION_DISTRIBUTIONS[name] if name else super().get_action_dist_cls(framework)


class LayerQCatalog(_LayerEncoders, DQNCatalog):
    """DQN's catalog whose encoder is one of our layers, see :class:`_LayerEncoders`."""
