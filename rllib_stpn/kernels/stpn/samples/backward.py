"""The backward loop over samples; README.md has the derivation, ``forward.py`` the layout of arrays."""

import numpy as np

from rllib_stpn.kernels.simd.compiling import compiled, compiled_part
from rllib_stpn.kernels.simd.copying import clear, episode_begins, gather, scatter
from rllib_stpn.kernels.simd.functions import bounded
from rllib_stpn.kernels.simd.vector import LANES, broadcast, load, splat, square_root, store, where_inside
from rllib_stpn.kernels.stpn.normalizations import NORM_OFFSET, POST, PRE


def _replay(plain):
    @compiled_part
    def replay(L, M, saved, at_saved, to_k, stride, scratch, trace_at, began_at, H, D, steps, bound):
        row, matrix = H * LANES, H * D * LANES
        half = splat(0.5)
        for i in range(H):
            for j in range(D):
                to = trace_at + (i * D + j) * LANES
                lam, gam = broadcast(L, i * D + j), broadcast(M, i * D + j)
                e = load(scratch, to)
                if not plain:
                    e = where_inside(load(scratch, began_at), half, e)
                store(scratch, to, e)
                for t in range(steps):
                    at = at_saved + t * stride + i * LANES
                    k, h, u = load(saved, at + to_k), load(saved, at + 2 * row), load(scratch, (t * D + j) * LANES)
                    e = lam * k * e + gam * h * u
                    if not plain:
                        e = where_inside(load(scratch, began_at + (t + 1) * LANES), half, bounded(e, bound))
                    store(scratch, to + (t + 1) * matrix, e)

    return replay


_replay_full, _replay_plain = _replay(False), _replay(True)


def _reverse(post, plain):
    @compiled_part
    def reverse(
        W, L, M, saved, at_saved, gradients, scratch, trace_at, dP_at, now, before, du_at, carry_at, began_at,
        H, D, t, rule, bound,
    ):  # fmt: skip
        # One step back: reads dP of this step's update, leaves that of the previous one.
        one, zero, half = splat(1.0), splat(0.0), splat(0.5)
        row = H * LANES
        began = load(scratch, began_at)
        limit = bound if t > 0 else splat(np.inf)  # dF0 is not behind a clamp
        for i in range(H):
            at_row = i * LANES
            at = at_saved + at_row
            a_at, c_at, dout_at = carry_at + row + at_row, carry_at + 2 * row + at_row, carry_at + 3 * row + at_row
            inv, current, h = load(saved, at), load(saved, at + row), load(saved, at + 2 * row)
            k = inv
            a, c = load(scratch, a_at), load(scratch, c_at)
            dh = load(scratch, dout_at) + load(scratch, carry_at + at_row) + a
            dpre = dh * (one - h * h)
            q, nu, v = one, zero, zero
            if rule == PRE:
                nu = zero - (dpre * current + (c - h * a) / k) * inv * inv * inv
            if post:
                q = load(saved, at + 3 * row)
                k = q
                nu = zero - dpre * current * inv * inv * inv
                if t > 0:
                    ue, ge = load(saved, at + 4 * row), load(saved, at + 5 * row)
                    v = zero - ((c - h * a) / k + dpre * inv * ue + nu * ge) * q * q * q
                    v = where_inside(began, half, v)
            ds = dpre * inv
            at_db = 3 * D * row + at_row
            store(gradients, at_db, load(gradients, at_db) + dpre)
            a, c = zero, zero
            for j in range(D):
                at_w, at_g = i * D + j, 3 * (i * D + j) * LANES
                w, lam, gam = broadcast(W, at_w), broadcast(L, at_w), broadcast(M, at_w)
                e, p = load(scratch, trace_at + at_w * LANES), load(scratch, dP_at + at_w * LANES)
                u = load(scratch, now + j * LANES)
                y = w + e
                if post:
                    y = w + q * e
                dy = ds * u + nu * y
                pk, ph = p * k, p * h
                dw, de = dy, lam * pk + dy
                if post:
                    z = v * (w + e)
                    dw, de = dy + z, lam * pk + (q * dy + z)
                store(gradients, at_g, dw + load(gradients, at_g))
                store(gradients, at_g + LANES, pk * e + load(gradients, at_g + LANES))
                store(gradients, at_g + 2 * LANES, ph * u + load(gradients, at_g + 2 * LANES))
                at_u = du_at + j * LANES
                store(scratch, at_u, gam * ph + (ds * y + load(scratch, at_u)))
                if not plain:
                    de = where_inside(began, half, where_inside(e, limit, de))
                store(scratch, dP_at + at_w * LANES, de)
                a = gam * load(scratch, before + j * LANES) * de + a
                c = de * e + c
            store(scratch, a_at, a)
            store(scratch, c_at, c)

    return reverse


_reverse_full, _reverse_plain = _reverse(False, False), _reverse(False, True)
_reverse_post, _reverse_post_plain = _reverse(True, False), _reverse(True, True)


