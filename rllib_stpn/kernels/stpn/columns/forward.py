"""The forward loop over columns; README.md has the derivation and the notation.

Every array is flat float32. Rows of the weights and of scratch memory are ``width`` elements apart: D, rounded up to a
multiple of 16 with zeros. Scalars per row of the weights are ``rows`` apart: H, rounded up likewise. Everything else is
laid out as in torch. A call works on samples ``first_sample`` to ``last_sample`` and releases the GIL, so that several
threads can share a batch.
"""

from rllib_stpn.kernels.simd.compiling import compiled, compiled_part, inline
from rllib_stpn.kernels.simd.copying import clear, copy, load_up_to, store_up_to
from rllib_stpn.kernels.simd.functions import bounded, tanh
from rllib_stpn.kernels.simd.vector import (
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
)
from rllib_stpn.kernels.stpn.columns.weights import load_weights
from rllib_stpn.kernels.stpn.normalizations import NORM_OFFSET, POST, PRE
from rllib_stpn.kernels.stpn.row_sums import load_sums, store_sums


@inline
def _measure_row(weights, row, E, at, there, u, now, n, sums, to, stride, add, post, measure):
    # Adds up the sums over one row of G = W + E, of `there` columns, that the next step needs.
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
    # Compiled on its own for each choice, as are the loops below: inlined among others it ran at half the speed.
    @compiled_part
    def update(
        weights, E, at, D, u, before, now, width, start, n, row_values, k_at, h_at, sums, sums_at, H, top, end,
        padded, bound,
    ):  # fmt: skip
        # Columns `start` to `start + n` of rows `top` to `end`, of one sample or, with `pair`, of two, which share the
        # loads of the weights.
        stride, other, whole = padded * LANES, 5 * padded * LANES, min(n, (D - start) // LANES * LANES)
        zero = splat(0.0)
        for i in range(top, end):
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
            row, at_E, next_E = 3 * i * width, at + i * D, at + (i + H) * D
            for j in range(start, start + whole, LANES):
                vectors, e = load_weights(weights, row + 3 * j), load(E, at_E + j)
                e, totals = _update_vector(vectors, e, u, before + j, now + j, one, bound, totals, post)
                store(E, at_E + j, e)
                if pair:
                    e, past, v = load(E, next_E + j), before + width + j, now + width + j
                    e, more = _update_vector(vectors, e, u, past, v, two, bound, more, post)
                    store(E, next_E + j, e)
            if whole < n:
                j, there = start + whole, D - start - whole
                vectors, e = load_weights(weights, row + 3 * j), load_first(E, at_E + j, there)
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
@compiled("fbffffffffffffiiiiiiiiiiiiis")
def run(
    x, first, h0, F0,
    weights, bias, WW,
    F, out, saved, spent,
    u, sums, row_values,
    first_sample, last_sample, steps, input_size, hidden_size, recurrent,
    rule, save, measure, in_place, chunk, block, tile,
    clamp,
):
    # fmt: on
    """Runs the layer: writes outputs, the final F and, if asked, what backward needs and the energy.

    ``x`` [B, T, I]; ``first`` [B, T + 1], its last column zero; ``h0`` [B, H] and ``F0`` [B, H, D], empty for
    zeros; with ``in_place``, F holds the start state; ``weights`` [H, width / 16, 3, 16] with W, Λ and Γ interleaved;
    ``WW`` [rows], sums of W², read for "post" alone. ``saved`` is [B, T, 2 or 5, rows]. All samples pass through
    ``chunk`` rows, then through the next: sixteen or more in a single step, where no row waits for others, else all.
    Scratch, zeroed: ``u`` [2, block, width], ``sums`` [block, 5, rows, 16], ``row_values`` [4, block, rows].
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
    for top in range(0, H, chunk):
        end = min(top + chunk, H)
        for start in range(first_sample, last_sample, block):
            count = min(block, last_sample - start)
            for t in range(steps + 1):
                now, before = (t & 1) * block * width, (1 - (t & 1)) * block * width
                for s in range(count):
                    b = start + s
                    at = b * H * D
                    reset = first[b * (steps + 1) + t] != 0
                    if reset or (t == 0 and F0.size == 0 and not in_place):
                        clear(F, at + top * D, (end - top) * D)
                    elif t == 0 and not in_place:
                        copy(F, at + top * D, F0, at + top * D, (end - top) * D)
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
                            for i in range(top, end):
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
                            row_values, k_at + s * rows, h_at + s * rows, sums, s * 5 * rows * LANES, H, top, end, rows,
                            bound,
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
                    for i in range(top, end, LANES):
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
                        copy(out, (b * steps + t) * H + top, row_values, h_at + s * rows + top, end - top)
                    if t < steps and measure:
                        for i in range(top, top if fresh else end):  # of fresh rows it was added up before
                            q = splat(row_values[q_at + s * rows + i])
                            total = splat(0.0)
                            for j in range(0, width, LANES):
                                v, w = load(u, now + s * width + j), load(weights, 3 * (i * width + j))
                                g = w + q * load_up_to(F, (b * H + i) * D + j, D - j)
                                total = absolute(g) * v * v + total
                            store(sums, ((s * 5 + 4) * rows + i) * LANES, total)
                        for i in range(top, end, LANES):
                            total = sum_each(sums, ((s * 5 + 4) * rows + i) * LANES)
                            total = total * load(row_values, inv_at + s * rows + i)
                            store(row_values, inv_at + s * rows + i, total)
                        copy(spent, (b * steps + t) * H + top, row_values, inv_at + s * rows + top, end - top)
                    if t == steps and post:
                        for i in range(top, end):
                            q = splat(row_values[q_at + s * rows + i])
                            for j in range(0, D, LANES):
                                at = (b * H + i) * D + j
                                store_up_to(F, at, load_up_to(F, at, D - j) * q, D - j)
