"""The fused STPN loops for CPUs; README.md has the derivation and the notation.

Every array is flat float32. Rows of the weights and of scratch are ``width`` elements apart, a multiple of 16 filled up
with zeros, and per-row scalars are ``rows`` apart, likewise; everything else is laid out as torch has it. A call works
on samples ``first_sample`` to ``last_sample`` alone and releases the GIL, so several threads can share a batch.
"""

import numpy as np

from rllib_stpn.kernels.lanes import bounded, clear, compiled, copy, inline, load_up_to, store_up_to, tanh
from rllib_stpn.kernels.vector import (
    LANES,
    absolute,
    at_least,
    load,
    splat,
    square_root,
    store,
    sum_each,
    where_inside,
)

PRE, POST = 1, 2  # values of `rule`; 0 is no normalisation
NORM_OFFSET = np.float32(1e-16)


@inline
def _measure_row(weights, row, E, at, there, u, now, n, sums, to, stride, add, post, measure):
    # Adds up what the coming step needs to know of one row of G = W + E, of which `there` columns are there.
    gg, gu, wg, wu, spent = splat(0.0), splat(0.0), splat(0.0), splat(0.0), splat(0.0)
    if add:
        gg, gu = load(sums, to), load(sums, to + stride)
        wg, wu = load(sums, to + 2 * stride), load(sums, to + 3 * stride)
        spent = load(sums, to + 4 * stride)
    for j in range(0, n, LANES):
        w, v = load(weights, row + 3 * j), load(u, now + j)
        g = w + load_up_to(E, at + j, there - j)
        gg = g * g + gg
        gu = g * v + gu
        if post:
            wg = w * g + wg
            wu = w * v + wu
        if measure:
            spent = absolute(g) * v * v + spent
    store(sums, to, gg)
    store(sums, to + stride, gu)
    store(sums, to + 2 * stride, wg)
    store(sums, to + 3 * stride, wu)
    store(sums, to + 4 * stride, spent)


@inline
def _update_row(weights, row, E, at, there, u, before, now, n, k, h, bound, sums, to, stride, add, post):
    # E := clamp(L k E + M h u_before), and the sums over the result for the coming step.
    gg, gu, wg, wu = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
    if add:
        gg, gu = load(sums, to), load(sums, to + stride)
        wg, wu = load(sums, to + 2 * stride), load(sums, to + 3 * stride)
    for j in range(0, n, LANES):
        at_w = row + 3 * j
        w, lam, gam = load(weights, at_w), load(weights, at_w + LANES), load(weights, at_w + 2 * LANES)
        e = lam * k * load_up_to(E, at + j, there - j) + gam * h * load(u, before + j)
        e = bounded(e, bound)
        store_up_to(E, at + j, e, there - j)
        v = load(u, now + j)
        g = w + e
        gg = g * g + gg
        gu = g * v + gu
        if post:
            wg = w * g + wg
            wu = w * v + wu
    store(sums, to, gg)
    store(sums, to + stride, gu)
    if post:
        store(sums, to + 2 * stride, wg)
        store(sums, to + 3 * stride, wu)


