"""Gymnasium environments for agents with memory.

Importing the package registers its environments with gymnasium, each with a scalar form
(``gymnasium.make``) and a vector form (``gymnasium.make_vec(...,
vectorization_mode="vector_entry_point")``) that agree step for step. In a process that imported nothing,
the id with the module in front does both: ``gymnasium.make("stpn_envs:stpn/Pong-v0")``.

The environments are built on gymnasium and numpy; an emulator or simulator is imported when its environment
is made.
"""

from __future__ import annotations

from typing import Any

import gymnasium

__all__ = ["ENV_IDS", "register"]

# id: (scalar class, vector class, keyword arguments fixed by the id)
_ENVIRONMENTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "stpn/Atari-v0": ("stpn_envs.atari:AtariEnv", "stpn_envs.atari:AtariVectorEnv", {}),
    "stpn/Pong-v0": ("stpn_envs.atari:AtariEnv", "stpn_envs.atari:AtariVectorEnv", {"game": "pong"}),
}

ENV_IDS: tuple[str, ...] = tuple(_ENVIRONMENTS)
"""The registered ids, without the ``stpn_envs:`` in front."""


def register() -> None:
    """Register every id of `ENV_IDS` with gymnasium; ids that are registered already are left as they are.

    Called on import. No time limit wrapper is asked for: the environments truncate their episodes themselves.
    """
    for env_id, (entry_point, vector_entry_point, kwargs) in _ENVIRONMENTS.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(
                env_id, entry_point=entry_point, vector_entry_point=vector_entry_point, kwargs=dict(kwargs)
            )


register()
