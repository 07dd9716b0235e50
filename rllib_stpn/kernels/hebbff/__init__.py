"""HebbFF over a sequence: plain torch, and compiled loops for CPUs."""

from rllib_stpn.kernels.hebbff.op import CHUNK, hebbff
from rllib_stpn.kernels.hebbff.reference import hebbff_step

__all__ = ["CHUNK", "hebbff", "hebbff_step"]
