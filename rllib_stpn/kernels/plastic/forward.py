"""The forward loops of the plastic rules: sixteen samples side by side in one vector.

README.md has the derivation and the notation. ``forward_loops`` and ``backward_loops`` compile the loops of
one rule. The rule is constant within them, so that what it does not need costs nothing. Arrays are flat float32, empty
where a rule or a call has none; ``saved`` and ``scratch`` are in lanes, of the sizes that ``layout.py`` tells. The last
group of a batch may have lanes without a sample: these hold zeros. Rows of a matrix go in pairs, which share what is
loaded per column. Of an odd number the last row is its own partner, and nothing is added up for the partner.
"""

import functools

from rllib_stpn.kernels.plastic.layer_norm import normalize
from rllib_stpn.kernels.plastic.layout import CLAMP, CLAMPED, INFINITY, MODULATED
from rllib_stpn.kernels.plastic.synapses import update_synapse
from rllib_stpn.kernels.simd.compiling import compiled
from rllib_stpn.kernels.simd.copying import add_to, episode_begins, fill, gather, scatter
from rllib_stpn.kernels.simd.functions import tanh
from rllib_stpn.kernels.simd.vector import LANES, absolute, broadcast, load, splat, store, where_inside


@functools.cache
def forward_loops(rule: str, energy: bool):
    """The compiled loops of a rule, with or without the measurement of energy.

    They write outputs, final A and E, and what ``saved`` and ``spent`` have room for, of groups ``first_group`` to
    ``last_group``.
    """
    traced, modulated, clamped = rule == "retroactive", rule in MODULATED, rule in CLAMPED
    oja, attends = rule == "oja", rule == "fast_weights"
    lag = 0 if attends else 1  # the update into A_t is that of step t - lag

    # fmt: off
    @compiled("fbfff" "fffff" "ffffff" "iiiii" "sss")
    def run(
        drive, first, h0, A0, E0,
        weight, alpha, modulator, gain, shift,
        out, A, E, spent, saved, scratch,
        first_group, last_group, batch, steps, H,
        keep, rate, bias_m,
    ):
        # fmt: on
        zero, one, half = splat(0.0), splat(1.0), splat(0.5)
        row, trace = H * LANES, (H + 1) * H * LANES
        v_at = (2 if traced else 1) * trace
        h_at = v_at + 2 * row
        p_at, s_at, z_at = h_at + row, h_at + 2 * row, h_at + 3 * row
        spent_at, began_at = h_at + 4 * row, h_at + 5 * row
        kinds = (4 * H + 2 if attends else H + 1) * LANES
        blank = not attends and h0.size == 0 and A0.size == 0 and E0.size == 0
        for g in range(first_group, last_group):
            sample = g * LANES
            count = min(LANES, batch - sample)
            fill(scratch, v_at, (began_at - v_at) // LANES + 1, zero)
            if count < LANES or A0.size == 0:
                fill(scratch, 0, v_at // LANES, zero)
            if A0.size > 0:
                gather(scratch, 0, H * H, A0, sample * H * H, H * H, count)
            if traced and E0.size > 0:
                gather(scratch, trace, H * H, E0, sample * H * H, H * H, count)
            if h0.size > 0:
                gather(scratch, h_at, H, h0, sample * H, H, count)
            m = zero
            for t in range(steps + lag):
                began = episode_begins(scratch, began_at, first, sample, steps, t, count)
                now, before = v_at + (t & 1) * row, v_at + (1 - (t & 1)) * row
                to = (g * steps + t) * kinds
                if t < steps:
                    gather(scratch, p_at, H, drive, (sample * steps + t) * H, steps * H, count)
                    for i in range(0, row, LANES):
                        store(scratch, now + i, where_inside(began, half, load(scratch, h_at + i)))
                read, pre, post_at = now, before, h_at
                if attends:
                    read, pre, post_at = s_at, now, now
                    for i in range(0, H, 2):
                        i1 = min(i + 1, H - 1)
                        p0, p1 = load(scratch, p_at + i * LANES), load(scratch, p_at + i1 * LANES)
                        e0, e1 = zero, zero
                        for j in range(H):
                            w0, w1 = broadcast(weight, i * H + j), broadcast(weight, i1 * H + j)
                            v = load(scratch, now + j * LANES)
                            p0 = w0 * v + p0
                            p1 = w1 * v + p1
                            if energy:
                                e0 = absolute(w0) * (v * v) + e0
                                e1 = absolute(w1) * (v * v) + e1
                        store(scratch, p_at + i * LANES, p0)
                        store(scratch, p_at + i1 * LANES, p1)
                        store(scratch, spent_at + i * LANES, e0)
                        store(scratch, spent_at + i1 * LANES, e1)
                    r = normalize(scratch, p_at, z_at, H)
                    for i in range(H):
                        z = load(scratch, z_at + i * LANES)
                        s = tanh(broadcast(gain, i) * z + broadcast(shift, i))
                        store(scratch, s_at + i * LANES, s)
                        if saved.size > 0:
                            store(saved, to + row + i * LANES, s)
                            store(saved, to + 2 * row + i * LANES, z)
                    if saved.size > 0:
                        store(saved, to + 4 * row, r)
                # The first A is given, not made by an update, and may lie beyond the clamp.
                kappa, eta, bound = splat(keep), splat(rate), splat(CLAMP)
                if t < lag:
                    kappa, eta, bound = one, zero, splat(INFINITY)
                kappa0, kappa1 = kappa, kappa
                for i in range(0, 0 if blank and t == 0 else H, 2):  # zeros that zeros drive stay zeros
                    i1 = min(i + 1, H - 1)
                    post0, post1 = load(scratch, post_at + i * LANES), load(scratch, post_at + i1 * LANES)
                    by = m if modulated and not traced else eta
                    rho0, rho1 = by * post0, by * post1
                    if oja:
                        kappa0, kappa1 = one - rho0 * post0, one - rho1 * post1
                    y0, y1, e0, e1 = zero, zero, zero, zero
                    for j in range(H):
                        at, at_j = (i * H + j) * LANES, j * LANES
                        v, u = load(scratch, pre + at_j), load(scratch, read + at_j)
                        G0 = update_synapse(
                            scratch, at, at, trace, v, m, rho0, kappa0, began, bound, clamped, traced, False
                        )
                        at = at + row
                        G1 = update_synapse(
                            scratch, at, at, trace, v, m, rho1, kappa1, began, bound, clamped, traced, False
                        )
                        if not attends:
                            G0 = broadcast(alpha, i * H + j) * G0 + broadcast(weight, i * H + j)
                            G1 = broadcast(alpha, i1 * H + j) * G1 + broadcast(weight, i1 * H + j)
                        y0 = G0 * u + y0
                        y1 = G1 * u + y1
                        if energy:
                            e0 = absolute(G0) * (u * u) + e0
                            e1 = absolute(G1) * (u * u) + e1
                    if t < steps:
                        add_to(scratch, p_at + i * LANES, y0)
                        add_to(scratch, spent_at + i * LANES, e0)
                        if i1 > i:
                            add_to(scratch, p_at + i1 * LANES, y1)
                            add_to(scratch, spent_at + i1 * LANES, e1)
                if t < steps:
                    if attends:
                        r = normalize(scratch, p_at, z_at, H)
                        if saved.size > 0:
                            store(saved, to + 4 * row + LANES, r)
                    m = splat(bias_m)
                    for i in range(H):
                        at = i * LANES
                        p = load(scratch, p_at + at)
                        if attends:
                            z = load(scratch, z_at + at)
                            h = tanh(broadcast(gain, i) * z + broadcast(shift, i))
                            if saved.size > 0:
                                store(saved, to + 3 * row + at, z)
                        else:
                            h = tanh(p)
                        if modulated:
                            m = broadcast(modulator, i) * h + m
                        store(scratch, h_at + at, h)
                        if saved.size > 0:
                            store(saved, to + at, h)
                    if modulated:
                        m = tanh(m)
                        if saved.size > 0:
                            store(saved, to + row, m)
                    scatter(out, (sample * steps + t) * H, steps * H, count, scratch, h_at, H)
                    if energy:
                        scatter(spent, (sample * steps + t) * H, steps * H, count, scratch, spent_at, H)
                        fill(scratch, spent_at, H, zero)
            scatter(A, sample * H * H, H * H, count, scratch, 0, H * H)
            if traced:
                scatter(E, sample * H * H, H * H, count, scratch, trace, H * H)

    return run
