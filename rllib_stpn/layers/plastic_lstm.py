"""Long short-term memory with a plastic cell input."""

import torch

from rllib_stpn import checks
from rllib_stpn.kernels.batched import matvec
from rllib_stpn.kernels.plastic.reference import additive, retroactive
from rllib_stpn.kernels.synaptic_energy import synaptic_energy
from rllib_stpn.layers.layer import Layer, linear, uniform

MODULATIONS = ("simple", "retroactive", None)
ALPHAS = ("synapse", "unit")


class PlasticLSTM(Layer):
    """LSTM whose recurrent weights into the cell input are plastic, under neuromodulation.

    Miconi, Rawal, Clune, Stanley, "Backpropamine: training self-modifying neural networks with differentiable
    neuromodulated plasticity" (ICLR 2019), the network of its language model. With ``h'`` and ``c'`` the new state::

        i, f, o = sigmoid(Wx x + b + Wh h)                        their rows of Wx, b and Wh
        g = tanh(Wx x + b + (Wh + α ⊙ Hebb) h)                    the cell input's rows
        c' = f ⊙ c + i ⊙ g
        h' = o ⊙ tanh(c')
        M = tanh(w_m h' + b_m)                                   one number
        m = w_fan M + b_fan                                      one rate per unit
        Hebb_ij = clamp(Hebb_ij + m_i g_i h_j, ±2)               modulation="simple"
        Hebb_ij = clamp(Hebb_ij + m_i E_ij, ±2)                  modulation="retroactive", with E before its update
        E = (1 - η) E + η g hᵀ                                   modulation="retroactive"
        Hebb = clamp(Hebb + η g hᵀ, ±2)                          modulation=None

    >>> outputs, state = PlasticLSTM(17, 40)(torch.zeros(2, 9, 17))
    >>> outputs.shape, {key: leaf.shape for key, leaf in state.items()}
    (torch.Size([2, 9, 40]), {'h': torch.Size([2, 40]), 'c': torch.Size([2, 40]), 'Hebb': torch.Size([2, 40, 40])})

    Parameters: ``weight_x`` ``[4H, I]``, ``weight_h`` ``[4H, H]`` and ``bias`` ``[4H]``, rows in torch's order (input,
    forget, cell, output), from U(±1/sqrt(H)) as in torch's LSTM; ``weight_alpha`` ``[H, H]``, or ``[H, 1]`` per unit,
    from U(0, 0.01); with modulation ``weight_m`` ``[1, H]`` and ``bias_m`` ``[1]`` from U(±1/sqrt(H)),
    ``weight_fan`` ``[H, 1]`` and ``bias_fan`` ``[H]`` from U(±1); ``eta`` ``[1]``, 0.01, unless the modulation is
    simple. State: ``h`` and ``c`` ``[B, H]``, ``Hebb`` ``[B, H, H]``, and ``E`` ``[B, H, H]`` for the retroactive
    modulation. Energy: one value per gate row, ``4H``; modulator and fan-out are not counted.

    Args:
        input_size: Features per step.
        hidden_size: Units.
        modulation: "simple" scales the plasticity of each step, "retroactive" gates an eligibility trace, None learns
            one rate.
        alpha: Whether α is learned per "synapse" or per postsynaptic "unit".

    Raises:
        UsageError: An option outside what is listed here.
    """

    name = "plastic_lstm"
    graph_tensors = 4

    def __init__(self, input_size: int, hidden_size: int, *, modulation: str | None = "simple", alpha: str = "synapse"):
        super().__init__(input_size, hidden_size)
        self.modulation = checks.choice("plastic_lstm: modulation", modulation, MODULATIONS)
        self.alpha = checks.choice("plastic_lstm: alpha", alpha, ALPHAS)
        k = hidden_size**-0.5
        self.weight_x = uniform(k, 4 * hidden_size, input_size)
        self.weight_h = uniform(k, 4 * hidden_size, hidden_size)
        self.bias = uniform(k, 4 * hidden_size)
        self.weight_alpha = torch.nn.Parameter(0.01 * torch.rand(hidden_size, hidden_size if alpha == "synapse" else 1))
        if modulation is not None:
            self.weight_m, self.bias_m = linear(hidden_size, 1)
            self.weight_fan, self.bias_fan = linear(1, hidden_size)
        if modulation != "simple":
            self.eta = torch.nn.Parameter(torch.tensor([0.01]))

    def state_shapes(self):
        """``h`` and ``c`` ``[H]``, ``Hebb`` ``[H, H]`` and, for the retroactive modulation, ``E`` ``[H, H]``."""
        shapes = {"h": (self.hidden_size,), "c": (self.hidden_size,), "Hebb": (self.hidden_size, self.hidden_size)}
        return shapes | ({"E": shapes["Hebb"]} if self.modulation == "retroactive" else {})

    def drive(self, inputs):
        """``Wx x + b``, all rows."""
        return torch.nn.functional.linear(inputs, self.weight_x, self.bias)

    def step(self, x, drive, state, return_energy):
        """The gates, then the rule."""
        h, Hebb = state["h"], state["Hebb"]
        plastic = self.weight_alpha * Hebb  # [B, H, H]
        i, f, g, o = torch.addmm(drive, h, self.weight_h.T).chunk(4, 1)
        g = torch.tanh(g + matvec(plastic, h))
        c = torch.sigmoid(f) * state["c"] + torch.sigmoid(i) * g
        output = torch.sigmoid(o) * torch.tanh(c)
        energy = None
        if return_energy:
            rows_i, rows_f, rows_g, rows_o = (synaptic_energy(rows, h) for rows in self.weight_h.chunk(4))
            rows_g = synaptic_energy(self.weight_h.chunk(4)[2] + plastic, h)
            energy = synaptic_energy(self.weight_x, x) + torch.cat([rows_i, rows_f, rows_g, rows_o], 1)
        return output, {"h": output, "c": c, **self._update(state, g, output)}, energy

    def _update(self, state, g, output):
        Hebb, pre = state["Hebb"], state["h"]
        if self.modulation is None:
            return {"Hebb": additive(Hebb, g, pre, self.eta, clamp=2.0)}
        M = torch.tanh(torch.nn.functional.linear(output, self.weight_m, self.bias_m))  # [B, 1]
        rates = torch.nn.functional.linear(M, self.weight_fan, self.bias_fan)  # [B, H]
        if self.modulation == "simple":
            return {"Hebb": additive(Hebb, g, pre, rates, clamp=2.0)}
        Hebb, E = retroactive(Hebb, state["E"], g, pre, rates, rate=self.eta, keep=1 - self.eta, clamp=2.0)
        return {"Hebb": Hebb, "E": E}
