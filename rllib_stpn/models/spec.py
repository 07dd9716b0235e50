"""From a plain dict to the RLModuleSpec that RLlib builds its modules from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.models.utils import get_activation_fn

from rllib_stpn import checks
from rllib_stpn.errors import UsageError, one_of, unknown
from rllib_stpn.layers import LAYERS, Layer, layer_options, layer_path, make_layer
from rllib_stpn.layers.registry import check_options
from rllib_stpn.models.catalog import LayerCatalog
from rllib_stpn.models.distributions import ACTION_DISTRIBUTIONS
from rllib_stpn.models.module import MemoryRLModule
from rllib_stpn.ray_names import register_environments

_MODEL_KEYS = {
    field.name
    for field in dataclasses.fields(DefaultModelConfig)
    if not field.name.startswith(("lstm_", "fusionnet_")) and field.name not in ("use_lstm", "max_seq_len")
} | {"custom_action_dist"}

_ACTIVATIONS = ("relu", "tanh", "elu", "swish", "linear", None)  # and the names of torch.nn's classes
_SIZES = ("hidden_size", "num_parameters")
_PREVIOUS = "lstm_use_prev_"


class LayerSpec(RLModuleSpec, str):
    """An RLModuleSpec that is also the text of its layer, such as ``"hidden_size=32 stpn"``.

    Tune keeps numbers and texts of a search as they are, and has a number of its own in place of other objects. So a
    ``tune.grid_search`` over specs is a search over texts: in directories, in Tune's table and in TensorBoard.
    """

    def __new__(cls, text: str = "", **fields: Any) -> LayerSpec:
        """Keeps the text; the fields are RLModuleSpec's."""
        return str.__new__(cls, text)

    def __init__(self, text: str = "", **fields: Any) -> None:
        super().__init__(**fields)

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        """As RLModuleSpec has it."""
        return super().__eq__(other)

    def __str__(self) -> str:
        """Its text."""
        return str.__str__(self)


def recurrent_spec(
    layer: str | type[Layer],
    /,
    *,
    hidden_size: int | None = None,
    num_parameters: int | None = None,
    max_seq_len: int = 20,
    **options: Any,
) -> RLModuleSpec:
    """Returns the spec of an actor-critic module with the named layer as its memory.

    ::

        config.rl_module(rl_module_spec=recurrent_spec("stpn", hidden_size=64, max_seq_len=50))
        config.rl_module(rl_module_spec=recurrent_spec(MyLayer, hidden_size=64))

    The spec holds the layer's name, or the path of a class of your own, which every process then imports. Registers
    this package's environments with RLlib, so that their plain ids work, e.g. ``"stpn/Pong-v0"``.

    Args:
        layer: One of ``rllib_stpn.layers.LAYERS``, e.g. ``"stpn"``, ``"lstm"``, ``"mlp"``; or a layer of your own: its
            class, or the class's path, e.g. ``"my_layers.MyLayer"``.
        hidden_size: Number of neurons of the layer.
        num_parameters: In place of ``hidden_size``: the layer takes the size that comes closest to this.
        max_seq_len: Steps of back-propagation through time.
        **options: Options of the layer (see ``layer_options(name)``), and keys of RLlib's ``DefaultModelConfig``
            for what stands around it: ``conv_filters``, ``fcnet_hiddens`` (default ``[]``: the layer reads the
            observation itself), ``head_fcnet_hiddens``, ``vf_share_layers`` (default True: policy and value
            share encoder and state), ``free_log_std``, ...; also ``custom_action_dist``: ``"softplus_gaussian"`` for
            continuous actions (``rllib_stpn.models.distributions``).

    Raises:
        UsageError: An unknown layer or option, a value out of range, or a class that other processes cannot import.
    """
    name = layer_path(layer, "custom_model")
    around = {*_SIZES, "max_seq_len", *_MODEL_KEYS}
    if taken := [key for key in layer_options(name) if key in around]:
        raise UsageError(
            f"{name}: got an option {taken[0]!r}, a name that the model block has already, allowed are other names"
        )
    checks.integer(f"{name}: max_seq_len", max_seq_len, at_least=1)
    of_layer = {key: options.pop(key) for key in list(options) if key in layer_options(name)}
    if previous := [key for key in options if key.startswith(_PREVIOUS)]:
        raise UsageError(
            f"{name}: {previous[0]}: a key of a file's model block; in Python, stpn_envs.PreviousActionReward around "
            "the environment shows the model the previous action and reward"
        )
    for key in options:
        if key not in _MODEL_KEYS:
            raise unknown(name, "option", key, sorted({*layer_options(name), *around}))
    checks.choice(f"{name}: custom_action_dist", options.get("custom_action_dist"), [*ACTION_DISTRIBUTIONS, None])
    if hidden_size is not None and num_parameters is not None:
        raise UsageError(f"{name}: got both hidden_size and num_parameters, allowed is one of them")
    _check_around(name, options)
    of_layer |= {"hidden_size": hidden_size} if num_parameters is None else {"num_parameters": num_parameters}
    if name in LAYERS:  # a wrong value is refused here, not in a remote actor
        make_layer(name, input_size=1, **of_layer)
    else:  # which may not take any input size
        check_options(name, **of_layer)
    register_environments()
    return LayerSpec(
        _text(name, of_layer, options),
        module_class=MemoryRLModule,
        catalog_class=LayerCatalog,
        model_config={
            "fcnet_hiddens": [],
            "vf_share_layers": True,
            **options,
            "max_seq_len": max_seq_len,
            "custom_model": name,
            "custom_model_config": of_layer,
        },
    )


