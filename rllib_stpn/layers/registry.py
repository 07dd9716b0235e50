"""Layers by name, as configuration files ask for them: those of this package, and a user's own by their path."""

import importlib
import inspect
import re
from collections.abc import Callable
from typing import Any

import torch

from rllib_stpn import checks
from rllib_stpn.errors import UsageError, did_you_mean, in_words_with_place, unknown
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

_SIZES = ["input_size", "hidden_size"]
_LARGEST = 2**24
"""Most units that are tried for a number of parameters."""


def make_layer(
    layer: str | type[Layer],
    /,
    *,
    input_size: int,
    hidden_size: int | None = None,
    num_parameters: int | None = None,
    **options: Any,
) -> Layer:
    """Makes a layer from its name.

    >>> make_layer("stpn", input_size=17, hidden_size=55, normalize="post", clamp=1.0)
    STPN(input_size=17, hidden_size=55, normalize='post', clamp=1.0)
    >>> make_layer("lstm", input_size=17, num_parameters=12000)
    LSTM(input_size=17, hidden_size=46)

    Args:
        layer: A key of ``LAYERS``, or a class of your own: itself or its path, such as ``"my_layers.MyLayer"``.
        input_size: Features per step.
        hidden_size: Units.
        num_parameters: In place of ``hidden_size``: takes the hidden size at which the number of parameters, those of
            the shared options included, comes closest to this; of two equally close ones the smaller.
        options: What :func:`layer_options` lists for this layer.

    Returns:
        The layer, in a :class:`~rllib_stpn.layers.stack.Stack` if an option of that class differs from its default.

    Raises:
        UsageError: An unknown name or option, an option that is missing, or a value the layer does not take; not one
            of the two sizes; a class that is no layer.
    """
    kind = layer_class(layer)
    name = _shown(layer)
    check_options(layer, hidden_size=hidden_size, num_parameters=num_parameters, **options)
    shared = _shared_options(kind)
    around = {key: value for key, value in options.items() if key in shared and repr(value) != repr(shared[key][0])}
    options = {key: value for key, value in options.items() if key not in shared}

    def make(hidden_size):
        try:
            if around:
                return Stack(kind, input_size, hidden_size, **around, **options)
            return kind(input_size, hidden_size, **options)
        except UsageError:
            raise
        except Exception as error:  # of the user's own constructor
            raise UsageError(
                f"{name}: its constructor failed with input_size={input_size}, hidden_size={hidden_size}: "
                f"{in_words_with_place(error)}"
            ) from error

    if num_parameters is not None:
        hidden_size = _closest(name, make, num_parameters)
    return make(hidden_size)


def _closest(name: str, make: Callable[[int], Layer], num_parameters: int) -> int:
    """The hidden size with the number of parameters closest to the given one, by bisection: the number only grows."""

    def count(hidden_size: int) -> int:
        with torch.device("meta"):  # sizes without storage
            return sum(parameter.numel() for parameter in make(hidden_size).parameters())

    high = 1
    while count(high) < num_parameters:
        high *= 2
        if high > _LARGEST:
            raise UsageError(
                f"{name}: num_parameters: got {num_parameters}, allowed are numbers that {_LARGEST:,} units have"
            )
    low = high // 2  # 0 where a single unit has enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < num_parameters else (low, middle)
    return min((size for size in (low, high) if size), key=lambda size: abs(count(size) - num_parameters))


def layer_options(layer: str | type[Layer]) -> dict[str, tuple[Any, str]]:
    """Options of a layer beside its sizes, its own and those all layers share: name -> (default, description).

    The default is ``inspect.Parameter.empty`` for an option that has to be given, the description empty where the
    class's docstring has none.

    Raises:
        UsageError: No layer has that name.
    """
    kind = layer_class(layer)
    return _described(kind) | _shared_options(kind)


def check_options(
    layer: str | type[Layer], /, *, hidden_size: int | None = None, num_parameters: int | None = None, **options: Any
) -> None:
    """Checks what :func:`make_layer` is given, but for the options' values, of which the constructor knows.

    Raises:
        UsageError: As :func:`make_layer`.
    """
    name, allowed = _shown(layer), layer_options(layer)
    if (hidden_size is None) == (num_parameters is None):
        raise UsageError(
            f"{name}: hidden_size, num_parameters: got {hidden_size!r}, {num_parameters!r}, allowed is one of the two"
        )
    checks.integer(f"{name}: hidden_size", hidden_size, at_least=1, or_none=True)
    checks.integer(f"{name}: num_parameters", num_parameters, at_least=1, or_none=True)
    for option in options:
        if option not in allowed:
            raise unknown(name, "option", option, allowed)
    for option, (default, _) in allowed.items():
        if default is inspect.Parameter.empty and option not in options:
            raise UsageError(f"{name}: {option}: got no value, allowed is one, as it has no default")


