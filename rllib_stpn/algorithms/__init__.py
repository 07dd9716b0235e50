"""Algorithms that RLlib lacks."""

from rllib_stpn.algorithms.a2c import A2C, A2CConfig

__all__ = ["A2C", "A2CConfig"]
