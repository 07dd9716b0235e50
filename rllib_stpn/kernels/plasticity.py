"""The recurrent layers with Hebbian plasticity as one op over the fused CPU loops."""

import functools
import itertools
import math
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from rllib_stpn.kernels.energy import energy
from rllib_stpn.kernels.memory import Lease, flat, workspace
from rllib_stpn.kernels.states import overwriting
from rllib_stpn.kernels.threads import run_slices, slices

# Bytes of the plastic matrices of sixteen samples over a sequence up to which backward keeps them all; beyond, it goes
# in segments.
TRACE_BYTES = 4 * 2**20

# Synapses times steps below which a second thread costs more than it saves; those of backward count threefold, and
# laying out a state and back like four steps.
THREAD_WORK = 4 * 10**6


class Plasticity(NamedTuple):
    """What the loops need to know of a layer whose recurrent weights have a Hebbian part.

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


def plastic_fits(*tensors: torch.Tensor | None) -> bool:
    """Whether ``plastic`` can run on these: float32 on the CPU, without autocasting, and numba at hand."""
    fits = all(t is None or (t.is_cpu and t.dtype is torch.float32) for t in tensors)
    return fits and not torch.is_autocast_enabled("cpu") and _loops() is not None


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
        return_energy: Whether to measure the energy (no gradient), see :func:`rllib_stpn.kernels.energy`.

    Returns:
        Outputs ``[B, T, H]``, final matrices, energy ``[B, T, H]`` (None unless asked for).
    """
    rule, weight_x, bias, weight, alpha, keep, rate, modulator, norm = plasticity
    state = h, *(*matrices, None)[:2]
    tensors = inputs, *state, weight_x, bias, weight, alpha, *(modulator or norm or (None, None)), keep, rate
    out, A, E, spent = _Plastic.apply(*tensors, is_first, rule, return_energy, torch.is_grad_enabled())
    if return_energy:
        spent = spent + energy(weight_x, inputs)
    return out, [A, E][: len(matrices)], spent if return_energy else None


@functools.cache
def _loops() -> Any:
    """The module of the loops, None without numba, which is imported here and not before."""
    try:
        from rllib_stpn.kernels import plastic_lanes
    except ImportError as error:
        warnings.warn(
            f"numba cannot be imported ({error}): plastic layers run in plain torch, about five times slower or more",
            stacklevel=5,
        )
        return None
    return plastic_lanes


class _Plastic(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, inputs, h, A, E, weight_x, bias, weight, alpha, row0, row1, keep, rate, is_first, rule, energy, graph
    ):
        # row0 and row1 are weight and bias of the modulator, or gain and shift of the layer normalisation.
        loops, save = _loops(), graph and any(ctx.needs_input_grad)
        batch, steps, _ = inputs.shape
        H = len(weight_x)
        modulated = rule in loops.MODULATED
        groups = -(-batch // loops.LANES)
        drive = workspace(-1, batch * steps * H)
        product = torch.from_numpy(drive.reshape(-1, H))
        torch.addmm(bias, inputs.reshape(batch * steps, -1), weight_x.t(), out=product)
        first = _NO_FIRST if is_first is None else is_first.contiguous().view(torch.uint8)
        out = inputs.new_empty(batch, steps, H)
        # A group is read whole before it is written, so a state may be written over.
        in_place = overwriting() and not save

        def room(matrix):
            reused = in_place and matrix is not None and matrix.is_contiguous()
            return matrix.detach() if reused else inputs.new_empty(batch, H, H)

        last, trace = room(A), room(E) if rule == "retroactive" else None
        spent = torch.empty_like(out) if energy else None
        ctx.lease = Lease(groups * steps * loops.saved_vectors(rule, H) * loops.LANES) if save else None
        saved = ctx.lease.memory if save else None
        rows = (row0, None, None) if modulated else (None, row0, row1)
        given, (kept,) = flat(first, h, A, E, weight, alpha, *rows), flat(saved)
        arrays = [drive, *given, *flat(out, last, trace, spent), kept]
        rated = _number(rate)
        scalars = 1.0 - rated if keep is None else _number(keep), rated, _number(row1) if modulated else 0.0
        run = loops.forward(rule, energy)

        def task(slot, begin, end):
            scratch = workspace(slot, loops.forward_vectors(rule, H) * loops.LANES)
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
    @once_differentiable
    def backward(ctx, dout, dA, dE, _):
        loops = _loops()
        inputs, _, h, A, E, weight_x, _, alpha, row0, row1 = ctx.saved_tensors
        rule = ctx.rule
        modulated = rule in loops.MODULATED
        batch, steps, H = ctx.sizes
        groups = -(-batch // loops.LANES)
        dout = torch.zeros(batch, steps, H) if dout is None else dout
        ddrive = workspace(-1, batch * steps * H)
        dh, dA0, dE0 = (None if t is None else torch.empty(t.shape) for t in (h, A, E))
        # The A that gradients reach: those used by the steps and, where a gradient comes from there, the last one.
        passes = steps + 1 if rule != "fast_weights" and (dA is not None or dE is not None) else steps
        kept = loops.backward_vectors(rule, H, passes, passes) * loops.LANES * 4
        length = passes if kept <= TRACE_BYTES else max(1, round(math.sqrt(passes)))
        arrays = [*ctx.arrays, *flat(dout, dA, dE, ddrive, dh, dA0, dE0)]
        run = loops.backward(rule)
        parts = slices(groups, 3 * batch * steps * H * H, THREAD_WORK)
        sums = np.empty((len(parts), loops.gradient_vectors(rule, H)), dtype=np.float32)
        room = loops.backward_vectors(rule, H, passes, length) * loops.LANES

        def task(slot, begin, end):
            sizes = (batch, steps, H, passes, length)
            return functools.partial(run, *arrays, sums[slot], workspace(slot, room), begin, end, *sizes, *ctx.scalars)

        run_slices([task(*part) for part in parts])
        # In the order of the slices, so that equal calls give equal gradients.
        gradients = functools.reduce(np.add, sums)
        sizes = loops.gradient_sizes(rule, H)
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
            torch.mm(product.t(), inputs.reshape(batch * steps, -1)),
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
