"""The seam to RLlib's new API stack: a Catalog whose encoder is [MLP or conv] -> layer.

Only the encoder is ours. Heads, action distributions and the routing of actor and critic are RLlib's own, so
everything that works with ``DefaultPPOTorchRLModule`` works here.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.algorithms.ppo.ppo_catalog import PPOCatalog
from ray.rllib.core.columns import Columns
from ray.rllib.core.models.base import ENCODER_OUT, Encoder
from ray.rllib.core.models.configs import ModelConfig, RecurrentEncoderConfig
from ray.rllib.core.models.torch.base import TorchModel
from ray.rllib.core.models.torch.heads import TorchFreeLogStdMLPHead
from torch import nn

from rllib_stpn.errors import UsageError
from rllib_stpn.kernels.states import overwriting_states
from rllib_stpn.layers import make_layer
from rllib_stpn.models.distributions import ACTION_DISTRIBUTIONS, SeveralActions
from rllib_stpn.models.spaces import flat_action_space

IS_FIRST = "is_first"
"""Column of the train batch: ``[B, T]`` bool, True where an episode begins."""


@dataclasses.dataclass
class _LayerEncoderFields:
    observation_space: gym.Space | None = None
    tokenizer_config: ModelConfig | None = None  # None: the layer reads the (flattened) observation itself
    layer_name: str = ""
    layer_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    layer_output_size: int = 0

    @property
    def output_dims(self) -> tuple[int, ...]:
        return (self.layer_output_size,)

    def build(self, framework: str = "torch") -> LayerEncoder:
        if framework != "torch":
            raise UsageError(f"model: got framework {framework!r}, allowed is 'torch'")
        return LayerEncoder(self)


@dataclasses.dataclass
class StatelessLayerEncoderConfig(_LayerEncoderFields, ModelConfig):
    """Encoder with a memoryless layer; RLlib then treats the module as stateless."""


@dataclasses.dataclass
class RecurrentLayerEncoderConfig(_LayerEncoderFields, RecurrentEncoderConfig):
    """Encoder with a layer that has state; RLlib recognises state by this base class alone."""


class LayerEncoder(TorchModel, Encoder):
    """Observation -> [MLP or conv tokenizer] -> layer.

    Observations are ``[B, T, ...]`` for a layer with state and ``[B, ...]`` or ``[B, T, ...]`` for a memoryless
    one; images of type uint8 are scaled to ``(pixel - 128) / 128``. State leaves are ``[B, ...]``. The optional
    column ``is_first`` (``[B, T]`` bool) resets the state inside a sequence. ``overwrite_state`` lets the layer write
    the new state over the given one.

    RLlib's own learner connectors pad sequences to one length (``seq_lens`` ``[B]``), and their extra step for the
    bootstrap value makes many a sequence of a single step. Outputs in the padding mean nothing and are mostly spared.

    Raises:
        UsageError: ``state_in`` is missing or does not fit.
    """

    def __init__(self, config: _LayerEncoderFields) -> None:
        TorchModel.__init__(self, config)
        space = config.observation_space
        assert space is not None and space.shape is not None
        self._observation_rank = len(space.shape)
        self._is_image = space.dtype == np.uint8
        if config.tokenizer_config is None:
            self.tokenizer = None
            input_size = int(np.prod(space.shape))
        else:
            self.tokenizer = config.tokenizer_config.build(framework="torch")
            (input_size,) = config.tokenizer_config.output_dims
        self.layer = make_layer(config.layer_name, input_size=input_size, **config.layer_options)

    def get_initial_state(self) -> dict[str, torch.Tensor]:
        """Zeros for one sequence, without the batch axis."""
        return {name: leaf[0] for name, leaf in self.layer.initial_state(1).items()}

    def _forward(self, inputs: dict, overwrite_state: bool = False, **kwargs) -> dict:
        observations = inputs[Columns.OBS]
        lengths = inputs.get(Columns.SEQ_LENS)
        if lengths is not None and IS_FIRST not in inputs and self.layer.state_shapes():
            spans = (2.0 ** lengths.clamp(min=1).log2().ceil()).long().clamp(max=observations.shape[1])
            if spans.min() < observations.shape[1]:
                return self._forward_padded(inputs, spans)
        lead = observations.shape[: observations.dim() - self._observation_rank]  # [B] or [B, T]
        tokens = observations.reshape(-1, *observations.shape[len(lead) :]).float()  # [B*T, ...]
        if self._is_image:
            tokens = tokens.sub_(128.0).div_(128.0) if observations.dtype == torch.uint8 else (tokens - 128) / 128
        tokens = tokens.flatten(1) if self.tokenizer is None else self.tokenizer({Columns.OBS: tokens})[ENCODER_OUT]
        tokens = tokens.reshape(*lead, -1)
        if not self.layer.state_shapes():
            outputs, _ = self.layer(tokens if len(lead) == 2 else tokens[:, None], None)
            return {ENCODER_OUT: outputs if len(lead) == 2 else outputs[:, 0]}
        with overwriting_states(overwrite_state):
            outputs, state = self.layer(tokens, self._state(inputs), is_first=inputs.get(IS_FIRST))
        return {ENCODER_OUT: outputs, Columns.STATE_OUT: state}

    def _state(self, inputs: dict) -> dict[str, torch.Tensor]:
        if Columns.STATE_IN not in inputs:
            shapes = {name: ("B", *shape) for name, shape in self.layer.state_shapes().items()}
            raise UsageError(f"model {self.layer.name}: {Columns.STATE_IN} is missing, allowed is a dict of {shapes}")
        return inputs[Columns.STATE_IN]

    def _forward_padded(self, inputs: dict, spans: torch.Tensor) -> dict:
        """Runs the first ``spans`` ``[B]`` steps of each sequence, those of one span together."""
        observations, state = inputs[Columns.OBS], self._state(inputs)
        encoded = torch.zeros(*observations.shape[:2], self.layer.output_size, device=observations.device)
        state_out = {name: torch.empty_like(leaf) for name, leaf in state.items()}
        for span in spans.unique().tolist():
            rows = (spans == span).nonzero()[:, 0]
            part = self(
                {
                    Columns.OBS: observations[rows, :span],
                    Columns.STATE_IN: {name: leaf[rows] for name, leaf in state.items()},
                }
            )
            encoded[rows, :span] = part[ENCODER_OUT]
            for name, leaf in part[Columns.STATE_OUT].items():
                state_out[name][rows] = leaf
        return {ENCODER_OUT: encoded, Columns.STATE_OUT: state_out}


class ActorCriticCatalog(PPOCatalog):
    """PPO's catalog for every action space that has a distribution, and for ``free_log_std`` with memory.

    Its action space is :func:`rllib_stpn.models.spaces.flat_action_space` of the environment's.
    """

    def __init__(self, observation_space: gym.Space, action_space: gym.Space, model_config_dict: dict) -> None:
        super().__init__(observation_space, flat_action_space(action_space), model_config_dict)

    @classmethod
    def _get_dist_cls_from_action_space(cls, action_space: gym.Space, *, framework: str | None = None):
        if isinstance(action_space, gym.spaces.Dict | gym.spaces.Tuple) and framework == "torch":
            of_part = functools.partial(cls._get_dist_cls_from_action_space, framework="torch")
            return SeveralActions.of(action_space, of_part)
        return super()._get_dist_cls_from_action_space(action_space, framework=framework)

    def build_pi_head(self, framework: str) -> TorchModel:
        """Builds the policy's head."""
        head = super().build_pi_head(framework)
        return FreeLogStdHead(self.pi_head_config) if isinstance(head, TorchFreeLogStdMLPHead) else head


