"""Backward by recomputation, for loops over steps whose graph would not fit."""

import torch
from torch.autograd.function import once_differentiable


class Recomputed(torch.autograd.Function):
    """A chunk of the loop of ``Layer.run`` without a graph; backward runs the loop once more, with one.

    ``apply(loop, mask, measure, leaves, inputs, drive, *state, *parameters)`` returns what ``loop(inputs, drive, mask,
    measure, *state)`` does: outputs, energy or None, and the new state, of ``leaves`` tensors.

    In place of ``torch.utils.checkpoint``, which runs forward in gradient mode. There the heap kept most of what each
    step set free (seen with glibc); ``tests/layers/test_memory.py`` holds the peak of this one.
    """

    @staticmethod
    def forward(ctx, loop, mask, measure, leaves, *tensors):
        """Without a graph, as autograd functions run."""
        ctx.loop, ctx.leaves = loop, leaves
        ctx.save_for_backward(mask, *tensors)
        ctx.set_materialize_grads(False)
        output, energy, *after = loop(*tensors[:2], mask, measure, *tensors[2 : 2 + leaves])
        if energy is not None:
            ctx.mark_non_differentiable(energy)
        return output, energy, *after

    @staticmethod
    @once_differentiable
    def backward(ctx, output_gradient, _, *leaf_gradients):
        """With a graph over this chunk alone."""
        mask, *tensors = ctx.saved_tensors
        needed = ctx.needs_input_grad[4:]
        count = 2 + ctx.leaves
        given, parameters = tensors[:count], tensors[count:]  # the loop finds the parameters in the layer
        given = [tensor.detach().requires_grad_(need) for tensor, need in zip(given, needed[:count], strict=True)]
        with torch.enable_grad():
            output, _, *after = ctx.loop(*given[:2], mask, False, *given[2:])
        ends = [
            (end, gradient)
            for end, gradient in zip((output, *after), (output_gradient, *leaf_gradients), strict=True)
            if gradient is not None and end.requires_grad
        ]
        wanted = [tensor for tensor, need in zip((*given, *parameters), needed, strict=True) if need]
        outputs, gradients = zip(*ends, strict=True)
        found = iter(torch.autograd.grad(outputs, wanted, gradients, allow_unused=True))
        return None, None, None, None, *(next(found) if need else None for need in needed)
