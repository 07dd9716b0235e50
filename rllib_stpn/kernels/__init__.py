"""Pure functions of the layers' mathematics: tensors and state in, tensors and state out, no parameters owned."""

from rllib_stpn.kernels.dispatch import stpn
from rllib_stpn.kernels.energy import energy
from rllib_stpn.kernels.hebbff import hebbff
from rllib_stpn.kernels.plasticity import Plasticity, plastic, plastic_fits
from rllib_stpn.kernels.states import overwriting_states
from rllib_stpn.kernels.threads import num_threads, torch_on_one_thread, torch_on_threads

__all__ = [
    "Plasticity",
    "energy",
    "hebbff",
    "num_threads",
    "overwriting_states",
    "plastic",
    "plastic_fits",
    "stpn",
    "torch_on_one_thread",
    "torch_on_threads",
]
