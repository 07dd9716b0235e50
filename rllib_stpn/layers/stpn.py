"""Short-term plasticity neurons."""

import torch

from rllib_stpn import checks
from rllib_stpn.kernels.stpn import IMPLEMENTATIONS, NORMALIZATIONS, stpn
from rllib_stpn.layers.layer import Layer, uniform


class STPN(Layer):
    """Short-term plasticity neurons: every synapse has a fast weight that it learns to write and to forget.

    Garcia Rodriguez, Guo, Moraitis, "Short-Term Plasticity Neurons Learning to Learn and Forget" (ICML 2022). With
    ``u = [x ; h]``, or ``x`` alone when not recurrent, and norms per row, i.e. per neuron::

        G = W + F                          n = ‖G‖ if normalize else 1
        h' = tanh(G u / n + b)
        F = F / n                          if normalize == "pre"
        F = clamp(Λ ⊙ F + Γ ⊙ (h' uᵀ), ±clamp)
        F = F / ‖W + F‖                    if normalize == "post"

    The paper uses ``normalize="pre"`` for associative retrieval and Pong, ``normalize="post", clamp=1.0`` for the maze,
    and the feed-forward ``recurrent=False, normalize=None, clamp=0.1`` (STPNf) for the pendulum. In the maze,
    ``normalize=None, clamp=1.0`` learned far more within 12 million steps (``results/maze_settings``).

    >>> layer = STPN(17, 55, normalize="post", clamp=1.0)
    >>> outputs, state = layer(torch.zeros(2, 9, 17))
    >>> outputs.shape, {key: leaf.shape for key, leaf in state.items()}
    (torch.Size([2, 9, 55]), {'h': torch.Size([2, 55]), 'F': torch.Size([2, 55, 72])})

    Parameters: ``weight`` ``[H, D]``, ``bias`` ``[H]``, ``weight_lambda`` and ``weight_gamma`` ``[H, D]`` or ``[1]``;
    ``D = I + H``, input columns first, or ``I`` when not recurrent. State: ``h`` ``[B, H]`` (recurrent only) and
    ``F`` ``[B, H, D]``. Energy: one value per unit. Λ starts in U(0, 1), W and b in U(±k) and Γ in
    U(±gamma_init_scale·k) with ``k = 1/sqrt(H)``, or ``1/sqrt(I)`` when not recurrent; Λ and Γ are unconstrained.

    Args:
        input_size: Features per step.
        hidden_size: Units.
        recurrent: Whether units see their own previous outputs; False is STPNf.
        per_synapse: Whether every synapse learns its own Λ and Γ; False is one scalar each.
        normalize: "pre" divides F by the norm of W + F before its update, "post" after it, None never.
        clamp: Bound of the absolute value of the fast weights, None for no bound.
        gamma_init_scale: Initial range of Γ as a multiple of W's; 0.001 as published. Larger values start
            with more plasticity.
        implementation: "fused" CPU kernel, plain torch "reference", or "auto", the fastest that can run.

    Raises:
        UsageError: An option outside what is listed here.
    """

    name = "stpn"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        recurrent: bool = True,
        per_synapse: bool = True,
        normalize: str | None = "pre",
        clamp: float | None = None,
        gamma_init_scale: float = 0.001,
        implementation: str = "auto",
    ):
        super().__init__(input_size, hidden_size)
        checks.flag("stpn: recurrent", recurrent)
        checks.flag("stpn: per_synapse", per_synapse)
        checks.choice("stpn: normalize", normalize, NORMALIZATIONS)
        checks.number("stpn: clamp", clamp, above=0, or_none=True)
        checks.number("stpn: gamma_init_scale", gamma_init_scale, above=0)
        checks.choice("stpn: implementation", implementation, IMPLEMENTATIONS)
        self.recurrent = recurrent
        self.per_synapse = per_synapse
        self.normalize = normalize
        self.clamp = clamp
        self.gamma_init_scale = gamma_init_scale
        self.implementation = implementation
        matrix = self.state_shapes()["F"]
        plastic = matrix if per_synapse else (1,)
        k = (hidden_size if recurrent else input_size) ** -0.5
        self.weight = uniform(k, *matrix)
        self.bias = uniform(k, hidden_size)
        self.weight_lambda = torch.nn.Parameter(torch.rand(*plastic))
        self.weight_gamma = uniform(gamma_init_scale * k, *plastic)

    def state_shapes(self):
        """``h`` ``[H]`` when recurrent, ``F`` ``[H, D]``."""
        if self.recurrent:
            return {"h": (self.hidden_size,), "F": (self.hidden_size, self.input_size + self.hidden_size)}
        return {"F": (self.hidden_size, self.input_size)}

    def run(self, inputs, state, is_first, return_energy):
        """The sequence, by the kernel."""
        state = state or {}
        outputs, h, F, energy = stpn(
            inputs,
            state.get("h"),
            state.get("F"),
            self.weight,
            self.bias,
            self.weight_lambda,
            self.weight_gamma,
            normalize=self.normalize,
            clamp=self.clamp,
            recurrent=self.recurrent,
            is_first=is_first,
            return_energy=return_energy,
            implementation=self.implementation,
        )
        return outputs, {"h": h, "F": F} if self.recurrent else {"F": F}, energy
