"""HebbFF's Hebbian memory without a matrix per step: within a chunk of time, attention to the outputs so far."""

import functools
from functools import partial
from itertools import repeat

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from rllib_stpn.kernels.memory import flat, workspace
from rllib_stpn.kernels.states import overwriting
from rllib_stpn.kernels.threads import run_slices, slices

# Steps of a chunk: the work for attention grows with their square, that for A is shared by them.
CHUNK = 16

# Pairs of steps times inputs and outputs below which a second thread costs more than it saves.
THREAD_WORK = 4 * 10**6


def hebbff(
    inputs: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    A: torch.Tensor | None,
    keep: torch.Tensor,
    rate: torch.Tensor,
    is_first: torch.Tensor | None = None,
):
    """``h_t = sigmoid((W + A_t) x_t + b)``, ``A_{t+1} = keep A_t + rate h_t x_tᵀ``, on the CPU in float32.

    From the start of a chunk, ``A_t = keep^t A_0 + rate Σ_{s<t} keep^(t-1-s) h_s x_sᵀ``, and the steps need of it but
    ``A_t x_t``: attention to ``h_s`` with the weights ``rate keep^(t-1-s) x_s·x_t`` (Ba, Hinton, Mnih, Leibo, Ionescu,
    "Using Fast Weights to Attend to the Recent Past", NIPS 2016, section 4).

    Args:
        inputs: ``[B, T, I]``.
        weight: ``[H, I]``.
        bias: ``[H]``.
        A: ``[B, H, I]``; None is zeros.
        keep: ``[1]``.
        rate: ``[1]``.
        is_first: ``[B, T]`` bool: A is zero before that step.

    Returns:
        Outputs ``[B, T, H]``, final A. No gradients of second order.
    """
    if inputs.shape[1] <= CHUNK:
        return _chunk(inputs, weight, bias, A, keep, rate, is_first)
    outputs = []
    masks = repeat(None) if is_first is None else is_first.split(CHUNK, 1)
    for x, mask in zip(inputs.split(CHUNK, 1), masks, strict=False):
        output, A = _chunk(x, weight, bias, A, keep, rate, mask)
        outputs.append(output)
    return torch.cat(outputs, 1), A


def _chunk(x, weight, bias, A, keep, rate, is_first):
    steps = x.shape[1]
    episode = None if is_first is None else is_first.cumsum(1)  # [B, C]
    read = None
    if A is not None:
        kept = keep ** torch.arange(steps + 1.0)[:, None]  # [C + 1, 1]
        read = torch.bmm(x, A.transpose(1, 2)) * kept[:-1]  # [B, C, H]
        read = read if episode is None else torch.where(episode[:, :, None] == 0, read, 0.0)
    if steps > 1:
        h = _Attention.apply(x, weight, bias, read, keep, rate, is_first)
    else:
        drive = torch.nn.functional.linear(x, weight, bias)
        h = torch.sigmoid(drive if read is None else drive + read)
    post = h * (rate * keep ** torch.from_numpy(_lags(steps)[-1, :, None]))
    if episode is not None:
        of_last = (episode == episode[:, -1:])[:, :, None]
        post, x = torch.where(of_last, post, 0.0), torch.where(of_last, x, 0.0)
        A = None if A is None else torch.where(episode[:, -1, None, None] == 0, A, 0.0)
    if A is None:
        return h, torch.bmm(post.transpose(1, 2), x)
    in_place = overwriting() and not torch.is_grad_enabled()
    A = A.mul_(kept[-1]) if in_place else A * kept[-1]
    return h, A.baddbmm_(post.transpose(1, 2), x)


@functools.cache
def _lags(steps: int) -> np.ndarray:
    """``[C + 1, C]``: how long ago, at step t or after the chunk, the product of step s was made."""
    t = np.arange(steps + 1, dtype=np.float32)
    return (t[:, None] - t[:-1] - 1).clip(0)


@functools.cache
def _one_less(steps: int) -> np.ndarray:
    return (_lags(steps) - 1).clip(0)


class _Attention(torch.autograd.Function):
    """``h_t = sigmoid(W x_t + b + read_t + Σ_{s<t} rate keep^(t-1-s) (x_t·x_s) h_s)``, s in the episode of t."""

    @staticmethod
    def forward(ctx, x, weight, bias, read, keep, rate, is_first):
        loops = _loops()
        first = _NO_FIRST if is_first is None else is_first.contiguous().view(torch.uint8)
        x = x.detach().contiguous()
        drive = torch.nn.functional.linear(x, weight, bias)
        if read is not None:
            drive += read
        out = torch.empty_like(drive)
        ctx.sizes = *drive.shape[:2], x.shape[2], drive.shape[2]
        ctx.keep, ctx.rate = keep.numpy(force=True), rate.numpy(force=True)
        ctx.powers = ctx.keep ** _lags(drive.shape[1])  # [C + 1, C]
        arrays = flat(x, first, drive, ctx.rate * ctx.powers, out)
        _run(ctx.sizes, loops.forward_vectors, lambda slot: partial(loops.forward, *arrays))
        ctx.save_for_backward(x, first, weight, keep, rate, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, dout):
        loops = _loops()
        x, first, weight, _, _, out = ctx.saved_tensors  # which also looks that none has changed
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
        dkeep = ctx.rate * np.vdot(dage, _lags(out.shape[1]) * ctx.keep ** _one_less(out.shape[1]))
        drate = np.vdot(dage, ctx.powers).reshape(1)
        dp, x = ddrive.flatten(0, 1), x.flatten(0, 1)  # [B C, ...]
        dx = dx.flatten(0, 1).addmm_(dp, weight).view(dx.shape)
        dread = ddrive if ctx.needs_input_grad[3] else None
        return dx, torch.mm(dp.t(), x), dp.sum(0), dread, torch.from_numpy(dkeep), torch.from_numpy(drate), None


@functools.cache
def _loops():
    """The module of the loops, which needs numba, imported no sooner than it is used."""
    from rllib_stpn.kernels import hebbff_lanes

    return hebbff_lanes


_NO_FIRST = torch.empty(0, dtype=torch.uint8)


def _run(sizes, vectors, task):
    """Shares out the groups of sixteen samples; ``task`` gives a thread's loops, less scratch memory and sizes."""
    batch, steps, D, H = sizes
    lanes = _loops().LANES
    room = vectors(steps, D, H) * lanes
    parts = slices(-(-batch // lanes), batch * steps * steps * (D + H), THREAD_WORK)
    run_slices([partial(task(slot), workspace(slot, room), *part, *sizes) for slot, *part in parts])
