"""The backward loops of the plastic rules; ``forward.py`` has the layout of arrays, README.md the derivation."""

import functools

from rllib_stpn.kernels.plastic.layer_norm import normalize_backward
from rllib_stpn.kernels.plastic.layout import BEYOND, CLAMP, CLAMPED, INFINITY, MODULATED
from rllib_stpn.kernels.plastic.synapses import update_synapse
from rllib_stpn.kernels.simd.compiling import compiled, inline
from rllib_stpn.kernels.simd.copying import add_to, episode_begins, fill, gather, scatter
from rllib_stpn.kernels.simd.functions import bounded
from rllib_stpn.kernels.simd.vector import LANES, broadcast, load, splat, store, sum_each, where_inside


@inline
def _add_four(lanes, at0, at1, j0, j1, x00, x01, x10, x11):
    # To two rows and two columns. All loads come first: a row or column that is its own partner is added up once.
    x00, x01 = load(lanes, at0 + j0) + x00, load(lanes, at0 + j1) + x01
    x10, x11 = load(lanes, at1 + j0) + x10, load(lanes, at1 + j1) + x11
    store(lanes, at0 + j0, x00)
    store(lanes, at0 + j1, x01)
    store(lanes, at1 + j0, x10)
    store(lanes, at1 + j1, x11)


@inline
def _synapse(
    lanes, at, prev, at_d, trace, trace_d, w, scale, u, v, dp, rho, kappa, m, began, limit, bound,
    clamped, traced, decaying, oja,
):  # fmt: skip
    # Backward through the use of A_t by one synapse and through the update into it. Stores the gradients of A_t and
    # E_t; returns what is added to those of u and v, and to the sums of the gradient times v, times what κ multiplies
    # and times E_{t-1}.
    raw, d = load(lanes, at), load(lanes, at_d)
    a = bounded(raw, bound) if clamped else raw
    da = scale * dp * u + (d if clamped else kappa * d)
    if clamped:
        da = where_inside(raw, limit, da)
    da = where_inside(began, splat(0.5), da)
    store(lanes, at_d, da)
    along_a, along_e = splat(0.0), splat(0.0)
    if traced:
        e = load(lanes, prev + trace)
        along_e = da * e
        da = where_inside(began, splat(0.5), m * d + kappa * load(lanes, at_d + trace_d))
        store(lanes, at_d + trace_d, da)
        along_a = da * e
    elif oja:
        along_a = da * load(lanes, prev)
    elif decaying:  # of the update out of A_t, which is at hand
        along_a = d * raw
    return dp * (scale * a + w), rho * da, da * v, along_a, along_e


@inline
def _used(lanes, at, d, dw, dalpha, bound, clamped, attends):
    # Adds d, of the use of a synapse, to the gradients of its weight and α.
    if not attends:
        a = load(lanes, at)
        if clamped:
            a = bounded(a, bound)
        dalpha = d * a + dalpha
    return dw + d, dalpha


