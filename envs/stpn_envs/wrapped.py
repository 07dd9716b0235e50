"""An environment in wrappers that are named by their paths, for files of settings."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import gymnasium

__all__ = ["Wrapped"]


class Wrapped(gymnasium.Wrapper):
    """An environment in gymnasium's wrappers, or your own, with options for each::

        Wrapped({
            "env": "MountainCar-v0",
            "wrappers": [{"gymnasium.wrappers.TimeLimit": {"max_episode_steps": 50}}, "my_wrappers.MyWrapper"],
        })

    Args:
        config: ``env``, the environment's id; ``wrappers``, the innermost first, each a path or a mapping of one path
            to its keyword arguments; all else are arguments of the environment.

    Raises:
        ValueError: A key is missing, or a wrapper that cannot be imported.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        arguments = dict(config)
        missing = [key for key in ("env", "wrappers") if key not in arguments]
        if missing:
            raise ValueError(f"Wrapped: {missing[0]} is missing")
        wrappers = arguments.pop("wrappers")
        if not isinstance(wrappers, (list, tuple)):
            raise ValueError(f"Wrapped: wrappers: got {wrappers!r}, allowed is a list of paths")
        env = gymnasium.make(arguments.pop("env"), **arguments)
        for wrapper in wrappers:
            kind, options = _named(wrapper)
            env = kind(env, **options)
        super().__init__(env)


def _named(wrapper: Any) -> tuple[type[gymnasium.Wrapper], dict[str, Any]]:
    """The class that is named, and its options."""
    path, options = next(iter(wrapper.items())) if isinstance(wrapper, Mapping) and len(wrapper) == 1 else (wrapper, {})
    module, _, name = path.rpartition(".") if isinstance(path, str) else ("", "", "")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        reason = f": {error}" if module else ", allowed is a path such as gymnasium.wrappers.TimeLimit"
        raise ValueError(f"Wrapped: wrappers: got {wrapper!r}{reason}") from error
    if not (isinstance(kind, type) and issubclass(kind, gymnasium.Wrapper)):
        raise ValueError(f"Wrapped: wrappers: got {path!r}, which is no gymnasium.Wrapper")
    return kind, dict(options or {})
