"""HebbFF's attention within a chunk of time as a torch autograd function."""

import functools
from functools import partial

import numpy as np
import torch

from rllib_stpn.kernels.first_order import first_order
from rllib_stpn.kernels.hebbff import loops
from rllib_stpn.kernels.hebbff.lags import lags
from rllib_stpn.kernels.memory import flat, workspace
from rllib_stpn.kernels.simd.vector import LANES
from rllib_stpn.kernels.threads import run_slices, slices

# Pairs of steps times inputs and outputs below which a second thread costs more than it saves.
THREAD_WORK = 4 * 10**6


@first_order
class Attention(torch.autograd.Function):
    """``h_t = sigmoid(W x_t + b + read_t + Σ_{s<t} rate keep^(t-1-s) (x_t·x_s) h_s)``, s in the episode of t."""

    @staticmethod
    def forward(ctx, x, weight, bias, read, keep, rate, is_first):
        """Outputs ``[B, C, H]``; ``read`` ``[B, C, H]`` is what the steps recall of A as the chunk began, or None."""
        first = _NO_FIRST if is_first is None else is_first.contiguous().view(torch.uint8)
        x = x.detach().contiguous()
        drive = torch.nn.functional.linear(x, weight, bias)
        if read is not None:
            drive += read
        out = torch.empty_like(drive)
        ctx.sizes = *drive.shape[:2], x.shape[2], drive.shape[2]
        ctx.keep, ctx.rate = keep.numpy(force=True), rate.numpy(force=True)
        ctx.powers = ctx.keep ** lags(drive.shape[1])  # [C + 1, C]
        arrays = flat(x, first, drive, ctx.rate * ctx.powers, out)
        _run(ctx.sizes, loops.forward_vectors, lambda slot: partial(loops.forward, *arrays))
        ctx.save_for_backward(x, first, weight, keep, rate, out)
        return out

    @staticmethod
    def backward(ctx, dout):
        """Gradients of all arguments but the mask."""
        x, first, weight, _, _, out = ctx.saved_tensors  # this access also checks that none was changed in place
        dx, ddrive = torch.empty_like(x), torch.empty_like(out)
        ages = ctx.rate * ctx.powers
        arrays = flat(x, first, ages, out, dout, dx, ddrive)
        dages = []

        def task(slot):
            dages.append(np.empty(loops.gradients(out.shape[1]), dtype=np.float32))
            return partial(loops.backward, *arrays, dages[slot])

        _run(ctx.sizes, loops.backward_vectors, task)
        # In the order of the slices, so that equal calls give equal gradients.
        dage = functools.reduce(np.add, dages)[: ages.size].reshape(ages.shape)
        lag = lags(out.shape[1])
        dkeep = ctx.rate * np.vdot(dage, lag * ctx.keep ** (lag - 1).clip(0))
        drate = np.vdot(dage, ctx.powers).reshape(1)
        dp, x = ddrive.flatten(0, 1), x.flatten(0, 1)  # [B C, ...]
        dx = dx.flatten(0, 1).addmm_(dp, weight).view(dx.shape)
        dread = ddrive if ctx.needs_input_grad[3] else None
        return dx, torch.mm(dp.t(), x), dp.sum(0), dread, torch.from_numpy(dkeep), torch.from_numpy(drate), None


_NO_FIRST = torch.empty(0, dtype=torch.uint8)


def _run(sizes, vectors, task):
    """Shares out the groups of sixteen samples; ``task`` gives a thread's loops, less scratch memory and sizes."""
    batch, steps, D, H = sizes
    room = vectors(steps, D, H) * LANES
    parts = slices(-(-batch // LANES), batch * steps * steps * (D + H), THREAD_WORK)
    run_slices([partial(task(slot), workspace(slot, room), *part, *sizes) for slot, *part in parts])
