"""Short-term plasticity neurons over a sequence: plain torch, and compiled loops for CPUs."""

from rllib_stpn.kernels.stpn.dispatch import IMPLEMENTATIONS, stpn
from rllib_stpn.kernels.stpn.normalizations import NORMALIZATIONS

__all__ = ["IMPLEMENTATIONS", "NORMALIZATIONS", "stpn"]
