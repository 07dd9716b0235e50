"""The encoder: from observations, through an MLP or convolutions where the model has them, to the layer's outputs."""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.models.base import ENCODER_OUT, Encoder
from ray.rllib.core.models.configs import ModelConfig, RecurrentEncoderConfig
from ray.rllib.core.models.torch.base import TorchModel
from torch import nn

from rllib_stpn import checks
from rllib_stpn.errors import UsageError
from rllib_stpn.kernels.states import overwriting_states
from rllib_stpn.layers import make_layer
from rllib_stpn.models.flat_box import Image

IS_FIRST = "is_first"
"""Column of the train batch: ``[B, T]`` bool, True where an episode begins."""

# Bytes of floats that convolutions take at once on a CPU. Backward's gradients of so many find room in memory that
# malloc has used before. Those of all 3,200 frames of a fragment of Pong are memory that the system has to clear each
# time: backward took 126 ms, and 92 ms in pieces (benchmarks/convolutions.py).
_CONVOLVED_AT_ONCE = 16 * 2**20


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
        checks.choice("model: framework", framework, ["torch"])
        return LayerEncoder(self)


@dataclasses.dataclass
class StatelessLayerEncoderConfig(_LayerEncoderFields, ModelConfig):
    """Encoder with a memoryless layer; RLlib then treats the module as stateless."""


@dataclasses.dataclass
class RecurrentLayerEncoderConfig(_LayerEncoderFields, RecurrentEncoderConfig):
    """Encoder with a layer that has state; RLlib recognises state by this base class alone."""


@dataclasses.dataclass
class PartsEncoderConfig(ModelConfig):
    """Encoder of flat observations that hold images.

    Attributes:
        images: Where they stand.
        convolutions: The encoder of each.
        rest: The encoder of all else; None: it is handed on as it is.
        rest_size: How many numbers that is.
    """

    images: list[Image] = dataclasses.field(default_factory=list)
    convolutions: list[ModelConfig] = dataclasses.field(default_factory=list)
    rest: ModelConfig | None = None
    rest_size: int = 0

    @property
    def output_dims(self) -> tuple[int, ...]:
        """Features of all parts."""
        rest = self.rest_size if self.rest is None else self.rest.output_dims[0]
        return (sum(config.output_dims[0] for config in self.convolutions) + rest,)

    def build(self, framework: str = "torch") -> PartsEncoder:
        """The encoder, of torch alone."""
        return PartsEncoder(self)


class PartsEncoder(TorchModel, Encoder):
    """Flat observations ``[N, size]`` to features: those of each image, then those of all else.

    Bytes are scaled to ``(pixel - 128) / 128``.
    """

    def __init__(self, config: PartsEncoderConfig) -> None:
        TorchModel.__init__(self, config)
        self._images = config.images
        self.convolutions = nn.ModuleList(each.build(framework="torch") for each in config.convolutions)
        self.rest = None if config.rest is None else config.rest.build(framework="torch")

    def _forward(self, inputs: dict, **kwargs) -> dict:
        flat = inputs[Columns.OBS]
        features, others, begin = [], [], 0
        for image, convolutions in zip(self._images, self.convolutions, strict=True):
            pixels = flat[:, image.begin : image.end].unflatten(1, image.shape)
            pixels = (pixels - 128) / 128 if image.is_bytes else pixels
            features.append(convolutions({Columns.OBS: pixels})[ENCODER_OUT])
            others.append(flat[:, begin : image.begin])
            begin = image.end
        rest = torch.cat([*others, flat[:, begin:]], 1)
        features.append(rest if self.rest is None else self.rest({Columns.OBS: rest})[ENCODER_OUT])
        return {ENCODER_OUT: torch.cat(features, 1)}


