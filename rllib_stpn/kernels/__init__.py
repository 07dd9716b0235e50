"""Pure functions of the layers' mathematics: tensors and state in, tensors and state out, no parameters owned.

``stpn``, ``plastic`` and ``hebbff`` are one op each, with its plain form in ``reference.py`` and its compiled loops;
``simd`` is what the loops are made of. README.md derives them.
"""

from rllib_stpn.kernels.states import overwriting_states
from rllib_stpn.kernels.threads import num_threads, torch_on_one_thread, torch_on_threads

__all__ = ["num_threads", "overwriting_states", "torch_on_one_thread", "torch_on_threads"]
