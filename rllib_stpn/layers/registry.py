"""Layers by name, as configuration files ask for them."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import torch

from rllib_stpn import checks
from rllib_stpn.errors import UsageError, unknown
from rllib_stpn.layers.fast_weights import FastWeights
from rllib_stpn.layers.gru import GRU
from rllib_stpn.layers.hebbff import HebbFF
from rllib_stpn.layers.layer import Layer
from rllib_stpn.layers.lstm import LSTM
from rllib_stpn.layers.mlp import MLP
from rllib_stpn.layers.modulated_plastic_rnn import ModulatedPlasticRNN
from rllib_stpn.layers.plastic_lstm import PlasticLSTM
from rllib_stpn.layers.plastic_rnn import PlasticRNN
from rllib_stpn.layers.retroactive_plastic_rnn import RetroactivePlasticRNN
from rllib_stpn.layers.rnn import RNN
from rllib_stpn.layers.stack import Stack
from rllib_stpn.layers.stpn import STPN

LAYERS: dict[str, type[Layer]] = {
    layer.name: layer
    for layer in (
        STPN,
        RNN,
        LSTM,
        GRU,
        MLP,
        FastWeights,
        PlasticRNN,
        ModulatedPlasticRNN,
        RetroactivePlasticRNN,
        PlasticLSTM,
        HebbFF,
    )
}


def make_layer(
    name: str, *, input_size: int, hidden_size: int | None = None, num_parameters: int | None = None, **options: Any
) -> Layer:
    """Makes a layer from its name.

    >>> make_layer("stpn", input_size=17, hidden_size=55, normalize="post", clamp=1.0)
    STPN(input_size=17, hidden_size=55, normalize='post', clamp=1.0)
    >>> make_layer("lstm", input_size=17, num_parameters=12000)
    LSTM(input_size=17, hidden_size=46)

    Args:
        name: A key of ``LAYERS``.
        input_size: Features per step.
        hidden_size: Units.
        num_parameters: In place of ``hidden_size``: takes the hidden size at which the number of parameters, those of
            the shared options included, comes closest to this; of two equally close ones the smaller.
        options: What :func:`layer_options` lists for this name.

    Returns:
        The layer, in a :class:`~rllib_stpn.layers.stack.Stack` if an option of that class differs from its default.

    Raises:
        UsageError: An unknown name or option, or a value the layer does not take; not one of the two sizes.
    """
    allowed = layer_options(name)
    for option in options:
        if option not in allowed:
            raise unknown(name, "option", option, allowed)
    if (hidden_size is None) == (num_parameters is None):
        raise UsageError(
            f"{name}: hidden_size, num_parameters: got {hidden_size!r}, {num_parameters!r}, allowed is one of the two"
        )
    kind, shared = LAYERS[name], _described(Stack)
    around = {key: value for key, value in options.items() if key in shared and value != shared[key][0]}
    options = {key: value for key, value in options.items() if key not in shared}

    def make(hidden_size):
        if around:
            return Stack(kind, input_size, hidden_size, **around, **options)
        return kind(input_size, hidden_size, **options)

    if num_parameters is not None:
        checks.integer(f"{name}: num_parameters", num_parameters, at_least=1)
        hidden_size = _closest(make, num_parameters)
    return make(hidden_size)


def _closest(make: Callable[[int], Layer], num_parameters: int) -> int:
    """The hidden size with the number of parameters closest to the given one, by bisection: the number only grows."""

    def count(hidden_size: int) -> int:
        with torch.device("meta"):  # sizes without storage
            return sum(parameter.numel() for parameter in make(hidden_size).parameters())

    high = 1
    while count(high) < num_parameters:
        high *= 2
    low = high // 2  # 0 where a single unit has enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < num_parameters else (low, middle)
    return min((size for size in (low, high) if size), key=lambda size: abs(count(size) - num_parameters))


def layer_options(name: str) -> dict[str, tuple[Any, str]]:
    """Options of a layer beside its sizes, its own and those all layers share: name -> (default, description).

    Raises:
        UsageError: No layer has that name.
    """
    checks.choice("layer", name, LAYERS)
    return _described(LAYERS[name]) | _described(Stack)


def _described(kind: type[Layer]) -> dict[str, tuple[Any, str]]:
    """A class's own options, as its signature and docstring have them."""
    arguments = inspect.getdoc(kind).partition("Args:\n")[2].partition("\n\n")[0]  # type: ignore[union-attr]
    described = {
        key: " ".join(text.split()) for key, text in re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", arguments, re.M)
    }
    return {
        key: (parameter.default, described[key])
        for key, parameter in inspect.signature(kind).parameters.items()
        if parameter.default is not parameter.empty
    }
