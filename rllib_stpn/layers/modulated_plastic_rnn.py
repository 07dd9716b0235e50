"""The plastic recurrent network that decides how much to learn."""

import torch

from rllib_stpn.kernels.plastic.reference import additive
from rllib_stpn.layers.layer import linear
from rllib_stpn.layers.plastic_recurrence import PlasticRecurrence


class ModulatedPlasticRNN(PlasticRecurrence):
    """Plastic recurrent network with simple neuromodulation: its own output M sets rate and sign of plasticity.

    Miconi, Rawal, Clune, Stanley, "Backpropamine: training self-modifying neural networks with differentiable
    neuromodulated plasticity" (ICLR 2019), simple neuromodulation. With ``h'`` the new hidden state::

        h' = tanh(Wx x + b + (Wh + α ⊙ Hebb) h)
        M = tanh(w_m h' + b_m)
        Hebb = clamp(Hebb + M h' hᵀ, ±1)

    >>> outputs, state = ModulatedPlasticRNN(17, 73)(torch.zeros(2, 9, 17))
    >>> outputs.shape, {key: leaf.shape for key, leaf in state.items()}
    (torch.Size([2, 9, 73]), {'h': torch.Size([2, 73]), 'Hebb': torch.Size([2, 73, 73])})

    Parameters: ``weight_x`` ``[H, I]`` and ``bias`` ``[H]`` from U(±1/sqrt(I)); ``weight_h`` and
    ``weight_alpha`` ``[H, H]``, one row per postsynaptic unit, from U(0, 0.01); the modulator's ``weight_m`` ``[1, H]``
    and ``bias_m`` ``[1]`` from U(±1/sqrt(H)). State: ``h`` ``[B, H]`` and ``Hebb`` ``[B, H, H]``. Energy: one value per
    unit, ``|Wx| x² + |Wh + α ⊙ Hebb| h²``; the modulator is not counted.

    Args:
        input_size: Features per step.
        hidden_size: Units.
    """

    name = "modulated_plastic_rnn"

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.weight_m, self.bias_m = linear(hidden_size, 1)

    def plasticity(self):
        """The rule and its modulator."""
        return self._plasticity("modulated", modulator=(self.weight_m, self.bias_m))

    def update(self, state, output):
        """Hebb moves by M times the outer product."""
        M = torch.tanh(torch.nn.functional.linear(output, self.weight_m, self.bias_m))  # [B, 1]
        return {"Hebb": additive(state["Hebb"], output, state["h"], rate=M)}
