"""The loops over columns as a torch autograd function."""

import functools
import math

import numpy as np
import torch

from rllib_stpn.kernels.first_order import first_order
from rllib_stpn.kernels.laid_out import laid_out
from rllib_stpn.kernels.memory import Lease, flat, uninitialised, workspace
from rllib_stpn.kernels.simd.vector import LANES
from rllib_stpn.kernels.states import overwriting
from rllib_stpn.kernels.stpn.columns import backward, forward
from rllib_stpn.kernels.stpn.columns.step_back import SUMS
from rllib_stpn.kernels.stpn.normalizations import POST
from rllib_stpn.kernels.threads import run_slices, slices

# Bytes of weights up to which they stay in the second-level cache; beyond, a single step takes all samples through
# sixteen rows, then through the next.
WEIGHT_BYTES = 2**19

# Samples worked on together, which share loads of the weights, and columns per pass, which stay within a first-level
# cache of 32 KB. Backward, which touches more per column, was fastest with whole rows.
FORWARD_BLOCK, FORWARD_TILE = 4, 512
BACKWARD_BLOCK = 2

# Bytes of one sample's E beyond which backward takes two steps in one pass: the weights and their gradients, which each
# pass reads, come from the third-level cache then.
SAMPLE_BYTES = 192 * 2**10

# Bytes of E over a whole sequence up to which backward keeps all of it; beyond, it goes in segments.
TRACE_BYTES = 4 * 2**20

# Synapses times steps below which a second thread costs more than it saves; those of backward count threefold.
THREAD_WORK = 2 * 10**6

_PAGE = 1024  # floats in 4 KB, the distance at which addresses compete for the same cache set
_STAGGER = 80