# fmt: off
@compiled("fbfffffffffffffiiiiiiiis")
def run(
    x, first, h0, F0,
    W, L, M, saved, dout, dF,
    dx, dh0, dF0, gradients, scratch,
    first_group, last_group, batch, steps, input_size, hidden_size, D, rule,
    clamp,
):
    # fmt: on
    """Runs the layer backwards from the gradients of its outputs and, where ``dF`` is not empty, of its final F.

    ``gradients`` [3 H D + H, 16], of W, Λ and Γ interleaved and of the bias, are added to, lane by lane; ``dx`` and,
    where not empty, ``dh0`` and ``dF0`` are written. ``scratch`` holds (T D + (T + 2) H D + D + 4 H + T + 1) vectors:
    u, the trace of E, dP, du, per row dh of the step before, two sums and dout, and where episodes begin.
    """
    H = hidden_size
    bound, one, zero, half = splat(clamp), splat(1.0), splat(0.0), splat(0.5)
    post = rule == POST
    kinds = 6 if post else 3
    row, matrix = H * LANES, H * D * LANES
    trace_at = steps * D * LANES
    dP_at = trace_at + (steps + 1) * matrix
    du_at = dP_at + matrix
    carry_at = du_at + D * LANES
    a_at, c_at, dout_at = carry_at + row, carry_at + 2 * row, carry_at + 3 * row
    began_at = carry_at + 4 * row
    plain = first.size == 0 and clamp == np.inf
    for g in range(first_group, last_group):
        sample = g * LANES
        count = min(LANES, batch - sample)
        if count < LANES:
            clear(scratch, 0, scratch.size)
        for t in range(steps + 1):
            began = episode_begins(scratch, began_at + t * LANES, first, sample, steps, t, count)
            to = t * D * LANES
            if t < steps:
                gather(scratch, to, input_size, x, (sample * steps + t) * input_size, steps * input_size, count)
            if t < steps and input_size < D:
                if t > 0:
                    for j in range(input_size, D):
                        at = ((g * steps + t - 1) * kinds + 2) * row + (j - input_size) * LANES
                        store(scratch, to + j * LANES, where_inside(began, half, load(saved, at)))
                elif h0.size > 0:
                    gather(scratch, to + input_size * LANES, H, h0, sample * H, H, count)
                    for j in range(input_size, D):
                        h = load(scratch, to + j * LANES)
                        store(scratch, to + j * LANES, where_inside(began, half, h))
                else:
                    for j in range(input_size, D):
                        store(scratch, to + j * LANES, zero)
        for i in range(H * D):
            store(scratch, trace_at + i * LANES, zero)
            store(scratch, dP_at + i * LANES, zero)
        if F0.size > 0:
            gather(scratch, trace_at, H * D, F0, sample * H * D, H * D, count)
        if dF.size > 0:
            gather(scratch, dP_at, H * D, dF, sample * H * D, H * D, count)
        known = (saved, g * steps * kinds * row, (3 if post else 0) * row, kinds * row)
        if plain:
            _replay_plain(L, M, *known, scratch, trace_at, began_at, H, D, steps, bound)
        else:
            _replay_full(L, M, *known, scratch, trace_at, began_at, H, D, steps, bound)
        for i in range(H):  # from the gradient of the final F = q E to that of the last update
            store(scratch, carry_at + i * LANES, zero)
            a, c = zero, zero
            q, v = one, zero
            if post and dF.size > 0:
                norm, dot = zero, zero
                for j in range(D):
                    e = load(scratch, trace_at + steps * matrix + (i * D + j) * LANES)
                    y = broadcast(W, i * D + j) + e
                    norm = y * y + norm
                    dot = load(scratch, dP_at + (i * D + j) * LANES) * e + dot
                q = one / (square_root(norm) + splat(NORM_OFFSET))
                v = zero - dot * q * q * q
            if dF.size > 0:
                for j in range(D):
                    e = load(scratch, trace_at + steps * matrix + (i * D + j) * LANES)
                    de = load(scratch, dP_at + (i * D + j) * LANES)
                    if post:
                        z = v * (broadcast(W, i * D + j) + e)
                        to = 3 * (i * D + j) * LANES
                        store(gradients, to, load(gradients, to) + z)
                        de = q * de + z
                    de = where_inside(e, bound, de)
                    store(scratch, dP_at + (i * D + j) * LANES, de)
                    u = load(scratch, ((steps - 1) * D + j) * LANES)
                    a = broadcast(M, i * D + j) * u * de + a
                    c = de * e + c
            store(scratch, a_at + i * LANES, a)
            store(scratch, c_at + i * LANES, c)
        for t in range(steps - 1, -1, -1):
            began = load(scratch, began_at + t * LANES)
            gather(scratch, dout_at, H, dout, (sample * steps + t) * H, steps * H, count)
            for j in range(D):
                store(scratch, du_at + j * LANES, zero)
            part = (
                W, L, M, saved, (g * steps + t) * kinds * row, gradients, scratch, trace_at + t * matrix, dP_at,
                t * D * LANES, max(t - 1, 0) * D * LANES, du_at, carry_at, began_at + t * LANES, H, D, t, rule, bound,
            )  # fmt: skip
            if post and plain:
                _reverse_post_plain(*part)
            elif post:
                _reverse_post(*part)
            elif plain:
                _reverse_plain(*part)
            else:
                _reverse_full(*part)
            scatter(dx, (sample * steps + t) * input_size, steps * input_size, count, scratch, du_at, input_size)
            for j in range(input_size, D):
                carried = where_inside(began, half, load(scratch, du_at + j * LANES))
                store(scratch, carry_at + (j - input_size) * LANES, carried)
        if dh0.size > 0:
            scatter(dh0, sample * H, H, count, scratch, carry_at, H)
        if dF0.size > 0:
            scatter(dF0, sample * H * D, H * D, count, scratch, dP_at, H * D)