@functools.cache
def backward_loops(rule: str):
    """The compiled loops of a rule from the gradients of outputs and, where not empty, of final A and E.

    They write ``ddrive``, ``gradients`` and, where not empty, ``dh0``, ``dA0``, ``dE0``. ``passes`` is the
    number of A that gradients reach, taken in segments of ``length``.
    """
    traced, modulated, clamped = rule == "retroactive", rule in MODULATED, rule in CLAMPED
    decaying, oja, attends = rule == "decaying", rule == "oja", rule == "fast_weights"
    lag = 0 if attends else 1

    # fmt: off
    @compiled("bfff" "fffff" "fff" "ffffff" "iiiiiii" "ss")
    def run(
        first, h0, A0, E0,
        weight, alpha, modulator, gain, saved,
        dout, dA, dE,
        ddrive, dh0, dA0, dE0, gradients, scratch,
        first_group, last_group, batch, steps, H, passes, length,
        keep, rate,
    ):
        # fmt: on
        zero, one, half = splat(0.0), splat(1.0), splat(0.5)
        row, square, trace_d = H * LANES, H * H * LANES, (H + 1) * H * LANES
        matrix = (2 if traced else 1) * square
        block = (length + 1) * row  # row i of all A of a segment, in order of time
        trace = H * block
        kinds = (4 * H + 2 if attends else H + 1) * LANES
        segments = (passes + length - 1) // length
        starts_at = (2 if traced else 1) * trace
        d_at = starts_at + segments * matrix
        v_at = d_at + (2 if traced else 1) * trace_d
        began_at = v_at + (passes + 1) * row
        dv_at = began_at + (passes + 1) * LANES
        dh_at = dv_at + 2 * row
        s_at, dps_at = dh_at + row, dh_at + 2 * row
        dw_at = dps_at + length * row
        dalpha_at = dw_at + square
        db_at = dalpha_at + (0 if attends else square)
        dgain_at = db_at + row
        fill(scratch, dw_at, gradients.size, zero)
        dkeep, drate, dbias = zero, zero, zero
        used = 1 if h0.size == 0 else 0  # the first step whose weights are not driven by zeros
        blank = not attends and h0.size == 0 and A0.size == 0 and E0.size == 0  # nothing to pass back beyond step 0
        for g in range(first_group, last_group):
            sample = g * LANES
            count = min(LANES, batch - sample)
            fill(scratch, d_at, (dw_at - d_at) // LANES, zero)
            if count < LANES or A0.size == 0:
                fill(scratch, starts_at, matrix // LANES, zero)
            if A0.size > 0:
                gather(scratch, starts_at, H * H, A0, sample * H * H, H * H, count)
            if traced and E0.size > 0:
                gather(scratch, starts_at + square, H * H, E0, sample * H * H, H * H, count)
            if dA.size > 0:
                gather(scratch, d_at, H * H, dA, sample * H * H, H * H, count)
            if traced and dE.size > 0:
                gather(scratch, d_at + trace_d, H * H, dE, sample * H * H, H * H, count)
            for t in range(passes):
                began = episode_begins(scratch, began_at + t * LANES, first, sample, steps, t, count)
                to = v_at + t * row
                if t == 0 and h0.size > 0:
                    gather(scratch, to, H, h0, sample * H, H, count)
                for j in range(0, row, LANES):
                    h = load(scratch, to + j)
                    if t > 0:
                        h = load(saved, (g * steps + t - 1) * kinds + j)
                    store(scratch, to + j, where_inside(began, half, h))
            dm = zero
            # Through the segments in order, for their starts, then backwards from the last.
            for n in range(2 * segments - 1):
                sweeping = n < segments - 1
                segment = n if sweeping else 2 * segments - 2 - n
                begin = segment * length
                end = min(begin + length, passes)
                stride = 0 if sweeping else row
                start_at = starts_at + segment * matrix
                for i in range(H):
                    for j in range(0, row, LANES):
                        at, to = start_at + i * row + j, i * block + j
                        store(scratch, to, load(scratch, at))
                        if traced:
                            store(scratch, to + trace, load(scratch, at + square))
                    for t in range(begin, end):
                        began = load(scratch, began_at + t * LANES)
                        kappa, eta, bound, m = splat(keep), splat(rate), splat(CLAMP), zero
                        if t <= lag:
                            bound = splat(INFINITY)
                        if t < lag:
                            kappa, eta = one, zero
                        post = load(scratch, v_at + t * row + i * LANES)
                        if modulated and t > 0:
                            m = load(saved, (g * steps + t - 1) * kinds + row)
                        rho = (m if modulated and not traced else eta) * post
                        if oja:
                            kappa = one - rho * post
                        pre, at = v_at + max(t - lag, 0) * row, i * block + (t - begin) * stride
                        for j in range(0, row, LANES):
                            v, to = load(scratch, pre + j), at + stride + j
                            update_synapse(
                                scratch, at + j, to, trace, v, m, rho, kappa, began, bound, clamped, traced, True
                            )
                if sweeping:
                    for i in range(H):
                        for j in range(0, row, LANES):
                            at, to = i * block + j, start_at + matrix + i * row + j
                            store(scratch, to, load(scratch, at))
                            if traced:
                                store(scratch, to + square, load(scratch, at + trace))
                    begin = end  # no passes yet
                for t in range(end - 1, begin - 1, -1):
                    began = load(scratch, began_at + t * LANES)
                    at_saved = (g * steps + t) * kinds
                    dp_at = dps_at + (t - begin) * row
                    m_next, m = zero, zero
                    if t < steps:
                        gather(scratch, dp_at, H, dout, (sample * steps + t) * H, steps * H, count)
                        if modulated:
                            m_next = load(saved, at_saved + row)
                            dm = dm * (one - m_next * m_next)
                            dbias = dbias + dm
                        for i in range(H):
                            at = i * LANES
                            d = load(scratch, dp_at + at) + load(scratch, dh_at + at)
                            if attends:
                                store(scratch, s_at + at, load(saved, at_saved + row + at))
                            else:
                                h = load(saved, at_saved + at)
                                if modulated:
                                    d = broadcast(modulator, i) * dm + d
                                    add_to(scratch, dgain_at + at, dm * h)
                                d = d * (one - h * h)
                                add_to(scratch, db_at + at, d)
                            store(scratch, dp_at + at, d)
                        if attends:
                            z_at, r_at = at_saved + 3 * row, at_saved + 4 * row + LANES
                            normalize_backward(scratch, dp_at, saved, at_saved, z_at, r_at, gain, dgain_at, H)
                        else:
                            scatter(ddrive, (sample * steps + t) * H, steps * H, count, scratch, dp_at, H)
                    if t > 0 and modulated:
                        m = load(saved, at_saved - kinds + row)
                    dm = zero
                    # Of the update out of A_t; the gradient of the last A is given as it is.
                    kappa, eta_next, limit, bound = splat(keep), splat(rate), splat(BEYOND), splat(CLAMP)
                    if t == passes - 1:
                        kappa, eta_next, m_next = one, zero, zero
                    eta = splat(rate)  # of the update into A_t
                    if t < lag:
                        eta, limit, bound = zero, splat(INFINITY), splat(INFINITY)
                    v_now, pre = v_at + t * row, v_at + max(t - lag, 0) * row
                    read = s_at if attends else v_now
                    du_at, dv_next = dv_at, dv_at + row
                    if attends:
                        fill(scratch, du_at, H, zero)
                    elif t & 1:
                        du_at, dv_next = dv_next, du_at
                    fill(scratch, dv_next, H, zero)
                    kappa0, kappa1, scale0, scale1, w0, w1 = kappa, kappa, one, one, zero, zero
                    for i in range(0, 0 if blank and t == 0 else H, 2):
                        i1 = min(i + 1, H - 1)
                        at0, at1 = i * LANES, i1 * LANES
                        dp0, dp1 = load(scratch, dp_at + at0), zero
                        if i1 > i:
                            dp1 = load(scratch, dp_at + at1)
                        post0, post1 = load(scratch, v_now + at0), load(scratch, v_now + at1)
                        by = m if modulated and not traced else eta
                        rho0, rho1 = by * post0, by * post1
                        if oja and t < steps:
                            next0, next1 = load(saved, at_saved + at0), load(saved, at_saved + at1)
                            kappa0, kappa1 = one - eta_next * next0 * next0, one - eta_next * next1 * next1
                        v0, v1, a0, a1, e0, e1 = zero, zero, zero, zero, zero, zero
                        for j in range(H):
                            at_j = j * LANES
                            u, v = load(scratch, read + at_j), load(scratch, pre + at_j)
                            if not attends:
                                scale0, scale1 = broadcast(alpha, i * H + j), broadcast(alpha, i1 * H + j)
                                w0, w1 = broadcast(weight, i * H + j), broadcast(weight, i1 * H + j)
                            at, to = i * block + (t - begin + 1) * row + at_j, d_at + i * row + at_j
                            du, dv, of_v, of_a, of_e = _synapse(
                                scratch, at, at - row, to, trace, trace_d, w0, scale0, u, v,
                                dp0, rho0, kappa0, m_next, began, limit, bound, clamped, traced, decaying, oja,
                            )  # fmt: skip
                            v0, a0, e0 = v0 + of_v, a0 + of_a, e0 + of_e
                            at, to = at + (i1 - i) * block, to + row
                            du1, dv1, of_v, of_a, of_e = _synapse(
                                scratch, at, at - row, to, trace, trace_d, w1, scale1, u, v,
                                dp1, rho1, kappa1, m_next, began, limit, bound, clamped, traced, decaying, oja,
                            )  # fmt: skip
                            v1, a1, e1 = v1 + of_v, a1 + of_a, e1 + of_e
                            add_to(scratch, du_at + at_j, du + du1)
                            add_to(scratch, dv_next + at_j, dv + dv1)
                        dpost0, dpost1 = by * v0, by * v1
                        if t >= lag:
                            of_v = v0 * post0 + v1 * post1
                            if oja:
                                twice = splat(-2.0) * eta
                                dpost0, dpost1 = twice * post0 * a0 + dpost0, twice * post1 * a1 + dpost1
                                drate = drate - (a0 * post0 * post0 + a1 * post1 * post1)
                            if traced:
                                dkeep = dkeep + (a0 + a1)
                                dm = dm + (e0 + e1)
                            if modulated and not traced:
                                dm = dm + of_v
                            else:
                                drate = drate + of_v
                        if decaying and t < passes - 1:
                            dkeep = dkeep + (a0 + a1)
                        store(scratch, dh_at + at1, dpost1)
                        store(scratch, dh_at + at0, dpost0)
                    if attends:
                        s_from, z_at, r_at = at_saved + row, at_saved + 2 * row, at_saved + 4 * row
                        normalize_backward(scratch, du_at, saved, s_from, z_at, r_at, gain, dgain_at, H)
                        for i in range(H):
                            at = i * LANES
                            dp = load(scratch, dp_at + at) + load(scratch, du_at + at)
                            store(scratch, dp_at + at, dp)
                            add_to(scratch, db_at + at, dp)
                        for i in range(0, H, 2):
                            i1 = min(i + 1, H - 1)
                            dp0, dp1 = load(scratch, dp_at + i * LANES), zero
                            if i1 > i:
                                dp1 = load(scratch, dp_at + i1 * LANES)
                            for j in range(H):
                                both = broadcast(weight, i * H + j) * dp0 + broadcast(weight, i1 * H + j) * dp1
                                add_to(scratch, dv_next + j * LANES, both)
                        scatter(ddrive, (sample * steps + t) * H, steps * H, count, scratch, dp_at, H)
                        du_at = dv_next
                    for j in range(0, row, LANES):
                        add_to(scratch, dh_at + j, where_inside(began, half, load(scratch, du_at + j)))
                # The gradients of weight and α, for all passes of the segment at once.
                for i in range(0, 0 if sweeping else H, 2):
                    for j in range(0, H, 2):
                        i1, j1 = min(i + 1, H - 1), min(j + 1, H - 1)
                        w00, w01, w10, w11, a00, a01, a10, a11 = zero, zero, zero, zero, zero, zero, zero, zero
                        for t in range(max(begin, used), min(end, steps)):
                            dp_at, u_at = dps_at + (t - begin) * row, v_at + t * row
                            dp0, dp1 = load(scratch, dp_at + i * LANES), load(scratch, dp_at + i1 * LANES)
                            u0, u1 = load(scratch, u_at + j * LANES), load(scratch, u_at + j1 * LANES)
                            bound = splat(CLAMP if t >= lag else INFINITY)
                            at = (t - begin + 1) * row
                            at0, at1 = at + i * block, at + i1 * block
                            w00, a00 = _used(scratch, at0 + j * LANES, dp0 * u0, w00, a00, bound, clamped, attends)
                            w01, a01 = _used(scratch, at0 + j1 * LANES, dp0 * u1, w01, a01, bound, clamped, attends)
                            w10, a10 = _used(scratch, at1 + j * LANES, dp1 * u0, w10, a10, bound, clamped, attends)
                            w11, a11 = _used(scratch, at1 + j1 * LANES, dp1 * u1, w11, a11, bound, clamped, attends)
                        at0, at1 = dw_at + i * row, dw_at + i1 * row
                        _add_four(scratch, at0, at1, j * LANES, j1 * LANES, w00, w01, w10, w11)
                        if not attends:
                            _add_four(scratch, at0 + square, at1 + square, j * LANES, j1 * LANES, a00, a01, a10, a11)
            if dh0.size > 0:
                scatter(dh0, sample * H, H, count, scratch, dh_at, H)
            if dA0.size > 0:
                if attends:
                    for j in range(0, square, LANES):
                        store(scratch, d_at + j, splat(keep) * load(scratch, d_at + j))
                scatter(dA0, sample * H * H, H * H, count, scratch, d_at, H * H)
            if traced and dE0.size > 0:
                scatter(dE0, sample * H * H, H * H, count, scratch, d_at + trace_d, H * H)
        at = dgain_at + 2 * row
        store(scratch, at, dkeep)
        store(scratch, at + LANES, drate)
        store(scratch, at + 2 * LANES, dbias)
        for i in range(0, gradients.size, LANES):
            store(gradients, i, sum_each(scratch, dw_at + i * LANES))

    return run