# fmt: off
@compiled("fbffffffffffffiiiiiiiiiiiis")
def forward(
    x, first, h0, F0,
    weights, bias, WW,
    F, out, saved, spent,
    u, sums, row_values,
    first_sample, last_sample, steps, input_size, hidden_size, recurrent,
    rule, save, measure, in_place, block, tile,
    clamp,
):
    # fmt: on
    """Runs the layer: writes outputs, the final F and, if asked, what backward needs and the energy.

    ``x`` [B, T, I]; ``first`` [B, T + 1], its last column zero; ``h0`` [B, H] and ``F0`` [B, H, D], empty for
    zeros; with ``in_place``, F holds the start state; ``weights`` [H, width / 16, 3, 16] with W, Λ and Γ interleaved;
    ``WW`` [rows], sums of W², read for "post" alone. ``saved`` is [B, T, 2 or 5, rows]. Scratch, zeroed: ``u``
    [2, block, width], ``sums`` [block, 5, rows, 16], ``row_values`` [4, block, rows].
    """
    H = hidden_size
    rows = (H + LANES - 1) // LANES * LANES
    width = weights.size // (3 * H)
    D = input_size + H if recurrent else input_size
    bound = splat(clamp)
    post = rule == POST
    stride = rows * LANES
    kinds = 5 if post else 2
    one, offset = splat(1.0), splat(NORM_OFFSET)
    h_at, k_at, q_at, inv_at = 0, block * rows, 2 * block * rows, 3 * block * rows
    for start in range(first_sample, last_sample, block):
        count = min(block, last_sample - start)
        for t in range(steps + 1):
            now, before = (t & 1) * block * width, (1 - (t & 1)) * block * width
            for s in range(count):
                b = start + s
                at = b * H * D
                reset = first[b * (steps + 1) + t] != 0
                if reset or (t == 0 and F0.size == 0 and not in_place):
                    clear(F, at, H * D)
                elif t == 0 and not in_place:
                    copy(F, at, F0, at, H * D)
                if t < steps:
                    to = now + s * width
                    copy(u, to, x, (b * steps + t) * input_size, input_size)
                    if recurrent:
                        if reset or (t == 0 and h0.size == 0):
                            clear(u, to + input_size, H)
                        elif t == 0:
                            copy(u, to + input_size, h0, b * H, H)
                        else:
                            copy(u, to + input_size, row_values, h_at + s * rows, H)
            for j in range(0, width, tile):
                n = min(tile, width - j)
                for i in range(H):
                    for s in range(count):
                        at = ((start + s) * H + i) * D + j
                        to = (s * 5 * rows + i) * LANES
                        fresh = t == 0 or first[(start + s) * (steps + 1) + t] != 0
                        if fresh:
                            _measure_row(
                                weights,
                                3 * (i * width + j),
                                F,
                                at,
                                D - j,
                                u,
                                now + s * width + j,
                                n,
                                sums,
                                to,
                                stride,
                                j > 0,
                                post,
                                measure,
                            )
                        else:
                            _update_row(
                                weights,
                                3 * (i * width + j),
                                F,
                                at,
                                D - j,
                                u,
                                before + s * width + j,
                                now + s * width + j,
                                n,
                                splat(row_values[k_at + s * rows + i]),
                                splat(row_values[h_at + s * rows + i]),
                                bound,
                                sums,
                                to,
                                stride,
                                j > 0,
                                post,
                            )
            for s in range(count):
                b = start + s
                fresh = t == 0 or first[b * (steps + 1) + t] != 0
                for i in range(0, rows, LANES):
                    to = (s * 5 * rows + i) * LANES
                    gg, current = sum_each(sums, to), sum_each(sums, to + stride)
                    q, ue, ge = one, one, one
                    if post:
                        wg, wu, ww = sum_each(sums, to + 2 * stride), sum_each(sums, to + 3 * stride), load(WW, i)
                        if not fresh:
                            q = one / (square_root(gg) + offset)
                        p = one - q
                        ue = current - wu
                        ge = p * (wg - ww) + q * (gg - wg)
                        current = p * wu + q * current
                        gg = at_least(p * p * ww + splat(2.0) * p * q * wg + q * q * gg, splat(0.0))
                    store(row_values, q_at + s * rows + i, q)
                    if t < steps:
                        inv = one
                        if rule != 0:
                            inv = one / (square_root(gg) + offset)
                        h = tanh(current * inv + load(bias, i))
                        store(row_values, h_at + s * rows + i, h)
                        store(row_values, k_at + s * rows + i, inv if rule == PRE else q)
                        store(row_values, inv_at + s * rows + i, inv)
                        if save:
                            to = (b * steps + t) * kinds * rows + i
                            store(saved, to, inv)
                            store(saved, to + rows, current)
                            if post:
                                store(saved, to + 2 * rows, q)
                                store(saved, to + 3 * rows, ue)
                                store(saved, to + 4 * rows, ge)
                if t < steps:
                    copy(out, (b * steps + t) * H, row_values, h_at + s * rows, H)
                if t < steps and measure:
                    for i in range(0 if fresh else H):  # a fresh row's was added up with its other sums
                        q = splat(row_values[q_at + s * rows + i])
                        total = splat(0.0)
                        for j in range(0, width, LANES):
                            v, w = load(u, now + s * width + j), load(weights, 3 * (i * width + j))
                            g = w + q * load_up_to(F, (b * H + i) * D + j, D - j)
                            total = absolute(g) * v * v + total
                        store(sums, ((s * 5 + 4) * rows + i) * LANES, total)
                    for i in range(0, rows, LANES):
                        total = sum_each(sums, ((s * 5 + 4) * rows + i) * LANES)
                        total = total * load(row_values, inv_at + s * rows + i)
                        store(row_values, inv_at + s * rows + i, total)
                    copy(spent, (b * steps + t) * H, row_values, inv_at + s * rows, H)
                if t == steps and post:
                    for i in range(H):
                        q = splat(row_values[q_at + s * rows + i])
                        for j in range(0, D, LANES):
                            at = (b * H + i) * D + j
                            store_up_to(F, at, load_up_to(F, at, D - j) * q, D - j)


