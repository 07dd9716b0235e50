"""What one step back does to a synapse and to a row; README.md has the derivation and the notation."""

from rllib_stpn.kernels.simd.compiling import compiled_part, inline
from rllib_stpn.kernels.simd.functions import bounded
from rllib_stpn.kernels.simd.vector import LANES, broadcast, load, splat, store, sum_each, where_inside
from rllib_stpn.kernels.stpn.normalizations import POST, PRE

OF_K, OF_H, OF_Q, OF_DS, OF_NU, OF_V, OF_LIMIT, OF_K_ON, OF_H_ON = range(9)
"""Where the numbers of a row and step are: k, h, q, ds, ν, v, the bound of E within which gradients pass, and the k and
h that the next step starts from, zero before a reset."""
SUMS = 10
"""Sums of each row: A and C of a step. Where two steps go in one pass: of the later one, then of the earlier one
for each term of ``two_steps.py``: dP', u, W, E."""


@inline
def row_scalars(values, at, kind):
    """Loads the numbers of a row and step that a step back needs."""
    return (
        broadcast(values, at + OF_K * kind),
        broadcast(values, at + OF_H * kind),
        broadcast(values, at + OF_Q * kind),
        broadcast(values, at + OF_DS * kind),
        broadcast(values, at + OF_NU * kind),
        broadcast(values, at + OF_V * kind),
        broadcast(values, at + OF_LIMIT * kind),
    )


@inline
def back(w, lam, gam, e, x, p, scalars, post):
    """One step back: what du and dW get, and dP of the step before. ``e`` is E before the step, ``p`` its dP."""
    k, h, q, ds, nu, v, limit = scalars
    g = w + e
    z = g
    if post:
        z = v * g
        g = w + q * e
    dg = ds * x + nu * g
    dw = dg
    if post:
        dw = dg + z
        dg = q * dg + z
    return gam * (p * h) + ds * g, dw, where_inside(e, limit, lam * (p * k) + dg)


@inline
def on_scalars(values, at, kind):
    """Loads the k and h of a row and step as they go on to the next step."""
    return broadcast(values, at + OF_K_ON * kind), broadcast(values, at + OF_H_ON * kind)


@inline
def replay(lam, gam, e, x, on, bound):
    """E after a step, from E before it."""
    return bounded(lam * on[0] * e + gam * on[1] * x, bound)


def _solve(earlier):
    @compiled_part
    def solve(
        saved, saved_at, values, at, step, kind, row_values, carry, dh_at, sums, sums_at, db, rows, rule, from_start
    ):
        # The numbers of a step's rows, from the gradients of its outputs and the sums over the rows; `earlier`: from
        # the sums of each term, and the numbers of the step after it.
        one, zero, stride = splat(1.0), splat(0.0), rows * LANES
        for i in range(0, rows, LANES):
            to, here, kept = sums_at + i * LANES, at + i, saved_at + i
            if earlier:
                later = here + step
                q, ds, nu, v = (
                    load(values, later + OF_Q * kind),
                    load(values, later + OF_DS * kind),
                    load(values, later + OF_NU * kind),
                    load(values, later + OF_V * kind),
                )
                qd, w, e = q * ds, q * nu + v, q * q * nu + v
                a = qd * sum_each(sums, to + 4 * stride) + sum_each(sums, to + 2 * stride)
                c = qd * sum_each(sums, to + 5 * stride) + sum_each(sums, to + 3 * stride)
                a = w * sum_each(sums, to + 6 * stride) + e * sum_each(sums, to + 8 * stride) + a
                c = w * sum_each(sums, to + 7 * stride) + e * sum_each(sums, to + 9 * stride) + c
            else:
                a, c = sum_each(sums, to), sum_each(sums, to + stride)
            inv, current = one, zero
            if rule != 0:
                inv, current = load(saved, kept), load(saved, kept + rows)
            k, h = load(values, here + OF_K * kind), load(values, here + OF_H * kind)
            dh = load(row_values, dh_at + i) + load(row_values, carry + i) + a
            dpre = dh * (one - h * h)
            q, nu, v = one, zero, zero
            dk = (c - h * a) / k
            if rule == PRE:
                nu = zero - (dpre * current + dk) * inv * inv * inv
            if rule == POST:
                q = k
                nu = zero - dpre * current * inv * inv * inv
                if not from_start:
                    dq = dk + dpre * inv * load(saved, kept + 3 * rows) + nu * load(saved, kept + 4 * rows)
                    v = zero - dq * q * q * q
            store(db, i, load(db, i) + dpre)
            store(values, here + OF_Q * kind, q)
            store(values, here + OF_DS * kind, dpre * inv)
            store(values, here + OF_NU * kind, nu)
            store(values, here + OF_V * kind, v)

    return solve


solve_step, solve_earlier = _solve(False), _solve(True)
