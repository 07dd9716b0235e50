"""The recurrent layers with Hebbian plasticity as one op."""

from typing import NamedTuple

import torch

from rllib_stpn.kernels.synaptic_energy import synaptic_energy


class Plasticity(NamedTuple):
    """The rule and the parameters of a layer whose recurrent weights have a Hebbian part.

    With ``d = weight_x x + bias`` and ``h'`` the new output, a step is one of::

        h' = tanh(d + (weight + α ⊙ A) h)
            "additive"      A = clamp(A + rate h' hᵀ, ±1)
            "decaying"      A = keep A + rate h' hᵀ
            "oja"           A_ij = A_ij + rate h'_i (h_j - h'_i A_ij)
            "modulated"     A = clamp(A + M h' hᵀ, ±1)           M = tanh(modulator · h' + modulator bias)
            "retroactive"   A = clamp(A + M E, ±1), then E = keep E + rate h' hᵀ
        h' = tanh(LN(p + A tanh(LN(p))))                        p = d + weight h
            "fast_weights"  A = keep A + rate h hᵀ               before it is used

    Attributes:
        rule: One of those names.
        weight_x: ``[H, I]``.
        bias: ``[H]``.
        weight: ``[H, H]``.
        alpha: ``[H, H]``; None for "fast_weights".
        keep: A number or a tensor of one element; None is ``1 - rate``.
        rate: A number or a tensor of one element.
        modulator: ``[1, H]`` and ``[1]``, weight and bias of the unit that computes M.
        norm: ``[H]`` and ``[H]``, gain and bias of the layer normalisation.
    """

    rule: str
    weight_x: torch.Tensor
    bias: torch.Tensor
    weight: torch.Tensor
    alpha: torch.Tensor | None = None
    keep: torch.Tensor | float | None = 1.0
    rate: torch.Tensor | float = 0.0
    modulator: tuple[torch.Tensor, torch.Tensor] | None = None
    norm: tuple[torch.Tensor, torch.Tensor] | None = None


def plastic(
    plasticity: Plasticity,
    inputs: torch.Tensor,
    h: torch.Tensor | None,
    matrices: list[torch.Tensor | None],
    is_first: torch.Tensor | None = None,
    return_energy: bool = False,
) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor | None]:
    """A layer with Hebbian plasticity over a sequence, on the CPU in float32.

    Args:
        plasticity: The layer's rule and parameters.
        inputs: ``[B, T, I]``.
        h: ``[B, H]`` previous outputs; None is zeros.
        matrices: A ``[B, H, H]`` and for "retroactive" E; None is zeros.
        is_first: ``[B, T]`` bool: the state is zero before that step.
        return_energy: Whether to measure the energy, without gradient:
            :func:`~rllib_stpn.kernels.synaptic_energy.synaptic_energy`.

    Returns:
        Outputs ``[B, T, H]``, final matrices, energy ``[B, T, H]`` (None unless asked for). No gradients of second
        order.
    """
    from rllib_stpn.kernels.plastic.autograd import PlasticFunction  # needs numba

    rule, weight_x, bias, weight, alpha, keep, rate, modulator, norm = plasticity
    state = h, *(*matrices, None)[:2]
    tensors = inputs, *state, weight_x, bias, weight, alpha, *(modulator or norm or (None, None)), keep, rate
    out, A, E, spent = PlasticFunction.apply(*tensors, is_first, rule, return_energy, torch.is_grad_enabled())
    if return_energy:
        spent = spent + synaptic_energy(weight_x, inputs)
    return out, [A, E][: len(matrices)], spent if return_energy else None
