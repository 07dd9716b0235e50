"""Agents with memory in their synapses, for Ray RLlib.

``import rllib_stpn`` imports neither Ray nor torch; what is named here is loaded on first use.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

_HOME = {
    "register": "rllib_stpn.registration",
    "load": "rllib_stpn.agents",
    "Agent": "rllib_stpn.agents",
    "evaluate": "rllib_stpn.agents",
    "recurrent_spec": "rllib_stpn.models",
    "make_layer": "rllib_stpn.layers",
    "A2C": "rllib_stpn.algorithms",
    "A2CConfig": "rllib_stpn.algorithms",
    "use_batched_rollouts": "rllib_stpn.rollouts",
    "thin_states": "rllib_stpn.rollouts",
    "EnergyMetricsCallback": "rllib_stpn.energy",
    "UsageError": "rllib_stpn.errors",
}
#: Packages that are used by their own names, such as ``rllib_stpn.experiments.load``.
_PACKAGES = ("experiments", "pretrained")
__all__ = sorted([*_HOME, *_PACKAGES])  # noqa: PLE0604 - the names are strings


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.metadata.version("rllib-stpn")
    if name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'rllib_stpn' has no attribute {name!r}; it has {', '.join(sorted(_HOME))}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME, *_PACKAGES])
