"""STPN as a torch autograd function over the fused CPU loops."""

import functools
import math

import torch
from torch.autograd.function import once_differentiable

from rllib_stpn.kernels import stpn_cpu
from rllib_stpn.kernels.threads import num_threads, run_slices

LANES = 16
_PAGE = 1024  # floats
_STAGGER = 80
_RULES = {None: 0, "pre": 1, "post": 2}
_SMALL = 512 * 2**10  # bytes of E over a sequence up to which a sample is replayed in one segment

FORWARD_TILE = 512
BACKWARD_TILE = 256
FORWARD_BLOCK = 4
BACKWARD_BLOCK = 4
LENGTH = 0


def _round_up(n: int) -> int:
    return (n + LANES - 1) // LANES * LANES


def _flat(tensor):
    return tensor.detach().contiguous().reshape(-1).numpy()


def _padded(tensor, size):
    """The tensor with its last axis filled up with zeros."""
    tensor = tensor.detach()
    if tensor.shape[-1] == size:
        return tensor.contiguous()
    return torch.nn.functional.pad(tensor, (0, size - tensor.shape[-1]))


def _staggered(*shapes):
    """Zeroed arrays whose starts fall on different cache sets; one page-aligned block each would share the same."""
    starts, end = [], 0
    for i, shape in enumerate(shapes):
        end += (i * _STAGGER - end) % _PAGE
        starts.append(end)
        end += math.prod(shape)
    memory = torch.zeros(end)
    return [memory[a : a + math.prod(shape)].view(shape) for a, shape in zip(starts, shapes, strict=True)]


def _slices(batch):
    count = max(1, min(num_threads(), batch))
    edges = [batch * i // count for i in range(count + 1)]
    return list(zip(edges[:-1], edges[1:], strict=True))


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs, h, F, weight, bias, weight_lambda, weight_gamma, is_first, rule, clamp, energy, save):
        batch, steps, input_size = inputs.shape
        hidden_size, D = weight.shape
        width, rows = _round_up(D), _round_up(hidden_size)
        recurrent = D != input_size
        inputs = inputs.detach().contiguous()
        empty = inputs.new_empty(0)
        x = _flat(inputs)
        first = torch.zeros(batch, steps + 1, dtype=torch.uint8)
        if is_first is not None:
            first[:, :-1] = is_first
        h0 = empty if h is None else h.detach().contiguous()
        F0 = empty if F is None else _padded(F, width)
        W = _padded(weight, width)
        L = _padded(weight_lambda.detach().expand(hidden_size, D), width)
        M = _padded(weight_gamma.detach().expand(hidden_size, D), width)
        weights = torch.stack([t.view(hidden_size, -1, LANES) for t in (W, L, M)], dim=2)
        b = _padded(bias, rows)
        ww = _padded(W.square().sum(1), rows)
        F_last = inputs.new_empty(batch, hidden_size, width)
        out = inputs.new_empty(batch, steps, hidden_size)
        kinds = 5 if rule == 2 else 2
        saved = inputs.new_empty(batch, steps, kinds, rows) if save else empty
        spent = inputs.new_empty(batch, steps, hidden_size) if energy else empty
        bound = math.inf if clamp is None else clamp
        block = FORWARD_BLOCK if steps > 1 else 1
        arrays = [_flat(a) for a in (first, h0, F0, weights, b, ww, F_last, out, saved, spent)]

        def task(begin, end):
            scratch = [_flat(inputs.new_zeros(n)) for n in
                       (2 * block * width, block * 4 * rows * LANES, 4 * block * rows)]
            return lambda: stpn_cpu.forward(
                x, *arrays, *scratch, begin, end, steps, input_size, hidden_size, int(recurrent),
                rule, int(save), int(energy), block, FORWARD_TILE, bound)

        run_slices([task(begin, end) for begin, end in _slices(batch)])
        ctx.save_for_backward(inputs, first, h0, F0, weights, out, saved)
        ctx.rule, ctx.bound, ctx.D = rule, bound, D
        ctx.scalars = weight_lambda.shape, weight_gamma.shape
        ctx.set_materialize_grads(False)
        if width != D:
            F_last = F_last[:, :, :D].contiguous()
        ctx.mark_non_differentiable(spent)
        return out, F_last, spent

    @staticmethod
    @once_differentiable
    def backward(ctx, dout, dF, _):
        inputs, first, h0, F0, weights, out, saved = ctx.saved_tensors
        batch, steps, input_size = inputs.shape
        hidden_size = weights.shape[0]
        width = weights.shape[1] * LANES
        rows, D = _round_up(hidden_size), ctx.D
        recurrent = D != input_size
        empty = inputs.new_empty(0)
        dout = torch.zeros_like(out) if dout is None else dout
        dF = empty if dF is None else _padded(dF, width)
        dx = torch.empty_like(inputs)
        dh0, dF0 = torch.empty_like(h0), torch.empty_like(F0)
        area = hidden_size * width
        slices = _slices(batch)
        block = min(BACKWARD_BLOCK, max(e - b for b, e in slices))
        room = area + _STAGGER
        length = steps
        if 4 * steps * area * block > _SMALL:
            length = min(steps, LENGTH) if LENGTH else max(1, round(math.sqrt(steps)))
        segments = -(-steps // length)
        trace = (length + 1) * block * room
        partial = []
        arrays = [_flat(a) for a in (out, saved, dout, dF, inputs, first, h0, F0)]
        results = [_flat(a) for a in (dx, dh0, dF0)]

        def task(i, begin, end):
            packed, bias, *scratch = _staggered(
                (hidden_size, width // LANES, 6, LANES), (rows,), (trace,), (segments * block * room,), (block * room,),
                ((length + 1) * block * width,), (block * width,), (block * 2 * rows * LANES,), (8 * block * rows,),
                (2 * length * block * rows,))
            packed[:, :, :3] = weights
            partial.append((packed[:, :, 3:], bias))
            gradients = [_flat(packed), _flat(bias)]
            scratch = [_flat(a) for a in scratch]
            return lambda: stpn_cpu.backward(
                *arrays, *gradients, *results, *scratch, begin, end, steps, input_size, hidden_size, int(recurrent),
                ctx.rule, block, BACKWARD_TILE, length, room, ctx.bound)

        run_slices([task(i, begin, end) for i, (begin, end) in enumerate(slices)])
        packed, db = (functools.reduce(torch.add, g) for g in zip(*partial, strict=True))
        dW, dL, dM = (g.reshape(hidden_size, width)[:, :D] for g in packed.unbind(2))
        return (dx, dh0 if h0.numel() else None, dF0[..., :D] if F0.numel() else None, dW, db[:hidden_size],
                dL.sum_to_size(ctx.scalars[0]), dM.sum_to_size(ctx.scalars[1]), None, None, None, None, None)


def stpn_fused(inputs, h, F, weight, bias, weight_lambda, weight_gamma, *, normalize, clamp, recurrent,
               is_first=None, return_energy=False):
    tensors = (inputs, h, F, weight, bias, weight_lambda, weight_gamma)
    save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    out, F, spent = _Fused.apply(inputs, h, F, weight, bias, weight_lambda, weight_gamma, is_first,
                                 _RULES[normalize], clamp, return_energy, save)
    return out, out[:, -1] if recurrent else None, F, spent if return_energy else None