def layer_class(layer: str | type[Layer], where: str = "layer") -> type[Layer]:
    """The class of a layer.

    Args:
        layer: A key of ``LAYERS``, a class's path, or the class.
        where: What it was given for, as the user wrote it.

    Raises:
        UsageError: There is none, or it is no layer that can be made from its sizes and options.
    """
    if isinstance(layer, str):
        if layer in LAYERS:
            return LAYERS[layer]
        if "." not in layer:
            raise UsageError(
                f"{where}: got {layer!r}, allowed are {', '.join(map(repr, LAYERS))}, or the path of a class of your "
                f"own, such as 'my_layers.MyLayer'{did_you_mean(layer, LAYERS)}"
            )
        kind = _imported(where, layer)
    else:
        kind = layer
    if not (isinstance(kind, type) and issubclass(kind, Layer)):
        raise UsageError(
            f"{where}: got {layer!r}, allowed are names of layers, and classes that derive from rllib_stpn.layers.Layer"
        )
    _check_class(where, kind)
    return kind


def layer_path(layer: str | type[Layer], where: str = "layer") -> str:
    """What every process finds a layer by: its name, or the path of a user's own class.

    Raises:
        UsageError: As :func:`layer_class`, or other processes cannot import the class.
    """
    kind = layer_class(layer, where)
    if kind in LAYERS.values():
        return kind.name
    if isinstance(layer, str):
        return layer
    if "." not in kind.__qualname__ and kind.__module__ != "__main__":
        try:
            found = getattr(importlib.import_module(kind.__module__), kind.__qualname__, None)
        except Exception:  # a module of a name that only this process knows
            found = None
        if found is kind:
            return f"{kind.__module__}.{kind.__qualname__}"
    within, _, name = f"{kind.__module__}.{kind.__qualname__}".rpartition(".")
    raise UsageError(f"{where}: got {name} of {within.replace('.<locals>', '')}, {_ELSEWHERE.format(name=name)}")


_ELSEWHERE = (
    "which other processes cannot import; allowed is a class at the top of a module: put it into a file of its own, "
    "such as my_layers.py, and give my_layers.{name}"
)


def _shown(layer: str | type[Layer]) -> str:
    """What errors call it."""
    if isinstance(layer, str):
        return layer
    return layer.name


def _imported(where: str, path: str) -> Any:
    module, _, name = path.rpartition(".")
    if module == "__main__":
        raise UsageError(f"{where}: got {path!r}, {_ELSEWHERE.format(name=name)}")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{where}: {path!r} cannot be imported: {error}; allowed are modules in the current directory, in "
            "PYTHONPATH, beside the file of the experiment, and installed ones"
        ) from error
    except Exception as error:  # whatever the user's module does when it is imported
        raise UsageError(f"{where}: {path!r} cannot be imported: {in_words_with_place(error)}") from error
    if not hasattr(found, name):
        classes = [key for key, value in vars(found).items() if getattr(value, "__module__", None) == module]
        raise UsageError(f"{where}: {path!r}: {module} has no class {name!r}{did_you_mean(name, classes)}")
    return getattr(found, name)


def _check_class(where: str, kind: type[Layer]) -> None:
    """Raises unless it defines what a layer needs, in a constructor that names its options."""
    lacking = [key for key in dir(kind) if getattr(getattr(kind, key, None), "__isabstractmethod__", False)]
    lacking += ["step (or run)"] if kind.step is Layer.step and kind.run is Layer.run else []
    if lacking:
        raise UsageError(f"{where}: got {kind.__name__}, allowed are layers that define {', '.join(lacking)}")
    signature = inspect.signature(kind)
    sizes, options = list(signature.parameters)[:2], list(signature.parameters.values())[2:]
    by_name = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if sizes != _SIZES or any(option.kind not in by_name for option in options):
        raise UsageError(
            f"{where}: got {kind.__name__} with the constructor {signature}, allowed are constructors that take "
            "input_size and hidden_size first, and then each option by its name"
        )


def _shared_options(kind: type[Layer]) -> dict[str, tuple[Any, str]]:
    """Those that every layer has, but for those that a class has itself under the same name."""
    own = inspect.signature(kind).parameters
    return {key: described for key, described in _described(Stack).items() if key not in own}


def _described(kind: type[Layer]) -> dict[str, tuple[Any, str]]:
    """A class's own options, as its signature and docstring have them."""
    arguments = (inspect.getdoc(kind) or "").partition("Args:\n")[2].partition("\n\n")[0]
    described = {
        key: " ".join(text.split()) for key, text in re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", arguments, re.M)
    }
    return {
        key: (parameter.default, described.get(key, ""))
        for key, parameter in inspect.signature(kind).parameters.items()
        if key not in ("kind", *_SIZES) and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
