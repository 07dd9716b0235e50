"""The recurrent network with differentiable plasticity."""

import torch

from rllib_stpn import checks
from rllib_stpn.kernels.plastic.reference import additive, decaying, oja
from rllib_stpn.layers.plastic_recurrence import PlasticRecurrence

RULES = ("additive", "decaying", "oja")


class PlasticRNN(PlasticRecurrence):
    """Recurrent network with differentiable plasticity: Hebbian traces whose weight per synapse is learned.

    Miconi, Clune, Stanley, "Differentiable plasticity: training plastic neural networks with backpropagation" (ICML
    2018), equations 1 to 3; the additive rule is that of Backpropamine (Miconi et al., ICLR 2019). With ``h'`` the new
    hidden state::

        h' = tanh(Wx x + b + (Wh + α ⊙ Hebb) h)
        Hebb = clamp(Hebb + η h' hᵀ, ±1)                         rule="additive"
        Hebb = (1 - η) Hebb + η h' hᵀ                            rule="decaying"
        Hebb_ij = Hebb_ij + η h'_i (h_j - h'_i Hebb_ij)          rule="oja"

    >>> outputs, state = PlasticRNN(17, 73)(torch.zeros(2, 9, 17))
    >>> outputs.shape, {key: leaf.shape for key, leaf in state.items()}
    (torch.Size([2, 9, 73]), {'h': torch.Size([2, 73]), 'Hebb': torch.Size([2, 73, 73])})

    Parameters: ``weight_x`` ``[H, I]`` and ``bias`` ``[H]`` from U(±1/sqrt(I)); ``weight_h`` and
    ``weight_alpha`` ``[H, H]``, one row per postsynaptic unit, from U(0, 0.01); ``eta`` ``[1]``, 0.01. State:
    ``h`` ``[B, H]`` and ``Hebb`` ``[B, H, H]``. Energy: one value per unit, ``|Wx| x² + |Wh + α ⊙ Hebb| h²``.

    Args:
        input_size: Features per step.
        hidden_size: Units.
        rule: "additive" adds and clamps at ±1, "decaying" forgets at the rate it learns, "oja" is Oja's rule.

    Raises:
        UsageError: An option outside what is listed here.
    """

    name = "plastic_rnn"

    def __init__(self, input_size: int, hidden_size: int, *, rule: str = "additive"):
        super().__init__(input_size, hidden_size)
        self.rule = checks.choice("plastic_rnn: rule", rule, RULES)
        self.eta = torch.nn.Parameter(torch.tensor([0.01]))

    def plasticity(self):
        """The rule by its name."""
        return self._plasticity(self.rule, keep=None if self.rule == "decaying" else 1.0, rate=self.eta)

    def update(self, state, output):
        """The rule's equation."""
        synapses = state["Hebb"], output, state["h"], self.eta
        if self.rule == "additive":
            return {"Hebb": additive(*synapses)}
        return {"Hebb": decaying(*synapses, keep=1 - self.eta) if self.rule == "decaying" else oja(*synapses)}
