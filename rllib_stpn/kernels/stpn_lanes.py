"""The fused STPN loops for small layers on CPUs: sixteen samples side by side in one vector.

Rows of a small layer are a few vectors long, so that ``stpn_cpu`` spends its time on what surrounds them. Here lane
``l`` of every vector belongs to sample ``l`` of a group of sixteen, a row may have any length, and nothing is added up
across lanes. The mathematics, in README.md, is the same, and so are the names.

Arrays are flat float32, laid out as torch has them but for ``scratch``, ``saved`` and ``gradients``, which have the
lanes innermost. A group at the end of the batch leaves lanes empty: these hold zeros.
"""

import numpy as np

from rllib_stpn.kernels.lanes import bounded, clear, compiled, episode_begins, gather, scatter, tanh
from rllib_stpn.kernels.stpn_cpu import NORM_OFFSET, POST, PRE
from rllib_stpn.kernels.vector import LANES, at_least, load, splat, square_root, store, where_inside


# fmt: off
@compiled("fbfffffffffffiiiiiiiis")
def forward(
    x, first, h0, F0,
    W, L, M, bias, WW,
    F, out, saved, scratch,
    first_group, last_group, batch, steps, input_size, hidden_size, D, rule,
    clamp,
):
    # fmt: on
    """Runs the layer: writes outputs, the final F and, where ``saved`` is not empty, what backward needs.

    ``first`` [B, T], ``h0`` [B, H] and ``F0`` [B, H, D] may be empty; ``W``, ``L`` (Λ) and ``M``
    (Γ) are [H, D], ``WW`` [H] sums of W². ``saved`` [groups, T, 3 or 6, H, 16]. ``scratch`` holds (H D + 2 D + 4 H + 1)
    vectors: E, u now and before, and per row h, k, q and the new h.
    """
    H = hidden_size
    bound, one, offset, half = splat(clamp), splat(1.0), splat(NORM_OFFSET), splat(0.5)
    post = rule == POST
    kinds = 6 if post else 3
    u_at = H * D * LANES
    h_at = u_at + 2 * D * LANES
    k_at, q_at, new_at = h_at + H * LANES, h_at + 2 * H * LANES, h_at + 3 * H * LANES
    began_at = h_at + 4 * H * LANES
    for g in range(first_group, last_group):
        sample = g * LANES
        count = min(LANES, batch - sample)
        if count < LANES:
            clear(scratch, 0, scratch.size)
        if h0.size > 0:
            gather(scratch, h_at, H, h0, sample * H, H, count)
        else:
            for i in range(H):
                store(scratch, h_at + i * LANES, splat(0.0))
        for i in range(H * D):
            store(scratch, i * LANES, splat(0.0))
        if F0.size > 0:
            gather(scratch, 0, H * D, F0, sample * H * D, H * D, count)
        for t in range(steps + 1):
            began = episode_begins(scratch, began_at, first, sample, steps, t, count)
            now, before = u_at + (t & 1) * D * LANES, u_at + (1 - (t & 1)) * D * LANES
            if t < steps:
                gather(scratch, now, input_size, x, (sample * steps + t) * input_size, steps * input_size, count)
                for j in range(input_size, D):
                    h = load(scratch, h_at + (j - input_size) * LANES)
                    store(scratch, now + j * LANES, where_inside(began, half, h))
            for i in range(H):
                k, h = load(scratch, k_at + i * LANES), load(scratch, h_at + i * LANES)
                gg, gu, wg, wu = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
                for j in range(D):
                    at, at_w = (i * D + j) * LANES, i * D + j
                    w = splat(W[at_w])
                    e = load(scratch, at)
                    if t > 0:
                        e = splat(L[at_w]) * k * e
                        e = splat(M[at_w]) * h * load(scratch, before + j * LANES) + e
                        e = bounded(e, bound)
                    e = where_inside(began, half, e)
                    store(scratch, at, e)
                    v = load(scratch, now + j * LANES)
                    y = w + e
                    gg = y * y + gg
                    gu = y * v + gu
                    if post:
                        wg = w * y + wg
                        wu = w * v + wu
                q, ue, ge, current = one, one, one, gu
                if post:
                    ww = splat(WW[i])
                    if t > 0:  # where an episode begins E is zero, and q one
                        q = one + where_inside(began, half, one / (square_root(gg) + offset) - one)
                    p = one - q
                    ue = gu - wu
                    ge = p * (wg - ww) + q * (gg - wg)
                    current = p * wu + q * gu
                    gg = at_least(p * p * ww + splat(2.0) * p * q * wg + q * q * gg, splat(0.0))
                store(scratch, q_at + i * LANES, q)
                if t < steps:
                    inv = one
                    if rule != 0:
                        inv = one / (square_root(gg) + offset)
                    output = tanh(current * inv + splat(bias[i]))
                    store(scratch, new_at + i * LANES, output)
                    store(scratch, k_at + i * LANES, inv if rule == PRE else q)
                    if saved.size > 0:
                        to = ((g * steps + t) * kinds * H + i) * LANES
                        store(saved, to, inv)
                        store(saved, to + H * LANES, current)
                        store(saved, to + 2 * H * LANES, output)
                        if post:
                            store(saved, to + 3 * H * LANES, q)
                            store(saved, to + 4 * H * LANES, ue)
                            store(saved, to + 5 * H * LANES, ge)
            if t < steps:
                for i in range(H):
                    store(scratch, h_at + i * LANES, load(scratch, new_at + i * LANES))
                scatter(out, (sample * steps + t) * H, steps * H, count, scratch, h_at, H)
        if post:
            for i in range(H):
                q = load(scratch, q_at + i * LANES)
                for j in range(D):
                    store(scratch, (i * D + j) * LANES, load(scratch, (i * D + j) * LANES) * q)
        scatter(F, sample * H * D, H * D, count, scratch, 0, H * D)


