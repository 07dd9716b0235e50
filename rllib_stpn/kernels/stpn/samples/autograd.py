"""The loops over samples as a torch autograd function."""

import functools

import numpy as np
import torch

from rllib_stpn.kernels.first_order import first_order
from rllib_stpn.kernels.memory import Lease, flat, workspace
from rllib_stpn.kernels.simd.vector import LANES
from rllib_stpn.kernels.stpn.normalizations import POST
from rllib_stpn.kernels.stpn.samples import backward, forward
from rllib_stpn.kernels.threads import run_slices, slices

# Synapses times steps below which a second thread costs more than it saves; those of backward count threefold.
THREAD_WORK = 2 * 10**6


@first_order
class SamplesSTPN(torch.autograd.Function):
    """Outputs and final F of a sequence."""

    @staticmethod
    def forward(ctx, inputs, h, F, weight, bias, weight_lambda, weight_gamma, is_first, rule, bound, save):
        """Runs the loop; with ``save`` it keeps what backward reads."""
        batch, steps, input_size = inputs.shape
        hidden_size, D = weight.shape
        groups = -(-batch // LANES)
        empty = inputs.new_empty(0)
        first = torch.empty(0, dtype=torch.uint8) if is_first is None else is_first.to(torch.uint8)
        starts = (inputs, first, empty if h is None else h, empty if F is None else F)
        weights = [m.detach().expand(hidden_size, D) for m in (weight, weight_lambda, weight_gamma)]
        squares = weight.detach().square().sum(1) if rule == POST else empty
        last, out = inputs.new_empty(batch, hidden_size, D), inputs.new_empty(batch, steps, hidden_size)
        ctx.lease = Lease(groups * steps * (6 if rule == POST else 3) * hidden_size * LANES) if save else None
        saved = ctx.lease.memory if save else None
        given, (kept,) = flat(*starts, *weights), flat(saved)
        arrays = [*given, *flat(bias, squares, last, out), kept]
        sizes = (batch, steps, input_size, hidden_size, D, rule, bound)

        def task(slot, begin, end):
            scratch = workspace(slot, (hidden_size * D + 2 * D + 8 * hidden_size + 1) * LANES)
            return functools.partial(forward.run, *arrays, scratch, begin, end, *sizes)

        run_slices([task(*part) for part in slices(groups, batch * steps * weight.numel(), THREAD_WORK)])
        ctx.save_for_backward(*starts, *weights)
        ctx.sizes, ctx.groups, ctx.arrays = sizes, groups, [*given, kept]
        ctx.plastic_shapes = weight_lambda.shape, weight_gamma.shape
        ctx.set_materialize_grads(False)
        return out, last

    @staticmethod
    def backward(ctx, dout, dF):
        """Gradients of all tensors."""
        x, _, h0, F0, *_ = ctx.saved_tensors  # this access also checks that none was changed in place
        batch, steps, _, hidden_size, D, *_ = ctx.sizes
        area = hidden_size * D
        dout = x.new_zeros(batch, steps, hidden_size) if dout is None else dout
        dF = x.new_empty(0) if dF is None else dF
        asked = ctx.needs_input_grad[2]  # A state that was recorded needs none.
        # Contiguous, whatever the layout of these.
        dx, dh0, dF0 = (t.new_empty(t.shape) for t in (x, h0, F0 if asked else F0[:0]))
        arrays = [*ctx.arrays, *flat(dout, dF, dx, dh0, dF0)]
        sums = []

        def task(slot, begin, end):
            gradients = (3 * area + hidden_size) * LANES
            vectors = steps * D + (steps + 2) * area + D + 4 * hidden_size + steps + 1
            memory = workspace(slot, gradients + vectors * LANES)
            sums.append(memory[:gradients])
            sums[-1].fill(0)
            return functools.partial(backward.run, *arrays, sums[-1], memory[gradients:], begin, end, *ctx.sizes)

        run_slices([task(*part) for part in slices(ctx.groups, 3 * batch * steps * area, THREAD_WORK)])
        # In the order of the slices, so that equal calls give equal gradients.
        gradients = torch.from_numpy(functools.reduce(np.add, sums)).view(-1, LANES).sum(-1)
        dW, dL, dM = gradients[: 3 * area].view(hidden_size, D, 3).unbind(2)
        return (
            dx,
            dh0 if h0.numel() else None,
            dF0 if dF0.numel() else None,
            dW,
            gradients[3 * area :],
            dL.sum_to_size(ctx.plastic_shapes[0]),
            dM.sum_to_size(ctx.plastic_shapes[1]),
            *[None] * 4,
        )
