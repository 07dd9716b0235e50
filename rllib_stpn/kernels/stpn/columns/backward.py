"""The backward loop over columns; README.md has the derivation, ``forward.py`` the layout of arrays."""

import numpy as np

from rllib_stpn.kernels.simd.compiling import compiled, compiled_part, inline
from rllib_stpn.kernels.simd.copying import clear, copy, load_up_to
from rllib_stpn.kernels.simd.functions import bounded
from rllib_stpn.kernels.simd.vector import LANES, broadcast, load, splat, store, sum_each, where_inside
from rllib_stpn.kernels.stpn.columns.weights import load_weights
from rllib_stpn.kernels.stpn.normalizations import NORM_OFFSET, POST, PRE


def _replay(keep):
    @compiled_part
    def replay(
        weights, E, at, u, now, u_stride, values, values_at, values_stride, kind,
        trace, to, trace_stride, last, last_at, rows, n, count, bound,
    ):  # fmt: skip
        # All rows of E over `count` steps whose outputs are known: nothing to add up, so E stays in registers.
        for i in range(rows):
            for j in range(0, n, 2 * LANES):
                more = min(LANES, n - LANES - j)  # a last vector without a partner is done twice
                row = i * n + j
                e, e_more = load(E, at + row), load(E, at + row + more)
                _, lam, gam = load_weights(weights, 3 * row)
                _, lam_more, gam_more = load_weights(weights, 3 * (row + more))
                for t in range(count):
                    to_t, now_t = to + t * trace_stride + row, now + t * u_stride + j
                    at_t = values_at + t * values_stride
                    if keep:
                        store(trace, to_t, e)
                        store(trace, to_t + more, e_more)
                    k, h = broadcast(values, at_t + i), broadcast(values, at_t + kind + i)
                    e = bounded(lam * k * e + gam * h * load(u, now_t), bound)
                    e_more = bounded(lam_more * k * e_more + gam_more * h * load(u, now_t + more), bound)
                store(last, last_at + row, e)
                store(last, last_at + row + more, e_more)

    return replay


_replay_last, _replay_all = _replay(False), _replay(True)


@inline
def _reverse_vector(vectors, gradients, E, at, dP, dp_at, u, now, before, du, du_at, scalars, totals, limit, post):
    # Reads dP of this step's update, leaves that of the previous one, adds to all gradients.
    (w, lam, gam), (dw, dlam, dgam), (h, k, q, ds, nu, v), (a, c) = vectors, gradients, scalars, totals
    e, x, p = load(E, at), load(u, now), load(dP, dp_at)
    ph, pk = p * h, p * k
    g = w + e
    z = g
    if post:
        z = v * g
        g = w + q * e
    dg = ds * x + nu * g
    store(du, du_at, gam * ph + (ds * g + load(du, du_at)))
    dw = dw + dg
    if post:
        dw = dw + z
        dg = q * dg + z
    de = where_inside(e, limit, lam * pk + dg)
    store(dP, dp_at, de)
    return (dw, pk * e + dlam, ph * x + dgam), (gam * load(u, before) * de + a, de * e + c)


@inline
def _row_scalars(values, now, kind, row_values, at, row_kind):
    return (
        broadcast(values, kind + now),
        broadcast(values, now),
        broadcast(row_values, at),
        broadcast(row_values, row_kind + at),
        broadcast(row_values, 2 * row_kind + at),
        broadcast(row_values, 3 * row_kind + at),
    )


def _reverse(pair, post):
    @compiled_part
    def reverse(
        weights, gradients, E, at, dP, dp_at, u, now, before, du, du_at, values, values_at, kind,
        row_values, row_at, row_kind, sums, sums_at, rows, n, room, padded, limit,
    ):  # fmt: skip
        # One step back, of one sample or, with `pair`, of two, which share the loads and stores of the weights.
        stride = padded * LANES
        for i in range(rows):
            one = _row_scalars(values, values_at + i, kind, row_values, row_at + i, row_kind)
            totals = splat(0.0), splat(0.0)
            two, more = one, totals
            if pair:
                two = _row_scalars(values, values_at + padded + i, kind, row_values, row_at + padded + i, row_kind)
            for j in range(0, n, LANES):
                row = i * n + j
                vectors, sum_ = load_weights(weights, 3 * row), load_weights(gradients, 3 * row)
                at_E, at_P, at_u, past, at_du = at + row, dp_at + row, now + j, before + j, du_at + j
                sum_, totals = _reverse_vector(
                    vectors, sum_, E, at_E, dP, at_P, u, at_u, past, du, at_du, one, totals, limit, post
                )
                if pair:
                    at_E, at_P, at_u, past, at_du = at_E + room, at_P + room, at_u + n, past + n, at_du + n
                    sum_, more = _reverse_vector(
                        vectors, sum_, E, at_E, dP, at_P, u, at_u, past, du, at_du, two, more, limit, post
                    )
                store(gradients, 3 * row, sum_[0])
                store(gradients, 3 * row + LANES, sum_[1])
                store(gradients, 3 * row + 2 * LANES, sum_[2])
            to = sums_at + i * LANES
            store(sums, to, totals[0])
            store(sums, to + stride, totals[1])
            if pair:
                store(sums, to + 2 * stride, more[0])
                store(sums, to + 3 * stride, more[1])

    return reverse


