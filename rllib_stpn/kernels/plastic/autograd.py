"""The loops of the plastic rules as a torch autograd function."""

import functools
import itertools
import math

import numpy as np
import torch

from rllib_stpn.kernels.first_order import first_order
from rllib_stpn.kernels.memory import Lease, flat, workspace
from rllib_stpn.kernels.plastic.backward import backward_loops
from rllib_stpn.kernels.plastic.forward import forward_loops
from rllib_stpn.kernels.plastic.layout import (
    MODULATED,
    backward_vectors,
    forward_vectors,
    gradient_sizes,
    gradient_vectors,
    saved_vectors,
)
from rllib_stpn.kernels.simd.vector import LANES
from rllib_stpn.kernels.states import overwriting
from rllib_stpn.kernels.threads import run_slices, slices

# Bytes of the plastic matrices of sixteen samples over a sequence up to which backward keeps them all; beyond, it goes
# in segments.
TRACE_BYTES = 4 * 2**20

# Synapses times steps below which a second thread costs more than it saves; those of backward count threefold, and
# laying out a state and back like four steps.
THREAD_WORK = 4 * 10**6


@first_order
class PlasticFunction(torch.autograd.Function):
    """Outputs, final A and E, and the recurrent part of the energy of a sequence."""

    @staticmethod
    def forward(
        ctx, inputs, h, A, E, weight_x, bias, weight, alpha, row0, row1, keep, rate, is_first, rule, energy, graph
    ):
        """Runs the loops; ``graph`` is whether the caller is in gradient mode."""
        # row0 and row1 are weight and bias of the modulator, or gain and shift of the layer normalisation.
        save = graph and any(ctx.needs_input_grad)
        batch, steps, _ = inputs.shape
        H = len(weight_x)
        modulated = rule in MODULATED
        groups = -(-batch // LANES)
        drive = workspace(-1, batch * steps * H)
        product = torch.from_numpy(drive.reshape(-1, H))
        torch.addmm(bias, inputs.flatten(0, 1), weight_x.t(), out=product)
        first = _NO_FIRST if is_first is None else is_first.contiguous().view(torch.uint8)
        out = inputs.new_empty(batch, steps, H)
        # A group is read whole before it is written, so a state may be written over.
        in_place = overwriting() and not save

        def room(matrix):
            reused = in_place and matrix is not None and matrix.is_contiguous()
            return matrix.detach() if reused else inputs.new_empty(batch, H, H)

        last, trace = room(A), room(E) if rule == "retroactive" else None
        spent = torch.empty_like(out) if energy else None
        ctx.lease = Lease(groups * steps * saved_vectors(rule, H) * LANES) if save else None
        saved = ctx.lease.memory if save else None
        rows = (row0, None, None) if modulated else (None, row0, row1)
        given, (kept,) = flat(first, h, A, E, weight, alpha, *rows), flat(saved)
        arrays = [drive, *given, *flat(out, last, trace, spent), kept]
        rated = _number(rate)
        scalars = 1.0 - rated if keep is None else _number(keep), rated, _number(row1) if modulated else 0.0
        run = forward_loops(rule, energy)

        def task(slot, begin, end):
            scratch = workspace(slot, forward_vectors(rule, H) * LANES)
            return functools.partial(run, *arrays, scratch, begin, end, batch, steps, H, *scalars)

        run_slices([task(*part) for part in slices(groups, batch * (steps + 4) * H * H, THREAD_WORK)])
        ctx.save_for_backward(inputs, first, h, A, E, weight_x, weight, alpha, row0, row1)
        ctx.rule, ctx.scalars, ctx.sizes = rule, scalars[:2], (batch, steps, H)
        ctx.arrays = [*given[:-1], kept]  # the shift of a layer normalisation is not read again
        ctx.shapes = keep is None, getattr(keep, "shape", ()), getattr(rate, "shape", ())
        ctx.set_materialize_grads(False)
        if spent is not None:
            ctx.mark_non_differentiable(spent)
        return out, last, trace, spent

    @staticmethod
    def backward(ctx, dout, dA, dE, _):
        """Gradients of all tensors."""
        inputs, _, h, A, E, weight_x, _, alpha, row0, row1 = ctx.saved_tensors
        rule = ctx.rule
        modulated = rule in MODULATED
        batch, steps, H = ctx.sizes
        groups = -(-batch // LANES)
        dout = inputs.new_zeros(batch, steps, H) if dout is None else dout
        ddrive = workspace(-1, batch * steps * H)
        # A state that was recorded needs none.
        dh, dA0, dE0 = (
            t.new_empty(t.shape) if asked else None
            for t, asked in zip((h, A, E), ctx.needs_input_grad[1:4], strict=True)
        )
        # The A that gradients reach: those used by the steps and, where a gradient comes from there, the last one.
        passes = steps + 1 if rule != "fast_weights" and (dA is not None or dE is not None) else steps
        kept = backward_vectors(rule, H, passes, passes) * LANES * 4
        length = passes if kept <= TRACE_BYTES else max(1, round(math.sqrt(passes)))
        arrays = [*ctx.arrays, *flat(dout, dA, dE, ddrive, dh, dA0, dE0)]
        run = backward_loops(rule)
        parts = slices(groups, 3 * batch * steps * H * H, THREAD_WORK)
        sums = np.empty((len(parts), gradient_vectors(rule, H)), dtype=np.float32)
        room = backward_vectors(rule, H, passes, length) * LANES

        def task(slot, begin, end):
            sizes = (batch, steps, H, passes, length)
            return functools.partial(run, *arrays, sums[slot], workspace(slot, room), begin, end, *sizes, *ctx.scalars)

        run_slices([task(*part) for part in parts])
        # In the order of the slices, so that equal calls give equal gradients.
        gradients = functools.reduce(np.add, sums)
        sizes = gradient_sizes(rule, H)
        pieces = [gradients[end - size : end] for size, end in zip(sizes, itertools.accumulate(sizes), strict=True)]
        dweight, dalpha, dbias, drow0, drow1, dkeep, drate, dbias_m = pieces
        tied, keep_shape, rate_shape = ctx.shapes
        if tied:  # keep = 1 - rate
            drate[0] -= dkeep[0]
        dinputs = None
        product = torch.from_numpy(ddrive.reshape(-1, H))
        if ctx.needs_input_grad[0]:
            dinputs = torch.mm(product, weight_x).view(inputs.shape)
        return (
            dinputs,
            dh,
            dA0,
            dE0,
            torch.mm(product.t(), inputs.flatten(0, 1)),
            torch.from_numpy(dbias),
            torch.from_numpy(dweight.reshape(H, H)),
            None if alpha is None else torch.from_numpy(dalpha.reshape(H, H)),
            None if row0 is None else torch.from_numpy(drow0.reshape(row0.shape)),
            None if row1 is None else torch.from_numpy(dbias_m if modulated else drow1),
            torch.from_numpy(dkeep.reshape(keep_shape)) if ctx.needs_input_grad[10] else None,
            torch.from_numpy(drate.reshape(rate_shape)) if ctx.needs_input_grad[11] else None,
            *[None] * 4,
        )


_NO_FIRST = torch.empty(0, dtype=torch.uint8)


def _number(value: torch.Tensor | float) -> float:
    return value.item() if isinstance(value, torch.Tensor) else value
