"""STPN in plain torch: any device, any float type, gradients by autograd."""

import torch
from torch.utils.checkpoint import checkpoint

from rllib_stpn.kernels.energy import energy as synaptic_energy

NORM_OFFSET = 1e-16  # added to every norm, as in the published implementation

GRAPH_BYTES = 256 * 2**20
"""Where the autograd graph over F would take more than this, backward recomputes it in chunks of time."""

_TENSORS_PER_STEP = 8  # tensors of the size of F that autograd keeps for one step, measured


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
    """STPN over a sequence; arguments and results as in :func:`rllib_stpn.kernels.stpn`."""
    batch, steps, input_size = inputs.shape
    hidden_size, width = weight.shape
    if F is None:
        F = inputs.new_zeros(batch, hidden_size, width)
    if recurrent and h is None:
        h = inputs.new_zeros(batch, hidden_size)

    def run(inputs, is_first, h, F, *parameters):
        outputs, energies = [], []
        for t in range(inputs.shape[1]):
            if is_first is not None:
                first = is_first[:, t, None]  # [B, 1]
                F = torch.where(first[:, :, None], 0.0, F)
                h = torch.where(first, 0.0, h) if recurrent else None
            output, F, spent = stpn_step(
                inputs[:, t], h, F, *parameters, normalize=normalize, clamp=clamp, energy=return_energy
            )
            h = output if recurrent else None
            outputs.append(output)
            energies.append(spent)
        return torch.stack(outputs, 1), h, F, torch.stack(energies, 1) if return_energy else None

    parameters = (weight, bias, weight_lambda, weight_gamma)
    tensors = [t for t in (inputs, h, F, *parameters) if t is not None]
    needs_graph = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    step_bytes = _TENSORS_PER_STEP * F.numel() * F.element_size()
    if not needs_graph or steps * step_bytes <= GRAPH_BYTES:
        return run(inputs, is_first, h, F, *parameters)
    length = max(1, GRAPH_BYTES // step_bytes)
    chunks = []
    for start in range(0, steps, length):
        span = slice(start, start + length)
        first = None if is_first is None else is_first[:, span]
        output, h, F, spent = checkpoint(run, inputs[:, span], first, h, F, *parameters, use_reentrant=False)
        chunks.append((output, spent))
    outputs, energies = zip(*chunks, strict=True)
    return torch.cat(outputs, 1), h, F, torch.cat(energies, 1) if return_energy else None
