"""The fused STPN loops for CPUs; README.md has the derivation and the notation.

Every array is flat float32. Rows of the weights and of scratch are ``width`` elements apart, a multiple of 16 filled up
with zeros, and per-row scalars are ``rows`` apart, likewise; everything else is laid out as torch has it. A call works
on samples ``first_sample`` to ``last_sample`` alone and releases the GIL, so several threads can share a batch.
"""

import numpy as np

from rllib_stpn.kernels.lanes import (
    bounded,
    clear,
    compiled,
    compiled_part,
    copy,
    inline,
    load_up_to,
    store_up_to,
    tanh,
)
from rllib_stpn.kernels.vector import (
    LANES,
    absolute,
    at_least,
    broadcast,
    load,
    load_first,
    splat,
    square_root,
    store,
    store_first,
    sum_each,
    where_inside,
)

PRE, POST = 1, 2  # values of `rule`; 0 is no normalisation
NORM_OFFSET = np.float32(1e-16)


@inline
def _load_weights(weights, at):
    return load(weights, at), load(weights, at + LANES), load(weights, at + 2 * LANES)


@inline
def load_sums(sums, at, stride):
    """The four sums over a row that `store_sums` kept: G², G u, W G and W u."""
    return load(sums, at), load(sums, at + stride), load(sums, at + 2 * stride), load(sums, at + 3 * stride)


@inline
def store_sums(sums, at, stride, totals):
    """Keeps four sums, ``stride`` elements apart."""
    store(sums, at, totals[0])
    store(sums, at + stride, totals[1])
    store(sums, at + 2 * stride, totals[2])
    store(sums, at + 3 * stride, totals[3])


@inline
def _measure_row(weights, row, E, at, there, u, now, n, sums, to, stride, add, post, measure):
    # Adds up what the coming step needs to know of one row of G = W + E, of which `there` columns are there.
    gg, gu, wg, wu, spent = splat(0.0), splat(0.0), splat(0.0), splat(0.0), splat(0.0)
    if add:
        gg, gu, wg, wu = load_sums(sums, to, stride)
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
    store_sums(sums, to, stride, (gg, gu, wg, wu))
    store(sums, to + 4 * stride, spent)


@inline
def _update_vector(vectors, e, u, before, now, scalars, bound, totals, post):
    # E := clamp(L k E + M h u_before), and the sums over the result for the coming step.
    (w, lam, gam), (k, h), (gg, gu, wg, wu) = vectors, scalars, totals
    e = bounded(lam * k * e + gam * h * load(u, before), bound)
    g, v = w + e, load(u, now)
    gg, gu = g * g + gg, g * v + gu
    if post:
        wg, wu = w * g + wg, w * v + wu
    return e, (gg, gu, wg, wu)


def _update(pair, post):
    # Compiled for itself for each choice, as all that follows: among many inlined loops it came out at half the speed.
    @compiled_part
    def update(
        weights, E, at, D, u, before, now, width, start, n, row_values, k_at, h_at, sums, sums_at, rows, padded, bound
    ):  # fmt: skip
        # Columns `start` to `start + n` of one sample or, with `pair`, of two, which share the loads of the weights.
        stride, other, whole = padded * LANES, 5 * padded * LANES, min(n, (D - start) // LANES * LANES)
        zero = splat(0.0)
        for i in range(rows):
            at_k, at_h, to = k_at + i, h_at + i, sums_at + i * LANES
            one, totals = (broadcast(row_values, at_k), broadcast(row_values, at_h)), (zero, zero, zero, zero)
            two, more = one, totals
            if pair:
                two = broadcast(row_values, at_k + padded), broadcast(row_values, at_h + padded)
            if start > 0:
                totals = load_sums(sums, to, stride)
                if pair:
                    more = load_sums(sums, to + other, stride)
            # Whole vectors, then what is left of a row; a branch around loads would count references to the arrays.
            row, at_E, next_E = 3 * i * width, at + i * D, at + (i + rows) * D
            for j in range(start, start + whole, LANES):
                vectors, e = _load_weights(weights, row + 3 * j), load(E, at_E + j)
                e, totals = _update_vector(vectors, e, u, before + j, now + j, one, bound, totals, post)
                store(E, at_E + j, e)
                if pair:
                    e, past, v = load(E, next_E + j), before + width + j, now + width + j
                    e, more = _update_vector(vectors, e, u, past, v, two, bound, more, post)
                    store(E, next_E + j, e)
            if whole < n:
                j, there = start + whole, D - start - whole
                vectors, e = _load_weights(weights, row + 3 * j), load_first(E, at_E + j, there)
                e, totals = _update_vector(vectors, e, u, before + j, now + j, one, bound, totals, post)
                store_first(E, at_E + j, e, there)
                if pair:
                    e, past, v = load_first(E, next_E + j, there), before + width + j, now + width + j
                    e, more = _update_vector(vectors, e, u, past, v, two, bound, more, post)
                    store_first(E, next_E + j, e, there)
            store_sums(sums, to, stride, totals)
            if pair:
                store_sums(sums, to + other, stride, more)

    return update


_update_one, _update_two = _update(False, False), _update(True, False)
_update_one_post, _update_two_post = _update(False, True), _update(True, True)


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
                s = 0
                while s < count:
                    fresh = t == 0 or first[(start + s) * (steps + 1) + t] != 0
                    if fresh:
                        for i in range(H):
                            _measure_row(
                                weights,
                                3 * (i * width + j),
                                F,
                                ((start + s) * H + i) * D + j,
                                D - j,
                                u,
                                now + s * width + j,
                                n,
                                sums,
                                (s * 5 * rows + i) * LANES,
                                stride,
                                j > 0,
                                post,
                                measure,
                            )
                        s += 1
                        continue
                    pair = s + 1 < count and first[(start + s + 1) * (steps + 1) + t] == 0
                    part = (
                        weights, F, (start + s) * H * D, D, u, before + s * width, now + s * width, width, j, n,
                        row_values, k_at + s * rows, h_at + s * rows, sums, s * 5 * rows * LANES, H, rows, bound,
                    )  # fmt: skip
                    if pair and post:
                        _update_two_post(*part)
                    elif pair:
                        _update_two(*part)
                    elif post:
                        _update_one_post(*part)
                    else:
                        _update_one(*part)
                    s += 2 if pair else 1
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
                _, lam, gam = _load_weights(weights, 3 * row)
                _, lam_more, gam_more = _load_weights(weights, 3 * (row + more))
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
                vectors, sum_ = _load_weights(weights, 3 * row), _load_weights(gradients, 3 * row)
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
        scale = np.float32(1.0) / (np.sqrt(norm) + NORM_OFFSET)
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
def backward(
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
    """Runs the layer backwards from the gradients of its outputs and, where not empty, of its final F.

    ``weights`` [H, width / 16, 6, 16] holds W, Λ, Γ and their gradients, which are added to, as is ``db`` [rows];
    ``dx``, ``dh0``, ``dF0`` are written. E is replayed in segments of ``length`` steps. Scratch, the first two zeroed,
    with ``room`` at least H * width: ``u`` [length + 1, block, width], ``values`` [2, length, block, rows], ``trace``
    [length + 1, block, room], ``checkpoints`` [segments, block, room], ``dP`` [block, room], ``du`` [block, width],
    ``sums`` [block, 2, rows, 16], ``row_values`` [6, block, rows].
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