_reverse_one, _reverse_two = _reverse(False, False), _reverse(True, False)
_reverse_one_post, _reverse_two_post = _reverse(False, True), _reverse(True, True)


@inline
def _start_row(weights, row, gradients, E, at, dF, df_at, there, u, now, dP, dp_at, n, bound, post, sums, to, stride):
    # From the gradient of the final F = q E to dP of the last update.
    q, v = splat(0.0), splat(0.0)
    if post:
        norm, dot = np.float32(0.0), np.float32(0.0)
        for j in range(0, there, LANES):
            for i in range(j, min(j + LANES, there)):
                norm += (weights[row + 2 * j + i] + E[at + i]) ** 2
                dot += dF[df_at + i] * E[at + i]
        scale = np.float32(1.0) / (np.sqrt(norm) + np.float32(NORM_OFFSET))
        q, v = splat(scale), splat(-dot * scale * scale * scale)
    a, c = splat(0.0), splat(0.0)
    for j in range(0, n, LANES):
        e, de = load(E, at + j), load_up_to(dF, df_at + j, there - j)
        if post:
            z = v * (load(weights, row + 3 * j) + e)
            store(gradients, row + 3 * j, load(gradients, row + 3 * j) + z)
            de = q * de + z
        de = where_inside(e, bound, de)
        store(dP, dp_at + j, de)
        a = load(weights, row + 3 * j + 2 * LANES) * load(u, now + j) * de + a
        c = de * e + c
    store(sums, to, a)
    store(sums, to + stride, c)


