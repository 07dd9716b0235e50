"""Fast weights that attend to the recent past."""

import torch
from torch.nn import functional

from rllib_stpn import checks
from rllib_stpn.kernels.batched import add_outer, matvec
from rllib_stpn.kernels.plastic import Plasticity
from rllib_stpn.kernels.states import overwriting_states
from rllib_stpn.kernels.synaptic_energy import synaptic_energy
from rllib_stpn.layers.layer import uniform
from rllib_stpn.layers.plastic_layer import PlasticLayer


class FastWeights(PlasticLayer):
    """Fast weights: an outer-product memory of the hidden states, which an inner loop at every step attends to.

    Ba, Hinton, Mnih, Leibo, Ionescu, "Using Fast Weights to Attend to the Recent Past" (NIPS 2016), equations 1 and 2
    with its layer normalisation LN; ``h`` on the right is that of the previous step::

        A = decay · A + rate · h hᵀ
        p = W [x ; h] + b
        s = tanh(LN(p))
        s = tanh(LN(p + A s))         inner_steps times
        h = s

    >>> outputs, state = FastWeights(37, 20)(torch.zeros(2, 9, 37))
    >>> outputs.shape, {key: leaf.shape for key, leaf in state.items()}
    (torch.Size([2, 9, 20]), {'h': torch.Size([2, 20]), 'A': torch.Size([2, 20, 20])})

    Parameters: ``weight`` ``[H, I + H]``, input columns first, and ``bias`` ``[H]``, from U(±1/sqrt(H));
    ``layer_norm_gain`` ``[H]`` of ones and ``layer_norm_bias`` ``[H]`` of zeros. State: ``h`` ``[B, H]`` and
    ``A`` ``[B, H, H]``. Energy: one value per unit, ``|W| u² + Σ_s |A| s²`` over the inner steps.

    Args:
        input_size: Features per step.
        hidden_size: Units.
        inner_steps: Times the inner loop looks into A in one step, the paper's S.
        decay: Retention of A per step, the paper's λ.
        rate: Weight of the new outer product, the paper's η.

    Raises:
        UsageError: An option outside what is listed here.
    """

    name = "fast_weights"
    graph_tensors = 2

    def __init__(
        self, input_size: int, hidden_size: int, *, inner_steps: int = 1, decay: float = 0.9, rate: float = 0.5
    ):
        super().__init__(input_size, hidden_size)
        checks.integer("fast_weights: inner_steps", inner_steps, at_least=1)
        checks.number("fast_weights: decay", decay, above=0)
        checks.number("fast_weights: rate", rate, above=0)
        self.inner_steps = inner_steps
        self.decay = decay
        self.rate = rate
        k = hidden_size**-0.5
        self.weight = uniform(k, hidden_size, input_size + hidden_size)
        self.bias = uniform(k, hidden_size)
        self.layer_norm_gain = torch.nn.Parameter(torch.ones(hidden_size))
        self.layer_norm_bias = torch.nn.Parameter(torch.zeros(hidden_size))

    def state_shapes(self):
        """``h`` ``[H]`` and ``A`` ``[H, H]``."""
        return {"h": (self.hidden_size,), "A": (self.hidden_size, self.hidden_size)}

    def drive(self, inputs):
        """``W x + b`` for the input columns of W."""
        return functional.linear(inputs, self.weight[:, : self.input_size], self.bias)

    def plasticity(self):
        """The rule, for one inner step."""
        if self.inner_steps > 1:
            return None
        weight_x, weight_h = self.weight.split([self.input_size, self.hidden_size], 1)
        norm = self.layer_norm_gain, self.layer_norm_bias
        return Plasticity("fast_weights", weight_x, self.bias, weight_h, keep=self.decay, rate=self.rate, norm=norm)

    def step(self, x, drive, state, return_energy):
        """The equations, with one update of A."""
        h = state["h"]
        A = add_outer(self.decay * state["A"], self.rate * h, h)
        p = torch.addmm(drive, h, self.weight[:, self.input_size :].T)  # [B, H]
        spent = [synaptic_energy(self.weight, torch.cat([x, h], 1))] if return_energy else []
        s = self._squash(p)
        for _ in range(self.inner_steps):
            if return_energy:
                spent.append(synaptic_energy(A, s))
            s = self._squash(p + matvec(A, s))
        return s, {"h": s, "A": A}, sum(spent) if return_energy else None

    def energy_without(self, inputs, state, columns=None):
        """The energy of the whole step less that of the ignored inputs: without them the inner steps would differ."""
        columns = slice(None) if columns is None else list(columns)
        with torch.no_grad(), overwriting_states(False):
            _, _, spent = self.forward(inputs, state, return_energy=True)
            return spent - synaptic_energy(self.weight[:, : self.input_size][:, columns], inputs[..., columns])

    def _squash(self, p):
        return torch.tanh(functional.layer_norm(p, (self.hidden_size,), self.layer_norm_gain, self.layer_norm_bias))
