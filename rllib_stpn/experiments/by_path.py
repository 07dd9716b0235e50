"""Classes that a file of settings names by their paths: callbacks and connectors."""

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from rllib_stpn.errors import UsageError, one_of, unknown
from rllib_stpn.ray_names import class_at, is_path

CONNECTORS = ("env_to_module_connector", "module_to_env_connector", "learner_connector")


def callbacks(block: Any) -> Any:
    """What ``callbacks:`` stands for; a class of a Python file stays.

    Raises:
        UsageError: No such class, or an option that the energy callback does not have.
    """
    if callable(block):
        return block
    if isinstance(block, list):
        return [callbacks(each) for each in block]
    if isinstance(block, str) and is_path(block):
        from ray.rllib.callbacks.callbacks import RLlibCallback

        return _subclass("callbacks", block, RLlibCallback)
    from rllib_stpn.energy import EnergyMetricsCallback

    name, options = next(iter(block.items()), (None, {})) if isinstance(block, dict) else (block, {})
    if name != "energy" or (isinstance(block, dict) and len(block) > 1):
        raise one_of(
            "callbacks", block, ("energy", {"energy": {"every_n_steps": 10}}, "the path of a class: module.Class")
        )
    allowed = list(inspect.signature(EnergyMetricsCallback).parameters)
    for key in options or {}:
        if key not in allowed:
            raise unknown("callbacks: energy", "key", key, allowed)
    callback = functools.partial(EnergyMetricsCallback, **(options or {}))
    callback()  # a wrong value is refused here, not in a remote actor
    return callback


class Connectors:
    """The function that RLlib calls for connectors, of those that a file names.

    Args:
        key: One of ``CONNECTORS``.
        block: The path of a class, a mapping of one path to its keyword arguments, or a list of these, the one that
            runs first in front.

    Raises:
        UsageError: There is no such class, it is no connector, or it does not take its arguments.
    """

    def __init__(self, key: str, block: Any) -> None:
        from ray.rllib.connectors.connector_v2 import ConnectorV2

        self.kinds = []
        for each in block if isinstance(block, (list, tuple)) else [block]:
            path, options = next(iter(each.items())) if isinstance(each, Mapping) and len(each) == 1 else (each, None)
            if not (isinstance(path, str) and is_path(path)) or not isinstance(options or {}, Mapping):
                raise one_of(key, each, ("the path of a class: module.Class", "{module.Class: {argument: value}}"))
            kind = _subclass(key, path, ConnectorV2)
            allowed = _arguments(kind)
            for name in options or {}:  # which RLlib's base class would take and forget
                if name not in allowed:
                    raise unknown(f"{key}: {path}", "argument", name, allowed)
            try:
                kind(**(options or {}))
            except Exception as error:  # of the user's own class
                raise UsageError(f"{key}: {path}: {type(error).__name__}: {error}") from error
            self.kinds.append((kind, dict(options or {})))
        self.__name__ = ", ".join(kind.__name__ for kind, _ in self.kinds)

    def __call__(self, *spaces: Any, **more: Any) -> list[Any]:
        """New connectors; they learn the spaces in the pipeline that they are put into."""
        return [kind(**options) for kind, options in self.kinds]


def connectors(settings: dict[str, Any]) -> dict[str, Connectors]:
    """Takes the connectors out of settings, by their keys. None and an empty list are none."""
    blocks = {key: settings.pop(key, None) for key in CONNECTORS}
    return {key: Connectors(key, block) for key, block in blocks.items() if block not in (None, [])}


def _arguments(kind: type) -> list[str]:
    """The keyword arguments that a class and its bases name."""
    signatures = [inspect.signature(vars(each)["__init__"]) for each in kind.__mro__ if "__init__" in vars(each)]
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return sorted({name for each in signatures for name, p in each.parameters.items() if p.kind in by_name} - {"self"})


def _subclass(where: str, path: str, base: type) -> Any:
    try:
        found = class_at(path)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UsageError(f"{where}: got {path}, allowed is a class derived from RLlib's {base.__name__}")
    return found