@inline
def _replay_row(
    weights,
    row,
    E,
    at,
    u,
    now,
    u_stride,
    n,
    values,
    values_at,
    values_stride,
    values_h,
    count,
    bound,
    first,
    next_step,
    keep,
    trace,
    to,
    trace_stride,
    last,
    last_at,
):
    # One row of E over `count` steps whose outputs are known: nothing to add up, so E stays in a register.
    for j in range(0, n, LANES):
        e = load(E, at + j)
        lam, gam = load(weights, row + 6 * j + LANES), load(weights, row + 6 * j + 2 * LANES)
        for t in range(count):
            if keep:
                store(trace, to + t * trace_stride + j, e)
            k, h = values[values_at + t * values_stride], values[values_h + values_at + t * values_stride]
            e = lam * splat(k) * e + gam * splat(h) * load(u, now + t * u_stride + j)
            e = bounded(e, bound)
            if first[next_step + t] != 0:
                e = splat(0.0)
        store(last, last_at + j, e)


@inline
def _reverse_vector(
    w, lam, gam, dw, dlam, dgam, E, at, dP, dp_at, u, now, before, du, du_at, scalars, a, c, limit, post
):
    # One vector of one sample: reads dP of this step's update, leaves that of the previous one, adds to all gradients.
    h, k, q, ds, nu, v = scalars
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
    return dw, pk * e + dlam, ph * x + dgam, gam * load(u, before) * de + a, de * e + c


@inline
def _reverse_row(weights, row, n, limit, sample, scalars, totals, pair, post):
    # One row one step back, of one sample or, with `pair`, of two, which share the loads and stores of its weights.
    E, at, dP, dp_at, u, now, before, du, du_at, room = sample
    sums, to, size, stride = totals
    one, more = scalars
    a, c, a_more, c_more = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
    for j in range(0, n, LANES):
        to_w = row + 6 * j
        to_dw, to_dlam, to_dgam = to_w + 3 * LANES, to_w + 4 * LANES, to_w + 5 * LANES
        w, lam, gam = load(weights, to_w), load(weights, to_w + LANES), load(weights, to_w + 2 * LANES)
        dw, dlam, dgam = load(weights, to_dw), load(weights, to_dlam), load(weights, to_dgam)
        dw, dlam, dgam, a, c = _reverse_vector(
            w, lam, gam, dw, dlam, dgam,
            E, at + j, dP, dp_at + j, u, now + j, before + j, du, du_at + j,
            one, a, c, limit, post,
        )  # fmt: skip
        if pair:
            dw, dlam, dgam, a_more, c_more = _reverse_vector(
                w, lam, gam, dw, dlam, dgam,
                E, at + room + j, dP, dp_at + room + j, u, now + n + j, before + n + j, du, du_at + n + j,
                more, a_more, c_more, limit, post,
            )  # fmt: skip
        store(weights, to_dw, dw)
        store(weights, to_dlam, dlam)
        store(weights, to_dgam, dgam)
    store(sums, to, a)
    store(sums, to + stride, c)
    if pair:
        store(sums, to + size, a_more)
        store(sums, to + size + stride, c_more)


@inline
def _row_scalars(values, values_h, now, row_values, at, kind):
    return (
        splat(values[values_h + now]),
        splat(values[now]),
        splat(row_values[at]),
        splat(row_values[kind + at]),
        splat(row_values[2 * kind + at]),
        splat(row_values[3 * kind + at]),
    )


