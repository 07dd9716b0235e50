"""The plastic recurrent network that decides afterwards what to keep."""

import torch

from rllib_stpn.kernels.plastic.reference import retroactive
from rllib_stpn.layers.layer import linear
from rllib_stpn.layers.plastic_recurrence import PlasticRecurrence


class RetroactivePlasticRNN(PlasticRecurrence):
    """Plastic recurrent network with retroactive neuromodulation: M gates what an eligibility trace has gathered.

    Miconi, Rawal, Clune, Stanley, "Backpropamine: training self-modifying neural networks with differentiable
    neuromodulated plasticity" (ICLR 2019), retroactive neuromodulation. With ``h'`` the new hidden state::

        h' = tanh(Wx x + b + (Wh + α ⊙ P) h)
        M = tanh(w_m h' + b_m)
        P = clamp(P + M E, ±1)                with the trace before this step's update
        E = (1 - η) E + η h' hᵀ

    >>> outputs, state = RetroactivePlasticRNN(17, 73)(torch.zeros(2, 9, 17))
    >>> outputs.shape, {key: leaf.shape for key, leaf in state.items()}
    (torch.Size([2, 9, 73]), {'h': torch.Size([2, 73]), 'P': torch.Size([2, 73, 73]), 'E': torch.Size([2, 73, 73])})

    Parameters: ``weight_x`` ``[H, I]`` and ``bias`` ``[H]`` from U(±1/sqrt(I)); ``weight_h`` and
    ``weight_alpha`` ``[H, H]``, one row per postsynaptic unit, from U(0, 0.01); ``eta`` ``[1]``, 0.01; the modulator's
    ``weight_m`` ``[1, H]`` and ``bias_m`` ``[1]`` from U(±1/sqrt(H)). State: ``h`` ``[B, H]``, ``P`` and
    ``E`` ``[B, H, H]``. Energy: one value per unit, ``|Wx| x² + |Wh + α ⊙ P| h²``; the modulator is not counted.

    Args:
        input_size: Features per step.
        hidden_size: Units.
    """

    name = "retroactive_plastic_rnn"
    plastic = "P"
    graph_tensors = 3

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.weight_m, self.bias_m = linear(hidden_size, 1)
        self.eta = torch.nn.Parameter(torch.tensor([0.01]))

    def state_shapes(self):
        """``h`` ``[H]``, the plastic weights ``P`` and the eligibility trace ``E``, each ``[H, H]``."""
        return super().state_shapes() | {"E": (self.hidden_size, self.hidden_size)}

    def plasticity(self):
        """The rule, its rates and its modulator."""
        modulator = self.weight_m, self.bias_m
        return self._plasticity("retroactive", keep=None, rate=self.eta, modulator=modulator)

    def update(self, state, output):
        """P takes M times the trace, then the trace is updated."""
        M = torch.tanh(torch.nn.functional.linear(output, self.weight_m, self.bias_m))  # [B, 1]
        P, E = retroactive(state["P"], state["E"], output, state["h"], M, rate=self.eta, keep=1 - self.eta)
        return {"P": P, "E": E}
