"""STPN in plain torch: any device, any float type, gradients by autograd."""

import torch

from rllib_stpn.kernels.recomputed import run_in_chunks
from rllib_stpn.kernels.stpn.normalizations import NORM_OFFSET
from rllib_stpn.kernels.synaptic_energy import synaptic_energy

_GRAPH_TENSORS = 8  # tensors of the size of F that autograd keeps for one step, measured


def stpn_step(x, h, F, weight, bias, weight_lambda, weight_gamma, *, normalize, clamp, energy=False):
    """One step of a layer of short-term plasticity neurons.

    Garcia Rodriguez, Guo, Moraitis, "Short-Term Plasticity Neurons Learning to Learn and Forget" (ICML 2022), the
    STPN equations with the normalisations of its experiments.

    Args:
        x: ``[B, I]`` input of this step.
        h: ``[B, H]`` outputs of the previous step, or None for a feed-forward layer.
        F: ``[B, H, D]`` plastic weights; ``D = I + H``, or ``I`` for a feed-forward layer.
        weight: ``[H, D]`` fixed weights, input columns first.
        bias: ``[H]``.
        weight_lambda: ``[H, D]`` or ``[1]``, retention of F.
        weight_gamma: ``[H, D]`` or ``[1]``, rate of the Hebbian update.
        normalize: "pre", "post" or None.
        clamp: Bound of the absolute value of F, or None.
        energy: Whether to measure the energy.

    Returns:
        Outputs ``[B, H]``, the next F ``[B, H, D]``, energy ``[B, H]`` or None.
    """
    u = x if h is None else torch.cat([x, h], dim=1)  # [B, D]
    G = weight + F  # [B, H, D]
    current = torch.einsum("bhd,bd->bh", G, u)
    if normalize is not None:
        n = torch.linalg.vector_norm(G, dim=2) + NORM_OFFSET  # [B, H]
        current = current / n
    output = torch.tanh(current + bias)
    spent = None
    if energy:
        spent = synaptic_energy(G if normalize is None else G / n[:, :, None], u)
    if normalize == "pre":
        F = F / n[:, :, None]
    F = weight_lambda * F + weight_gamma * (output[:, :, None] * u[:, None, :])
    if clamp is not None:
        F = F.clamp(-clamp, clamp)
    if normalize == "post":
        F = F / (torch.linalg.vector_norm(weight + F, dim=2, keepdim=True) + NORM_OFFSET)
    return output, F, spent


def stpn_reference(
    inputs,
    h,
    F,
    weight,
    bias,
    weight_lambda,
    weight_gamma,
    *,
    normalize,
    clamp,
    recurrent,
    is_first=None,
    return_energy=False,
):
    """STPN over a sequence; arguments and results as in :func:`rllib_stpn.kernels.stpn.stpn`."""
    batch, steps, input_size = inputs.shape
    hidden_size, width = weight.shape
    if F is None:
        F = inputs.new_zeros(batch, hidden_size, width)
    if recurrent and h is None:
        h = inputs.new_zeros(batch, hidden_size)

    own = (weight, bias, weight_lambda, weight_gamma)

    def loop(is_first, measure, inputs, F, h=None, parameters=own):
        outputs, energies = [], []
        for t, x in enumerate(inputs.unbind(1)):
            if is_first is not None:
                first = is_first[:, t, None]  # [B, 1]
                F = torch.where(first[:, :, None], 0.0, F)
                h = torch.where(first, 0.0, h) if recurrent else None
            output, F, spent = stpn_step(x, h, F, *parameters, normalize=normalize, clamp=clamp, energy=measure)
            h = output if recurrent else None
            outputs.append(output)
            energies.append(spent)
        energy = torch.stack(energies, 1) if measure else None
        return torch.stack(outputs, 1), energy, F, *([h] if recurrent else [])

    leaves = (F, h) if recurrent else (F,)
    outputs, energy, leaves = run_in_chunks(loop, (inputs,), is_first, return_energy, leaves, own, _GRAPH_TENSORS)
    return outputs, leaves[1] if recurrent else None, leaves[0], energy
