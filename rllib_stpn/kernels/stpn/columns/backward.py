"""The backward loop over columns; README.md has the derivation, ``forward.py`` the layout of arrays."""

import numpy as np

from rllib_stpn.kernels.simd.compiling import compiled, compiled_part, inline
from rllib_stpn.kernels.simd.copying import clear, copy, load_up_to
from rllib_stpn.kernels.simd.vector import LANES, load, splat, store, where_inside
from rllib_stpn.kernels.stpn.columns.step_back import (
    OF_H,
    OF_H_ON,
    OF_K,
    OF_K_ON,
    OF_LIMIT,
    SUMS,
    back,
    on_scalars,
    replay,
    row_scalars,
    solve_earlier,
    solve_step,
)
from rllib_stpn.kernels.stpn.columns.two_steps import (
    both_of_one,
    both_of_one_post,
    both_of_two,
    both_of_two_post,
    measure,
    outputs_of_earlier,
    outputs_of_earlier_post,
    outputs_of_later,
    outputs_of_later_post,
)
from rllib_stpn.kernels.stpn.columns.weights import load_weights
from rllib_stpn.kernels.stpn.normalizations import NORM_OFFSET, POST


def _replay(every):
    @compiled_part
    def replay_rows(
        weights, E, at, u, now, u_stride, values, values_at, values_stride, kind,
        trace, to, trace_stride, last, last_at, rows, n, count, bound,
    ):  # fmt: skip
        # All rows of E over `count` steps whose outputs are known: nothing to add up, so E stays in registers. With
        # `every` it is kept before each first of so many steps.
        for i in range(rows):
            for j in range(0, n, 2 * LANES):
                more = min(LANES, n - LANES - j)  # a last vector without a partner is done twice
                row = i * n + j
                e, e_more = load(E, at + row), load(E, at + row + more)
                _, lam, gam = load_weights(weights, 3 * row)
                _, lam_more, gam_more = load_weights(weights, 3 * (row + more))
                for t in range(count):
                    now_t, at_t = now + t * u_stride + j, values_at + t * values_stride
                    if every == 1 or (every == 2 and t % 2 == 0):
                        to_t = to + t // every * trace_stride + row
                        store(trace, to_t, e)
                        store(trace, to_t + more, e_more)
                    on = on_scalars(values, at_t + i, kind)
                    e = replay(lam, gam, e, load(u, now_t), on, bound)
                    e_more = replay(lam_more, gam_more, e_more, load(u, now_t + more), on, bound)
                store(last, last_at + row, e)
                store(last, last_at + row + more, e_more)

    return replay_rows


_replay_last, _replay_all, _replay_twos = _replay(0), _replay(1), _replay(2)