def _check_around(name: str, options: Mapping[str, Any]) -> None:
    """Refuses sizes and activations around the layer that RLlib fails on in an actor, or takes and never uses."""
    for key, value in options.items():
        if key.endswith("fcnet_hiddens"):
            if not isinstance(value, (list, tuple)):
                raise UsageError(f"{name}: {key}: got {value!r}, allowed is a list of whole numbers")
            for size in value:
                checks.integer(f"{name}: {key}", size, at_least=1)
        elif key.endswith("_activation"):
            try:
                get_activation_fn(value, "torch")
            except (ValueError, TypeError):
                raise one_of(f"{name}: {key}", value, _ACTIVATIONS) from None


def _text(name: str, of_layer: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """What was given, such as ``"fcnet_hiddens=[64] hidden_size=32 stpn"``: Tune's table shows the end of it."""
    given = {key: value for key, value in {**options, **of_layer}.items() if value is not None}
    return " ".join([*(f"{key}={value}" for key, value in given.items()), name])


def spec_from_model_dict(model: Mapping[str, Any]) -> RLModuleSpec:
    """Returns the spec for a ``model:`` block as it stands in a YAML file.

    ::

        model: {custom_model: stpn, custom_model_config: {hidden_size: 64, normalize: pre}, max_seq_len: 50}

    Args:
        model: ``custom_model`` (a layer's name, or the path of a class of your own), ``custom_model_config`` (its
            options with ``hidden_size`` or ``num_parameters``), ``max_seq_len`` and keys of RLlib's
            ``DefaultModelConfig``.

    Raises:
        UsageError: As ``recurrent_spec``; also for a missing or wrongly typed block.
    """
    model = dict(model)
    name = layer_path(model.pop("custom_model", None), "model: custom_model")
    options = checks.mapping("model: custom_model_config", model.pop("custom_model_config", None) or {})
    if not any(size in options for size in _SIZES):
        raise UsageError(
            f"model: custom_model_config of {name}: got no hidden_size, allowed is a whole number of at least 1 "
            "(or num_parameters in its place)"
        )
    for key in model:
        if key not in _MODEL_KEYS | {"max_seq_len"} and not key.startswith(_PREVIOUS):
            allowed = sorted({*_MODEL_KEYS, "max_seq_len", "custom_model", "custom_model_config"})
            raise unknown("model", "key", key, allowed)
        if key in options:
            raise UsageError(f"model: got {key!r} in both model and custom_model_config, allowed is one place")
    return recurrent_spec(name, **{**model, **options})
