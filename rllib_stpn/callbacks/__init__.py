"""Callbacks for RLlib: metrics beside its own."""

from rllib_stpn.callbacks.energy import EnergyMetricsCallback

__all__ = ["EnergyMetricsCallback"]