def _reverse(pair, post):
    @inline
    def vector(vectors, gradients, E, at, dP, dp_at, u, now, before, du, du_at, scalars, totals):
        # Reads dP of this step's update, leaves that of the previous one, adds to all gradients.
        (w, lam, gam), (dw, dlam, dgam), (a, c) = vectors, gradients, totals
        e, x, p = load(E, at), load(u, now), load(dP, dp_at)
        ph, pk = p * scalars[1], p * scalars[0]
        d, d_w, de = back(w, lam, gam, e, x, p, scalars, post)
        store(du, du_at, d + load(du, du_at))
        store(dP, dp_at, de)
        return (dw + d_w, pk * e + dlam, ph * x + dgam), (gam * load(u, before) * de + a, de * e + c)

    @compiled_part
    def reverse(
        weights, gradients, E, at, dP, dp_at, u, now, before, du, du_at, values, values_at, kind,
        sums, sums_at, rows, n, room, padded,
    ):  # fmt: skip
        # One step back, of one sample or, with `pair`, of two, which share the loads and stores of the weights.
        stride = padded * LANES
        for i in range(rows):
            one = row_scalars(values, values_at + i, kind)
            totals = splat(0.0), splat(0.0)
            two, more = one, totals
            if pair:
                two = row_scalars(values, values_at + padded + i, kind)
            for j in range(0, n, LANES):
                row = i * n + j
                vectors, sum_ = load_weights(weights, 3 * row), load_weights(gradients, 3 * row)
                at_E, at_P, at_u, past, at_du = at + row, dp_at + row, now + j, before + j, du_at + j
                sum_, totals = vector(vectors, sum_, E, at_E, dP, at_P, u, at_u, past, du, at_du, one, totals)
                if pair:
                    at_E, at_P, at_u, past, at_du = at_E + room, at_P + room, at_u + n, past + n, at_du + n
                    sum_, more = vector(vectors, sum_, E, at_E, dP, at_P, u, at_u, past, du, at_du, two, more)
                store(gradients, 3 * row, sum_[0])
                store(gradients, 3 * row + LANES, sum_[1])
                store(gradients, 3 * row + 2 * LANES, sum_[2])
            to = sums_at + i * LANES
            store(sums, to, totals[0])
            store(sums, to + stride, totals[1])
            if pair:
                store(sums, to + SUMS * stride, more[0])
                store(sums, to + (SUMS + 1) * stride, more[1])

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
@compiled("fffffbffffffffffffffffiiiiiiiiiiis")
def run(
    out, saved, dout, dF,
    x, first, h0, F0,
    weights, gradients, db,
    dx, dh0, dF0,
    u, values, trace, checkpoints, dP, du, sums, row_values,
    first_sample, last_sample, steps, input_size, hidden_size, recurrent,
    rule, block, length, room, two,
    clamp,
):
    # fmt: on
    """Runs the layer backwards from the gradients of its outputs and, where ``dF`` is not empty, of its final F.

    ``weights`` [H, width / 16, 3, 16] holds W, Λ and Γ. The loop adds to their ``gradients``, of the same shape, and to
    ``db`` [rows], and writes ``dx``, ``dh0`` and ``dF0``. E is replayed in segments of ``length`` steps. With
    ``two`` it goes back two steps in one pass (``two_steps.py``); of several segments each has an even length then.
    Scratch memory, of which the first two come zeroed, with ``room`` at least H * width: ``u`` [length + 1, block,
    width], ``values`` [9, length, block, rows], ``trace`` [length + 1 or, with ``two``, half as many, block, room],
    ``checkpoints`` [segments, block, room], ``dP`` [block, room], ``du`` [1 or, with ``two``, 3, block, width],
    ``sums`` [block, 10, rows, 16], ``row_values`` [2, block, rows].
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
    carry_at, dh_at = 0, block * rows
    step = block * rows
    kind = length * step
    every = 2 if two != 0 else 1  # steps back in one pass
    inputs = input_size // LANES * LANES  # columns that are no previous outputs, in whole vectors
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
                    copy(values, to + OF_H * kind, out, (b * steps + t) * H, H)
                    limit = bound if t > 0 else splat(np.inf)  # dF0 is not behind a clamp
                    if first[b * (steps + 1) + t] != 0:
                        limit = splat(-1.0)  # nothing passes
                    for i in range(0, rows, LANES):
                        k = one
                        if rule != 0:
                            k = load(saved, ((b * steps + t) * kinds + (2 if post else 0)) * rows + i)
                        h = load(values, to + OF_H * kind + i)
                        store(values, to + OF_K * kind + i, k)
                        store(values, to + OF_LIMIT * kind + i, limit)
                        if first[b * (steps + 1) + t + 1] != 0:  # whose update is forgotten
                            k, h = zero, zero
                        store(values, to + OF_K_ON * kind + i, k)
                        store(values, to + OF_H_ON * kind + i, h)
            number = (end - begin + every - 1) // every
            for s in range(count):
                source = (weights, checkpoints, (segment * block + s) * room, u, (block + s) * width, block * width)
                known = (values, s * rows, step, kind)
                kept = (trace, s * room, block * room, trace, (number * block + s) * room)
                if not keep:
                    last = (checkpoints, ((segment + 1) * block + s) * room)
                    _replay_last(*source, *known, trace, 0, 0, *last, H, width, end - begin, bound)
                elif two != 0:
                    _replay_twos(*source, *known, *kept, H, width, end - begin, bound)
                else:
                    _replay_all(*source, *known, *kept, H, width, end - begin, bound)
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
                            (number * block + s) * room + i * width,
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
                            (s * SUMS * rows + i) * LANES,
                            stride,
                        )
            chunks = (end - begin) // 2 if two != 0 else 0
            for t in range(end - 1, begin + 2 * chunks - 1, -1):  # one by one: all, or the last of an odd number
                for s in range(count):
                    b = start + s
                    copy(row_values, dh_at + s * rows, dout, (b * steps + t) * H, H)
                    from_start = t == 0 or first[b * (steps + 1) + t] != 0
                    solve_step(
                        saved, (b * steps + t) * kinds * rows, values, ((t - begin) * block + s) * rows, step, kind,
                        row_values, carry_at + s * rows, dh_at + s * rows, sums, s * SUMS * stride, db, rows, rule,
                        from_start,
                    )  # fmt: skip
                clear(du, 0, block * width)
                for s in range(0, count, 2):
                    pair = s + 1 < count
                    slot = ((t - begin) * block + s) * width
                    part = (
                        weights, gradients, trace, ((t - begin) // every * block + s) * room, dP, s * room,
                        u, slot + block * width, slot, du, s * width,
                        values, ((t - begin) * block + s) * rows, kind,
                        sums, s * SUMS * stride, H, width, room, rows,
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
            if chunks > 0:
                for s in range(count):
                    measure(
                        weights, trace, ((chunks - 1) * block + s) * room, dP, s * room,
                        u, ((2 * chunks - 1) * block + s) * width, block * width,
                        values, ((2 * chunks - 2) * block + s) * rows, step, kind,
                        sums, s * SUMS * stride, H, width, rows, bound,
                    )  # fmt: skip
            for chunk in range(chunks - 1, -1, -1):
                for t in range(begin + 2 * chunk + 1, begin + 2 * chunk - 1, -1):
                    later = t == begin + 2 * chunk + 1
                    for s in range(count):
                        b = start + s
                        copy(row_values, dh_at + s * rows, dout, (b * steps + t) * H, H)
                        from_start = t == 0 or first[b * (steps + 1) + t] != 0
                        of_step = (
                            saved, (b * steps + t) * kinds * rows, values, ((t - begin) * block + s) * rows, step, kind,
                            row_values, carry_at + s * rows, dh_at + s * rows, sums, s * SUMS * stride, db, rows, rule,
                            from_start,
                        )  # fmt: skip
                        if later:
                            solve_step(*of_step)
                        else:
                            solve_earlier(*of_step)
                        if recurrent:
                            at = (2 * block + s) * width
                            clear(du, at, width)
                            of_chunk = (
                                weights, trace, (chunk * block + s) * room, dP, s * room,
                                u, ((2 * chunk + 1) * block + s) * width, block * width, du, at,
                                values, (2 * chunk * block + s) * rows, step, kind, H, width, inputs, bound,
                            )  # fmt: skip
                            if later and post:
                                outputs_of_later_post(*of_chunk)
                            elif later:
                                outputs_of_later(*of_chunk)
                            elif post:
                                outputs_of_earlier_post(*of_chunk)
                            else:
                                outputs_of_earlier(*of_chunk)
                            copy(row_values, carry_at + s * rows, du, at + input_size, H)
                            if first[b * (steps + 1) + t] != 0:
                                clear(row_values, carry_at + s * rows, rows)
                clear(du, 0, 2 * block * width)
                before = max(chunk - 1, 0)  # of the first chunk the sums are of no use
                for s in range(0, count, 2):
                    pair = s + 1 < count
                    passed = (
                        weights, gradients, trace, (chunk * block + s) * room, (before * block + s) * room,
                        dP, s * room, u, ((2 * chunk + 1) * block + s) * width,
                        ((2 * before + 1) * block + s) * width, block * width, du, s * width, block * width,
                        values, (2 * chunk * block + s) * rows, (2 * before * block + s) * rows, step, kind,
                        sums, s * SUMS * stride, H, width, room, rows, bound,
                    )  # fmt: skip
                    if pair and post:
                        both_of_two_post(*passed)
                    elif pair:
                        both_of_two(*passed)
                    elif post:
                        both_of_one_post(*passed)
                    else:
                        both_of_one(*passed)
                for s in range(count):
                    at = ((start + s) * steps + begin + 2 * chunk) * input_size
                    copy(dx, at, du, s * width, input_size)
                    copy(dx, at + input_size, du, (block + s) * width, input_size)
        for s in range(count):
            if dh0.size > 0:
                copy(dh0, (start + s) * H, row_values, carry_at + s * rows, H)
            if dF0.size > 0:
                for i in range(H):
                    copy(dF0, ((start + s) * H + i) * D, dP, s * room + i * width, D)