class LayerEncoder(TorchModel, Encoder):
    """Observation -> [MLP, convolutions or both] -> layer.

    Observations are ``[B, T, ...]`` for a layer with state and ``[B, ...]`` or ``[B, T, ...]`` for a memoryless
    one; images of type uint8 are scaled to ``(pixel - 128) / 128``. State leaves are ``[B, ...]``. The optional
    column ``is_first`` (``[B, T]`` bool) resets the state inside a sequence. ``overwrite_state`` lets the layer write
    the new state over the given one.

    RLlib's own learner connectors pad sequences to one length (``seq_lens`` ``[B]``), and their extra step for the
    bootstrap value makes many a sequence of a single step. Outputs in the padding have no meaning, and
    most of them are not computed.

    Raises:
        UsageError: ``state_in`` is missing or does not fit.
    """

    def __init__(self, config: _LayerEncoderFields) -> None:
        TorchModel.__init__(self, config)
        space = config.observation_space
        assert space is not None and space.shape is not None
        self._observation_rank = len(space.shape)
        self._is_image = space.dtype == np.uint8
        self._at_once = 0
        if config.tokenizer_config is None:
            self.tokenizer = None
            input_size = int(np.prod(space.shape))
        else:
            self.tokenizer = _rectifying_in_place(config.tokenizer_config.build(framework="torch"))
            (input_size,) = config.tokenizer_config.output_dims
            self._at_once = observations_at_once(self.tokenizer, space.shape)
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
        flat = observations.reshape(-1, *observations.shape[len(lead) :])  # [B*T, ...]
        at_once = self._at_once if flat.is_cpu and not torch.compiler.is_compiling() else 0
        if 0 < at_once < len(flat):
            tokens = torch.cat([self._tokens(part) for part in flat.split(at_once)])
        else:
            tokens = self._tokens(flat)
        tokens = tokens.reshape(*lead, -1)
        if not self.layer.state_shapes():
            outputs, _ = self.layer(tokens if len(lead) == 2 else tokens[:, None], None)
            return {ENCODER_OUT: outputs if len(lead) == 2 else outputs[:, 0]}
        with overwriting_states(overwrite_state):
            outputs, state = self.layer(tokens, self._state(inputs), is_first=inputs.get(IS_FIRST))
        return {ENCODER_OUT: outputs, Columns.STATE_OUT: state}

    def _tokens(self, observations: torch.Tensor) -> torch.Tensor:
        """Observations ``[N, ...]`` as the layer reads them, ``[N, tokens]``."""
        tokens = observations.float()
        if self._is_image:
            tokens = tokens.sub_(128.0).div_(128.0) if observations.dtype == torch.uint8 else (tokens - 128) / 128
        return tokens.flatten(1) if self.tokenizer is None else self.tokenizer({Columns.OBS: tokens})[ENCODER_OUT]

    def _state(self, inputs: dict) -> dict[str, torch.Tensor]:
        if Columns.STATE_IN not in inputs:
            shapes = {name: ("B", *shape) for name, shape in self.layer.state_shapes().items()}
            raise UsageError(f"model {self.layer.name}: got no {Columns.STATE_IN}, allowed is a dict of {shapes}")
        return inputs[Columns.STATE_IN]

    def _forward_padded(self, inputs: dict, spans: torch.Tensor) -> dict:
        """Runs the first ``spans`` ``[B]`` steps of each sequence, those of one span together."""
        observations, state = inputs[Columns.OBS], self._state(inputs)
        encoded = torch.zeros(*observations.shape[:2], self.layer.output_size, device=observations.device)
        state_out = {name: torch.empty_like(leaf) for name, leaf in state.items()}
        for span in spans.unique().tolist():
            rows = (spans == span).nonzero()[:, 0]
            part = self._forward(
                {
                    Columns.OBS: observations[rows, :span],
                    Columns.STATE_IN: {name: leaf[rows] for name, leaf in state.items()},
                }
            )
            encoded[rows, :span] = part[ENCODER_OUT]
            for name, leaf in part[Columns.STATE_OUT].items():
                state_out[name][rows] = leaf
        return {ENCODER_OUT: encoded, Columns.STATE_OUT: state_out}


def encoders(module: nn.Module) -> dict[str, LayerEncoder]:
    """Returns a module's layer encoders by their dotted names, e.g. ``{"encoder.encoder": ...}``."""
    return {name: part for name, part in module.named_modules() if isinstance(part, LayerEncoder)}


def observations_at_once(tokenizer: nn.Module, shape: tuple[int, ...]) -> int:
    """How many observations of a shape convolutions take at once on a CPU; 0: all, as where there are none."""
    parts = list(tokenizer.modules())
    of_the_batch = any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in parts)  # its mean and variance
    if of_the_batch or not any(isinstance(part, nn.Conv2d) for part in parts):
        return 0
    return max(1, _CONVOLVED_AT_ONCE // (4 * int(np.prod(shape))))


def _rectifying_in_place(model: nn.Module) -> nn.Module:
    """The model, whose rectified activations take the place of what they come from: less memory to fill."""
    for part in model.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = True
    return model
