"""The recurrent layers with Hebbian plasticity over a sequence: plain torch, and compiled loops for CPUs."""

from rllib_stpn.kernels.plastic.op import Plasticity, plastic

__all__ = ["Plasticity", "plastic"]