# fmt: off
@compiled("fffffbffffffffffffffffiiiiiiiiiis")
def run(
    out, saved, dout, dF,
    x, first, h0, F0,
    weights, gradients, db,
    dx, dh0, dF0,
    u, values, trace, checkpoints, dP, du, sums, row_values,
    first_sample, last_sample, steps, input_size, hidden_size, recurrent,
    rule, block, length, room,
    clamp,
):
    # fmt: on
    """Runs the layer backwards from the gradients of its outputs and, where ``dF`` is not empty, of its final F.

    ``weights`` [H, width / 16, 3, 16] holds W, Λ and Γ. The loop adds to their ``gradients``, of the same shape, and to
    ``db`` [rows], and writes ``dx``, ``dh0`` and ``dF0``. E is replayed in segments of ``length`` steps. Scratch
    memory, of which the first two come zeroed, with ``room`` at least H * width: ``u`` [length + 1, block, width],
    ``values`` [4, length, block, rows], ``trace`` [length + 1, block, room], ``checkpoints`` [segments, block, room],
    ``dP`` [block, room], ``du`` [block, width], ``sums`` [block, 2, rows, 16], ``row_values`` [6, block, rows].
    """
    H = hidden_size
    rows = (H + LANES - 1) // LANES * LANES
    width = weights.size // (3 * H)
    area = H * width
    D = input_size + H if recurrent else input_size
    bound = splat(clamp)
    post = rule == POST
    stride = rows * LANES
    kinds = 5 if post else 2
    one, zero = splat(1.0), splat(0.0)
    q_at, ds_at, nu_at = 0, block * rows, 2 * block * rows
    v_at, carry_at, dh_at = 3 * block * rows, 4 * block * rows, 5 * block * rows
    values_stride = block * rows
    values_h = length * values_stride
    values_on, kind = 2 * values_h, values_h
    segments = (steps + length - 1) // length
    for start in range(first_sample, last_sample, block):
        count = min(block, last_sample - start)
        clear(sums, 0, sums.size)
        clear(row_values, 0, row_values.size)
        clear(dP, 0, dP.size)
        for s in range(count):
            b = start + s
            clear(checkpoints, s * room, area)
            if F0.size > 0 and first[b * (steps + 1)] == 0:
                for i in range(H):
                    copy(checkpoints, s * room + i * width, F0, (b * H + i) * D, D)
        # Up through the segments for the E each one starts from, keeping a trace of the last; then down again.
        for visit in range(2 * segments - 1):
            keep = visit >= segments - 1
            segment = visit if visit < segments else 2 * segments - 2 - visit
            begin = segment * length
            end = min(begin + length, steps)
            for s in range(count):
                b = start + s
                for t in range(begin - 1, end):
                    to = ((t - begin + 1) * block + s) * width
                    if t < 0:
                        clear(u, to, width)
                        continue
                    copy(u, to, x, (b * steps + t) * input_size, input_size)
                    if recurrent:
                        if first[b * (steps + 1) + t] != 0 or (t == 0 and h0.size == 0):
                            clear(u, to + input_size, H)
                        elif t == 0:
                            copy(u, to + input_size, h0, b * H, H)
                        else:
                            copy(u, to + input_size, out, (b * steps + t - 1) * H, H)
                for t in range(begin, end):
                    to = ((t - begin) * block + s) * rows
                    copy(values, values_h + to, out, (b * steps + t) * H, H)
                    for i in range(0, rows, LANES):
                        k = one
                        if rule != 0:
                            k = load(saved, ((b * steps + t) * kinds + (2 if post else 0)) * rows + i)
                        store(values, to + i, k)
                        h = load(values, values_h + to + i)
                        if first[b * (steps + 1) + t + 1] != 0:  # whose update is forgotten
                            k, h = zero, zero
                        store(values, values_on + to + i, k)
                        store(values, values_on + kind + to + i, h)
            for s in range(count):
                source = (weights, checkpoints, (segment * block + s) * room, u, (block + s) * width, block * width)
                known = (values, values_on + s * rows, values_stride, kind)
                if keep:
                    last = (trace, ((end - begin) * block + s) * room)
                    _replay_all(*source, *known, trace, s * room, block * room, *last, H, width, end - begin, bound)
                else:
                    last = (checkpoints, ((segment + 1) * block + s) * room)
                    _replay_last(*source, *known, trace, 0, 0, *last, H, width, end - begin, bound)
            if not keep:
                continue
            if end == steps and dF.size > 0:
                for s in range(count):
                    for i in range(H):
                        _start_row(
                            weights,
                            3 * i * width,
                            gradients,
                            trace,
                            ((end - begin) * block + s) * room + i * width,
                            dF,
                            ((start + s) * H + i) * D,
                            D,
                            u,
                            ((end - begin) * block + s) * width,
                            dP,
                            s * room + i * width,
                            width,
                            bound,
                            post,
                            sums,
                            (s * 2 * rows + i) * LANES,
                            stride,
                        )
            for t in range(end - 1, begin - 1, -1):
                for s in range(count):
                    b = start + s
                    from_start = t == 0 or first[b * (steps + 1) + t] != 0
                    copy(row_values, dh_at + s * rows, dout, (b * steps + t) * H, H)
                    for i in range(0, rows, LANES):
                        to = (s * 2 * rows + i) * LANES
                        a, c = sum_each(sums, to), sum_each(sums, to + stride)
                        at = (b * steps + t) * kinds * rows + i
                        inv, current = one, zero
                        if rule != 0:
                            inv, current = load(saved, at), load(saved, at + rows)
                        k = load(values, ((t - begin) * block + s) * rows + i)
                        h = load(values, values_h + ((t - begin) * block + s) * rows + i)
                        at_row = s * rows + i
                        dh = load(row_values, dh_at + at_row) + load(row_values, carry_at + at_row) + a
                        dpre = dh * (one - h * h)
                        q, nu, v = one, zero, zero
                        dk = (c - h * a) / k
                        if rule == PRE:
                            nu = zero - (dpre * current + dk) * inv * inv * inv
                        if post:
                            q = k
                            nu = zero - dpre * current * inv * inv * inv
                            if not from_start:
                                dq = dk + dpre * inv * load(saved, at + 3 * rows) + nu * load(saved, at + 4 * rows)
                                v = zero - dq * q * q * q
                        store(db, i, load(db, i) + dpre)
                        store(row_values, q_at + at_row, q)
                        store(row_values, ds_at + at_row, dpre * inv)
                        store(row_values, nu_at + at_row, nu)
                        store(row_values, v_at + at_row, v)
                clear(du, 0, du.size)
                limit = bound if t > 0 else splat(np.inf)  # dF0 is not behind a clamp
                for s in range(0, count, 2):
                    pair = s + 1 < count
                    slot = ((t - begin) * block + s) * width
                    part = (
                        weights, gradients, trace, ((t - begin) * block + s) * room, dP, s * room,
                        u, slot + block * width, slot, du, s * width,
                        values, ((t - begin) * block + s) * rows, kind, row_values, s * rows, block * rows,
                        sums, s * 2 * rows * LANES, H, width, room, rows, limit,
                    )  # fmt: skip
                    if pair and post:
                        _reverse_two_post(*part)
                    elif pair:
                        _reverse_two(*part)
                    elif post:
                        _reverse_one_post(*part)
                    else:
                        _reverse_one(*part)
                for s in range(count):
                    b = start + s
                    copy(dx, (b * steps + t) * input_size, du, s * width, input_size)
                    if recurrent:
                        copy(row_values, carry_at + s * rows, du, s * width + input_size, H)
                    if first[b * (steps + 1) + t] != 0:
                        clear(row_values, carry_at + s * rows, rows)
                        clear(sums, s * 2 * rows * LANES, 2 * rows * LANES)
                        clear(dP, s * room, area)
        for s in range(count):
            if dh0.size > 0:
                copy(dh0, (start + s) * H, row_values, carry_at + s * rows, H)
            if dF0.size > 0:
                for i in range(H):
                    copy(dF0, ((start + s) * H + i) * D, dP, s * room + i * width, D)