class FreeLogStdHead(TorchFreeLogStdMLPHead):
    """RLlib's head whose standard deviations are parameters, also for inputs with an axis of time, ``[B, T, ...]``."""

    def _forward(self, inputs: torch.Tensor, **kwargs) -> torch.Tensor:
        return super()._forward(inputs.flatten(0, -2), **kwargs).unflatten(0, inputs.shape[:-1])


class LayerCatalog(ActorCriticCatalog):
    """PPO's catalog with ``model_config["custom_model"]`` naming the layer of the encoder.

    ``model_config["custom_model_config"]`` holds the layer's options. The keys of RLlib's ``DefaultModelConfig``
    keep their meaning; ``fcnet_hiddens: []`` (our default) puts the layer straight on the observation.

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
        tokenizer = None
        if len(observation_space.shape) == 3 or model_config_dict["fcnet_hiddens"]:
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

    def get_action_dist_cls(self, framework: str):
        """The class that ``model_config["custom_action_dist"]`` names, otherwise RLlib's for the action space."""
        name = self._model_config_dict.get("custom_action_dist")
        return ACTION_DISTRIBUTIONS[name] if name else super().get_action_dist_cls(framework)


def encoders(module: nn.Module) -> dict[str, LayerEncoder]:
    """Returns a module's layer encoders by their dotted names, e.g. ``{"encoder.encoder": ...}``."""
    return {name: part for name, part in module.named_modules() if isinstance(part, LayerEncoder)}