# fmt: off
@compiled("fbfffffffffffffiiiiiiiis")
def backward(
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
    db_at = 3 * matrix
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
        for i in range(H):
            for j in range(D):
                to = trace_at + (i * D + j) * LANES
                lam, gam = splat(L[i * D + j]), splat(M[i * D + j])
                e = where_inside(load(scratch, began_at), half, load(scratch, to))
                store(scratch, to, e)
                for t in range(steps):
                    at = (g * steps + t) * kinds * row + i * LANES
                    k = one
                    if rule != 0:
                        k = load(saved, at + (3 * row if post else 0))
                    e = lam * k * e + gam * load(saved, at + 2 * row) * load(scratch, (t * D + j) * LANES)
                    e = bounded(e, bound)
                    e = where_inside(load(scratch, began_at + (t + 1) * LANES), half, e)
                    store(scratch, to + (t + 1) * matrix, e)
        for i in range(H):  # from the gradient of the final F = q E to that of the last update
            store(scratch, carry_at + i * LANES, zero)
            a, c = zero, zero
            q, v = one, zero
            if post and dF.size > 0:
                norm, dot = zero, zero
                for j in range(D):
                    e = load(scratch, trace_at + steps * matrix + (i * D + j) * LANES)
                    y = splat(W[i * D + j]) + e
                    norm = y * y + norm
                    dot = load(scratch, dP_at + (i * D + j) * LANES) * e + dot
                q = one / (square_root(norm) + splat(NORM_OFFSET))
                v = zero - dot * q * q * q
            if dF.size > 0:
                for j in range(D):
                    e = load(scratch, trace_at + steps * matrix + (i * D + j) * LANES)
                    de = load(scratch, dP_at + (i * D + j) * LANES)
                    if post:
                        z = v * (splat(W[i * D + j]) + e)
                        to = 3 * (i * D + j) * LANES
                        store(gradients, to, load(gradients, to) + z)
                        de = q * de + z
                    de = where_inside(e, bound, de)
                    store(scratch, dP_at + (i * D + j) * LANES, de)
                    u = load(scratch, ((steps - 1) * D + j) * LANES)
                    a = splat(M[i * D + j]) * u * de + a
                    c = de * e + c
            store(scratch, a_at + i * LANES, a)
            store(scratch, c_at + i * LANES, c)
        for t in range(steps - 1, -1, -1):
            began = load(scratch, began_at + t * LANES)
            limit = bound if t > 0 else splat(np.inf)  # dF0 is not behind a clamp
            now = t * D * LANES
            before = max(t - 1, 0) * D * LANES
            gather(scratch, dout_at, H, dout, (sample * steps + t) * H, steps * H, count)
            for j in range(D):
                store(scratch, du_at + j * LANES, zero)
            for i in range(H):
                at_row = i * LANES
                at_saved = (g * steps + t) * kinds * row + at_row
                inv, current, k = one, zero, one
                if rule != 0:
                    inv, current = load(saved, at_saved), load(saved, at_saved + row)
                    k = inv
                h = load(saved, at_saved + 2 * row)
                a, c = load(scratch, a_at + at_row), load(scratch, c_at + at_row)
                dh = load(scratch, dout_at + at_row) + load(scratch, carry_at + at_row) + a
                dpre = dh * (one - h * h)
                q, nu, v = one, zero, zero
                if rule == PRE:
                    nu = zero - (dpre * current + (c - h * a) / k) * inv * inv * inv
                if post:
                    q = load(saved, at_saved + 3 * row)
                    k = q
                    nu = zero - dpre * current * inv * inv * inv
                    if t > 0:
                        ue, ge = load(saved, at_saved + 4 * row), load(saved, at_saved + 5 * row)
                        v = zero - ((c - h * a) / k + dpre * inv * ue + nu * ge) * q * q * q
                        v = where_inside(began, half, v)
                ds = dpre * inv
                store(gradients, db_at + at_row, load(gradients, db_at + at_row) + dpre)
                a, c = zero, zero
                for j in range(D):
                    at_w, at_g = i * D + j, 3 * (i * D + j) * LANES
                    w, lam, gam = splat(W[at_w]), splat(L[at_w]), splat(M[at_w])
                    e = load(scratch, trace_at + t * matrix + (i * D + j) * LANES)
                    u, p = load(scratch, now + j * LANES), load(scratch, dP_at + (i * D + j) * LANES)
                    y = w + e
                    if post:
                        y = w + q * e
                    dy = ds * u + nu * y
                    dw, de = dy, lam * p * k + dy
                    if post:
                        z = v * (w + e)
                        dw, de = dy + z, lam * p * k + (q * dy + z)
                    store(gradients, at_g, dw + load(gradients, at_g))
                    store(gradients, at_g + LANES, p * e * k + load(gradients, at_g + LANES))
                    store(gradients, at_g + 2 * LANES, p * u * h + load(gradients, at_g + 2 * LANES))
                    at_u = du_at + j * LANES
                    store(scratch, at_u, gam * p * h + (ds * y + load(scratch, at_u)))
                    de = where_inside(began, half, where_inside(e, limit, de))
                    store(scratch, dP_at + (i * D + j) * LANES, de)
                    a = gam * load(scratch, before + j * LANES) * de + a
                    c = de * e + c
                store(scratch, a_at + at_row, a)
                store(scratch, c_at + at_row, c)
            scatter(dx, (sample * steps + t) * input_size, steps * input_size, count, scratch, du_at, input_size)
            for j in range(input_size, D):
                carried = where_inside(began, half, load(scratch, du_at + j * LANES))
                store(scratch, carry_at + (j - input_size) * LANES, carried)
        if dh0.size > 0:
            scatter(dh0, sample * H, H, count, scratch, carry_at, H)
        if dF0.size > 0:
            scatter(dF0, sample * H * D, H * D, count, scratch, dP_at, H * D)