@inline
def _start_row(weights, row, E, at, dF, df_at, there, u, now, dP, dp_at, n, bound, post, sums, to, stride):
    # From the gradient of the final F = q E to dP of the last update.
    q, v = splat(0.0), splat(0.0)
    if post:
        norm, dot = np.float32(0.0), np.float32(0.0)
        for j in range(0, there, LANES):
            for i in range(j, min(j + LANES, there)):
                norm += (weights[row + 5 * j + i] + E[at + i]) ** 2
                dot += dF[df_at + i] * E[at + i]
        scale = np.float32(1.0) / (np.sqrt(norm) + NORM_OFFSET)
        q, v = splat(scale), splat(-dot * scale * scale * scale)
    a, c = splat(0.0), splat(0.0)
    for j in range(0, n, LANES):
        e, de = load(E, at + j), load_up_to(dF, df_at + j, there - j)
        if post:
            z = v * (load(weights, row + 6 * j) + e)
            store(weights, row + 6 * j + 3 * LANES, load(weights, row + 6 * j + 3 * LANES) + z)
            de = q * de + z
        de = where_inside(e, bound, de)
        store(dP, dp_at + j, de)
        a = load(weights, row + 6 * j + 2 * LANES) * load(u, now + j) * de + a
        c = de * e + c
    store(sums, to, a)
    store(sums, to + stride, c)


# fmt: off
@compiled("fffffbfffffffffffffffiiiiiiiiiis")
def backward(
    out, saved, dout, dF,
    x, first, h0, F0,
    weights, db,
    dx, dh0, dF0,
    u, values, trace, checkpoints, dP, du, sums, row_values,
    first_sample, last_sample, steps, input_size, hidden_size, recurrent,
    rule, block, length, room,
    clamp,
):
    # fmt: on
    """Runs the layer backwards from the gradients of its outputs and, where not empty, of its final F.

    ``weights`` [H, width / 16, 6, 16] holds W, Λ, Γ and their gradients, which are added to, as is ``db`` [rows];
    ``dx``, ``dh0``, ``dF0`` are written. E is replayed in segments of ``length`` steps. Scratch, the first two zeroed,
    with ``room`` at least H * width: ``u`` [length + 1, block, width], ``values`` [2, length, block, rows], ``trace``
    [length + 1, block, room], ``checkpoints`` [segments, block, room], ``dP`` [block, room], ``du`` [block, width],
    ``sums`` [block, 2, rows, 16], ``row_values`` [6, block, rows].
    """
    H = hidden_size
    rows = (H + LANES - 1) // LANES * LANES
    width = weights.size // (6 * H)
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
            for i in range(H):
                for s in range(count):
                    to = s * room + i * width
                    end_slot = ((end - begin) * block + s) * room + i * width
                    if not keep:
                        end_slot = ((segment + 1) * block + s) * room + i * width
                    _replay_row(
                        weights,
                        6 * i * width,
                        checkpoints,
                        (segment * block + s) * room + i * width,
                        u,
                        (block + s) * width,
                        block * width,
                        width,
                        values,
                        s * rows + i,
                        values_stride,
                        values_h,
                        end - begin,
                        bound,
                        first,
                        (start + s) * (steps + 1) + begin + 1,
                        keep,
                        trace,
                        to,
                        block * room,
                        trace if keep else checkpoints,
                        end_slot,
                    )
            if not keep:
                continue
            if end == steps and dF.size > 0:
                for s in range(count):
                    for i in range(H):
                        _start_row(
                            weights,
                            6 * i * width,
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
                for i in range(H):
                    for s in range(0, count, 2):
                        pair = s + 1 < count
                        at, now = s * rows + i, ((t - begin) * block + s) * rows + i
                        mine = _row_scalars(values, values_h, now, row_values, at, block * rows)
                        more = mine
                        if pair:
                            more = _row_scalars(values, values_h, now + rows, row_values, at + rows, block * rows)
                        sample = (
                            trace,
                            ((t - begin) * block + s) * room + i * width,
                            dP,
                            s * room + i * width,
                            u,
                            ((t - begin + 1) * block + s) * width,
                            ((t - begin) * block + s) * width,
                            du,
                            s * width,
                            room,
                        )
                        totals = (sums, (s * 2 * rows + i) * LANES, 2 * rows * LANES, stride)
                        # Spelled out, so that each is compiled for itself.
                        row = 6 * i * width
                        if pair and post:
                            _reverse_row(weights, row, width, limit, sample, (mine, more), totals, True, True)
                        elif pair:
                            _reverse_row(weights, row, width, limit, sample, (mine, more), totals, True, False)
                        elif post:
                            _reverse_row(weights, row, width, limit, sample, (mine, more), totals, False, True)
                        else:
                            _reverse_row(weights, row, width, limit, sample, (mine, more), totals, False, False)
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