@first_order
class ColumnsSTPN(torch.autograd.Function):
    """Outputs, final F and energy of a sequence."""

    @staticmethod
    def forward(ctx, inputs, h, F, weight, bias, weight_lambda, weight_gamma, is_first, rule, bound, energy):
        """Runs the loop and keeps what backward reads."""
        batch, steps, _ = inputs.shape
        ctx.lease = Lease(batch * steps * (5 if rule == POST else 2) * _round_up(len(weight)))
        matrices = weight, weight_lambda, weight_gamma
        results, kept = _run(inputs, h, F, matrices, bias, is_first, rule, bound, energy, ctx.lease.memory)
        ctx.save_for_backward(*kept, results[0])
        ctx.rule, ctx.bound, ctx.D = rule, bound, weight.shape[1]
        ctx.plastic_shapes = weight_lambda.shape, weight_gamma.shape
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(results[2])
        return results

    @staticmethod
    def backward(ctx, dout, dF, _):
        """Gradients of all tensors."""
        inputs, first, h0, F0, weights, out = ctx.saved_tensors
        saved = ctx.lease.memory
        batch, steps, input_size = inputs.shape
        hidden_size, vectors = weights.shape[:2]
        width, rows, D = vectors * LANES, _round_up(hidden_size), ctx.D
        dout = torch.zeros_like(out) if dout is None else dout
        dF = inputs.new_empty(0) if dF is None else dF
        asked = ctx.needs_input_grad[2]  # A state that was recorded needs none, and it would be as large as all traces.
        dx, dh0, dF0 = (uninitialised(*t.shape) for t in (inputs, h0, F0 if asked else F0[:0]))
        arrays = flat(out, saved, dout, dF, inputs, first, h0, F0)
        results = flat(dx, dh0, dF0)
        parts = slices(batch, 3 * batch * steps * hidden_size * D, THREAD_WORK)
        room = hidden_size * width + _STAGGER
        block, two = BACKWARD_BLOCK, int(4 * room > SAMPLE_BYTES)
        whole = 4 * steps * block * room <= (1 + two) * TRACE_BYTES
        length = steps if whole else _segment(steps, 1 + two)
        segments = -(-steps // length)
        sums = []

        def task(slot, begin, end):
            gradients, db, u, values, *scratch = _staggered(
                slot,
                3 * hidden_size * width,
                rows,
                (length + 1) * block * width,
                9 * length * block * rows,
                (-(-length // (1 + two)) + 1) * block * room,
                segments * block * room,
                block * room,
                (3 if two else 1) * block * width,
                block * SUMS * rows * LANES,
                2 * block * rows,
            )
            for array in (gradients, db, u, values):
                array.fill(0)
            sums.append((gradients, db))
            sizes = (begin, end, steps, input_size, hidden_size, int(input_size != D))
            options = (ctx.rule, block, length, room, two, ctx.bound)
            return functools.partial(
                backward.run,
                *arrays,
                *flat(weights),
                gradients,
                db,
                *results,
                u,
                values,
                *scratch,
                *sizes,
                *options,
            )

        run_slices([task(*part) for part in parts])
        # In the order of the slices, so that equal calls give equal gradients.
        gradients, db = (torch.from_numpy(functools.reduce(_added, parts)) for parts in zip(*sums, strict=True))
        # Copies in any case: the scratch memory will be written over.
        gradients = gradients.view(hidden_size, vectors, 3, LANES).permute(2, 0, 1, 3)
        dW, dL, dM = gradients.clone(memory_format=torch.contiguous_format).view(3, hidden_size, width)[:, :, :D]
        return (
            dx,
            dh0 if h0.numel() else None,
            dF0 if dF0.numel() else None,
            dW,
            db[:hidden_size].clone(),
            dL.sum_to_size(ctx.plastic_shapes[0]),
            dM.sum_to_size(ctx.plastic_shapes[1]),
            *[None] * 4,
        )


def columns_without_gradients(inputs, h, F, weight, bias, weight_lambda, weight_gamma, is_first, rule, bound, energy):
    """As ``ColumnsSTPN.apply``, with nothing kept for a backward."""
    matrices = weight, weight_lambda, weight_gamma
    return _run(inputs, h, F, matrices, bias, is_first, rule, bound, energy, None)[0]


def _run(inputs, h, F, matrices, bias, is_first, rule, bound, energy, saved):
    """Outputs, final F and energy; and what backward reads beside ``saved``, where that is not None."""
    batch, steps, input_size = inputs.shape
    hidden_size, D = matrices[0].shape
    width, rows = _round_up(D), _round_up(hidden_size)
    inputs = inputs.detach().contiguous()
    first = torch.zeros(batch, steps + 1, dtype=torch.uint8)
    if is_first is not None:
        first[:, :-1] = is_first
    empty = inputs.new_empty(0)
    h0 = empty if h is None else h.detach().contiguous()
    F0 = empty if F is None else F.detach().contiguous()
    weights, *vectors = laid_out(_lay_out, (*matrices, bias), rule)
    out = inputs.new_empty(batch, steps, hidden_size)
    in_place = overwriting() and saved is None and F is not None and F.is_contiguous()
    last = F.detach() if in_place else uninitialised(batch, hidden_size, D)
    F0 = empty if in_place else F0
    spent = inputs.new_empty(batch, steps, hidden_size) if energy else empty
    arrays = flat(inputs, first, h0, F0, weights, *vectors, last, out, saved, spent)
    # A single step has nothing to share; one sample at a time, its F is still in cache for the update.
    block = FORWARD_BLOCK if steps > 1 else 1
    chunk = LANES if steps == 1 and 4 * weights.numel() > WEIGHT_BYTES else rows

    def task(slot, begin, end):
        scratch = _staggered(slot, 2 * block * width, block * 5 * rows * LANES, 4 * block * rows)
        for array in scratch:
            array.fill(0)
        sizes = (begin, end, steps, input_size, hidden_size, int(input_size != D))
        options = (rule, int(saved is not None), int(energy), int(in_place), chunk, block, FORWARD_TILE, bound)
        return functools.partial(forward.run, *arrays, *scratch, *sizes, *options)

    run_slices([task(*part) for part in slices(batch, batch * steps * hidden_size * D, THREAD_WORK)])
    return (out, last, spent), (inputs, first, h0, F0, weights)


def _lay_out(weight, weight_lambda, weight_gamma, bias, rule):
    """W, Λ and Γ side by side ``[H, D / 16, 3, 16]``, the bias, and for "post" each row's sum of W²."""
    hidden_size, D = weight.shape
    width, rows = _round_up(D), _round_up(hidden_size)
    matrices = [_padded(m.detach().expand(hidden_size, D), width) for m in (weight, weight_lambda, weight_gamma)]
    weights = torch.stack([m.view(hidden_size, -1, LANES) for m in matrices], dim=2)
    squares = _padded(matrices[0].square().sum(1), rows) if rule == POST else weights.new_empty(0)
    return weights, _padded(bias, rows), squares


def _segment(steps: int, every: int) -> int:
    """The length with which the fewest E are kept: one a segment, and in one of them one for ``every`` steps."""
    return every * max(1, round(math.sqrt(steps / every)))


def _round_up(n: int) -> int:
    return (n + LANES - 1) // LANES * LANES


def _padded(tensor: torch.Tensor, size: int) -> torch.Tensor:
    """The tensor with its last axis filled up with zeros."""
    tensor = tensor.detach()
    if tensor.shape[-1] == size:
        return tensor.contiguous()
    return torch.nn.functional.pad(tensor, (0, size - tensor.shape[-1]))


def _added(total: np.ndarray, part: np.ndarray) -> np.ndarray:
    return np.add(total, part, out=total)


def _staggered(slot: int, *sizes: int) -> list[np.ndarray]:
    """Uninitialised arrays that start on different cache sets; allocated one by one, large ones would share theirs."""
    starts, end = [], 0
    for i, size in enumerate(sizes):
        end += (i * _STAGGER - end) % _PAGE
        starts.append(end)
        end += size
    memory = workspace(slot, end)
    return [memory[start : start + size] for start, size in zip(starts, sizes, strict=True)]
