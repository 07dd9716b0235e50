"""Backward by recomputation, for loops over steps whose graph would not fit."""

import math

import torch
from torch.autograd.function import once_differentiable

GRAPH_BYTES = 256 * 2**20
"""Where the autograd graph of a loop over steps would take more than this, backward recomputes it in chunks of time."""


def run_in_chunks(loop, sequences, is_first, measure, leaves, parameters, graph_tensors):
    """Runs a loop over steps, in chunks of time where its autograd graph would exceed ``GRAPH_BYTES``.

    Args:
        loop: ``loop(is_first, measure, *sequences, *leaves)`` returns outputs ``[B, T, ...]``, energy ``[B, T, units]``
            or None, and the new leaves. It finds the parameters by itself.
        sequences: Tensors ``[B, T, ...]``.
        is_first: ``[B, T]`` bool or None.
        measure: Whether to measure the energy.
        leaves: The state's tensors, batch first.
        parameters: All tensors of which ``loop`` needs gradients besides.
        graph_tensors: Copies of the state that autograd keeps for one step, or a fraction.

    Returns:
        Outputs, energy or None, and a list of the new leaves.
    """
    steps = sequences[0].shape[1]
    step_bytes = graph_tensors * sum(leaf.numel() * leaf.element_size() for leaf in leaves)
    whole = steps * step_bytes <= GRAPH_BYTES or not torch.is_grad_enabled()
    parameters = () if whole else tuple(parameters)
    if whole or not any(t.requires_grad for t in (*sequences, *leaves, *parameters)):
        output, energy, *leaves = loop(is_first, measure, *sequences, *leaves)
        return output, energy, leaves
    # Chunks keep their start states and, one at a time, their graph; at this length the two are alike.
    balanced = math.isqrt(int(steps / graph_tensors))
    length = max(1, GRAPH_BYTES // step_bytes, balanced)
    masks = [None] * steps if is_first is None else is_first.split(length, 1)
    outputs, energies = [], []
    for mask, *chunks in zip(masks, *(sequence.split(length, 1) for sequence in sequences), strict=False):
        given = (*chunks, *leaves)
        output, energy, *leaves = Recomputed.apply(loop, mask, measure, len(given), *given, *parameters)
        outputs.append(output)
        energies.append(energy)
    return torch.cat(outputs, 1), torch.cat(energies, 1) if energies[0] is not None else None, leaves


class Recomputed(torch.autograd.Function):
    """A chunk of a loop without a graph; backward runs the loop once more, with one.

    ``apply(loop, mask, measure, count, *tensors)`` returns what ``loop(mask, measure, *tensors[:count])`` does; the
    tensors after these are the parameters.

    ``torch.utils.checkpoint`` runs forward in gradient mode, where the heap (glibc's) kept most of the memory that each
    step freed. ``tests/layers/test_memory.py`` bounds the peak of this one.
    """

    @staticmethod
    def forward(ctx, loop, mask, measure, count, *tensors):
        """Without a graph, as autograd functions run."""
        ctx.loop, ctx.count = loop, count
        ctx.save_for_backward(mask, *tensors)
        ctx.set_materialize_grads(False)
        output, energy, *after = loop(mask, measure, *tensors[:count])
        if energy is not None:
            ctx.mark_non_differentiable(energy)
        return output, energy, *after

    @staticmethod
    @once_differentiable
    def backward(ctx, output_gradient, _, *leaf_gradients):
        """With a graph over this chunk alone."""
        mask, *tensors = ctx.saved_tensors
        needed = ctx.needs_input_grad[4:]
        given, parameters = tensors[: ctx.count], tensors[ctx.count :]  # the loop finds the parameters by itself
        given = [tensor.detach().requires_grad_(need) for tensor, need in zip(given, needed, strict=False)]
        with torch.enable_grad():
            output, _, *after = ctx.loop(mask, False, *given)
        ends = [
            (end, gradient)
            for end, gradient in zip((output, *after), (output_gradient, *leaf_gradients), strict=True)
            if gradient is not None and end.requires_grad
        ]
        wanted = [tensor for tensor, need in zip((*given, *parameters), needed, strict=True) if need]
        outputs, gradients = zip(*ends, strict=True)
        found = iter(torch.autograd.grad(outputs, wanted, gradients, allow_unused=True))
        return None, None, None, None, *(next(found) if need else None for need in needed)
