"""Layers by name, as configuration files ask for them."""

import inspect
import re
from typing import Any

from rllib_stpn.errors import one_of
from rllib_stpn.layers.layer import Layer
from rllib_stpn.layers.lstm import LSTM
from rllib_stpn.layers.mlp import MLP
from rllib_stpn.layers.stpn import STPN

LAYERS: dict[str, type[Layer]] = {layer.name: layer for layer in (STPN, LSTM, MLP)}


def make_layer(name: str, *, input_size: int, hidden_size: int, **options: Any) -> Layer:
    """Makes a layer from its name.

    >>> make_layer("stpn", input_size=17, hidden_size=55, normalize="post", clamp=1.0)
    STPN(input_size=17, hidden_size=55, normalize='post', clamp=1.0)

    Args:
        name: A key of ``LAYERS``.
        input_size: Features per step.
        hidden_size: Units.
        options: What :func:`layer_options` lists for this name.

    Raises:
        UsageError: An unknown name or option, or a value the layer does not take.
    """
    allowed = layer_options(name)
    for option in options:
        if option not in allowed:
            raise one_of(f"{name}: option", option, allowed)
    return LAYERS[name](input_size, hidden_size, **options)


def layer_options(name: str) -> dict[str, tuple[Any, str]]:
    """Options of a layer beside its sizes: name -> (default, description).

    Raises:
        UsageError: No layer has that name.
    """
    if name not in LAYERS:
        raise one_of("layer", name, LAYERS)
    layer = LAYERS[name]
    arguments = inspect.getdoc(layer).partition("Args:\n")[2].partition("\n\n")[0]  # type: ignore[union-attr]
    described = {
        key: " ".join(text.split()) for key, text in re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", arguments, re.M)
    }
    signature = inspect.signature(layer)
    return {
        key: (parameter.default, described[key])
        for key, parameter in signature.parameters.items()
        if key not in ("input_size", "hidden_size")
    }
