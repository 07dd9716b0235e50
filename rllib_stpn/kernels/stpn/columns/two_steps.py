"""Two steps back in one pass over the weights, for layers whose weights do not stay in the second-level cache.

A step back begins with A = Σ dP Γ u and C = Σ dP E over each row. These need dP of all columns, and dP needs ds and ν
of the step after: a pass over the weights and their gradients for each step. But dP is linear in these (README.md):

    dP = M (Λ k dP' + q ds u + (q ν + v) W + (q² ν + v) E)        M: 1 where the clamp of E did not hold, else 0

where dP' is that of the step after. So a pass also takes the sums A and C of each of the four terms for the step
before, without their factors. Once the factors are known, so are A and C, and the next pass takes two steps at once: a
chunk.
"""

from rllib_stpn.kernels.simd.compiling import compiled_part, inline
from rllib_stpn.kernels.simd.vector import LANES, broadcast, load, splat, store, where_inside
from rllib_stpn.kernels.stpn.columns.step_back import OF_K, OF_LIMIT, SUMS, back, on_scalars, replay, row_scalars
from rllib_stpn.kernels.stpn.columns.weights import load_weights


@inline
def _scalars_of_sums(values, at, step, kind):
    later = at + step
    return (
        *on_scalars(values, at, kind),
        broadcast(values, later + OF_K * kind),
        broadcast(values, later + OF_LIMIT * kind),
    )


@inline
def _sum_up(vectors, e, after, p, x, y, scalars, bound, sums):
    # The sums over a chunk of two steps: `e` is E before it, `after` E after it, `x` and `y` are its inputs.
    (w, lam, gam), (k_on, h_on, k, limit), (a, c, ap, cp, ax, cx, aw, cw, ae, ce) = vectors, scalars, sums
    e = replay(lam, gam, e, x, (k_on, h_on), bound)
    a, c = gam * y * p + a, p * after + c
    p = lam * (p * k)
    past, inside = where_inside(e, limit, gam * x), where_inside(e, limit, e)
    ap, ax, aw, ae = past * p + ap, past * y + ax, past * w + aw, past * e + ae
    cp, cx, cw, ce = inside * p + cp, inside * y + cx, inside * w + cw, inside * e + ce
    return a, c, ap, cp, ax, cx, aw, cw, ae, ce


@inline
def store_sums(sums, at, stride, totals):
    """Stores the sums of a row."""
    a, c, ap, cp, ax, cx, aw, cw, ae, ce = totals
    store(sums, at, a)
    store(sums, at + stride, c)
    store(sums, at + 2 * stride, ap)
    store(sums, at + 3 * stride, cp)
    store(sums, at + 4 * stride, ax)
    store(sums, at + 5 * stride, cx)
    store(sums, at + 6 * stride, aw)
    store(sums, at + 7 * stride, cw)
    store(sums, at + 8 * stride, ae)
    store(sums, at + 9 * stride, ce)


def _pass(pair, post):
    @inline
    def vector(
        vectors, gradients, E, at, before, dP, dp_at, u, slot, past, u_step, du, du_at, du_step, scalars, sums, bound,
    ):  # fmt: skip
        (w, lam, gam), (dw, dlam, dgam), (on, of_later, of_earlier, of_sums) = vectors, gradients, scalars
        e, p, x, y = load(E, at), load(dP, dp_at), load(u, slot), load(u, slot + u_step)
        e_later = replay(lam, gam, e, x, on, bound)
        d, d_w, p_later = back(w, lam, gam, e_later, y, p, of_later, post)
        store(du, du_at + du_step, d + load(du, du_at + du_step))
        dw, dlam, dgam = dw + d_w, p * of_later[0] * e_later + dlam, p * of_later[1] * y + dgam
        d, d_w, p = back(w, lam, gam, e, x, p_later, of_earlier, post)
        store(du, du_at, d + load(du, du_at))
        dw, dlam, dgam = dw + d_w, p_later * of_earlier[0] * e + dlam, p_later * of_earlier[1] * x + dgam
        store(dP, dp_at, p)
        x, y = load(u, past), load(u, past + u_step)
        return (dw, dlam, dgam), _sum_up(vectors, load(E, before), e, p, x, y, of_sums, bound, sums)

    @inline
    def scalars_of(values, chunk, before, step, kind):
        return (
            on_scalars(values, chunk, kind),
            row_scalars(values, chunk + step, kind),
            row_scalars(values, chunk, kind),
            _scalars_of_sums(values, before, step, kind),
        )

    @compiled_part
    def both(
        weights, gradients, E, at, before, dP, dp_at, u, slot, past, u_step, du, du_at, du_step,
        values, chunk, earlier, step, kind, sums, sums_at, rows, n, room, padded, bound,
    ):  # fmt: skip
        # Through the chunk of two steps whose numbers are known, and the sums over the one before it; of one sample or,
        # with `pair`, of two, which share the loads and stores of the weights.
        stride = padded * LANES
        for i in range(rows):
            o = splat(0.0)
            sums_of_one = o, o, o, o, o, o, o, o, o, o
            one = scalars_of(values, chunk + i, earlier + i, step, kind)
            two, sums_of_two = one, sums_of_one
            if pair:
                two = scalars_of(values, chunk + padded + i, earlier + padded + i, step, kind)
            for j in range(0, n, LANES):
                row = i * n + j
                vectors, sum_ = load_weights(weights, 3 * row), load_weights(gradients, 3 * row)
                sum_, sums_of_one = vector(
                    vectors, sum_, E, at + row, before + row, dP, dp_at + row, u, slot + j, past + j, u_step,
                    du, du_at + j, du_step, one, sums_of_one, bound,
                )  # fmt: skip
                if pair:
                    sum_, sums_of_two = vector(
                        vectors, sum_, E, at + room + row, before + room + row, dP, dp_at + room + row,
                        u, slot + n + j, past + n + j, u_step, du, du_at + n + j, du_step, two, sums_of_two, bound,
                    )  # fmt: skip
                store(gradients, 3 * row, sum_[0])
                store(gradients, 3 * row + LANES, sum_[1])
                store(gradients, 3 * row + 2 * LANES, sum_[2])
            to = sums_at + i * LANES
            store_sums(sums, to, stride, sums_of_one)
            if pair:
                store_sums(sums, to + SUMS * stride, stride, sums_of_two)

    return both


both_of_one, both_of_two = _pass(False, False), _pass(True, False)
both_of_one_post, both_of_two_post = _pass(False, True), _pass(True, True)


@compiled_part
def measure(
    weights, E, at, dP, dp_at, u, slot, u_step, values, chunk, step, kind, sums, sums_at, rows, n, padded, bound
):
    """The sums over the last chunk of a segment, of one sample."""
    for i in range(rows):
        o, here = splat(0.0), chunk + i
        totals = o, o, o, o, o, o, o, o, o, o
        of_sums, on = _scalars_of_sums(values, here, step, kind), on_scalars(values, here + step, kind)
        for j in range(0, n, LANES):
            row = i * n + j
            vectors, e = load_weights(weights, 3 * row), load(E, at + row)
            x, y = load(u, slot + j), load(u, slot + u_step + j)
            _, lam, gam = vectors
            after = replay(lam, gam, e, x, (of_sums[0], of_sums[1]), bound)
            after = replay(lam, gam, after, y, on, bound)
            totals = _sum_up(vectors, e, after, load(dP, dp_at + row), x, y, of_sums, bound, totals)
        store_sums(sums, sums_at + i * LANES, padded * LANES, totals)


def _outputs(later, post):
    @compiled_part
    def outputs(
        weights, E, at, dP, dp_at, u, slot, u_step, du, du_at, values, chunk, step, kind, rows, n, inputs, bound
    ):
        # The gradient of the previous outputs, in columns `inputs` on, of a chunk's later step or of its earlier one.
        for i in range(rows):
            for j in range(inputs, n, LANES):
                row = i * n + j
                (w, lam, gam), e, x = load_weights(weights, 3 * row), load(E, at + row), load(u, slot + j)
                on, y = on_scalars(values, chunk + i, kind), load(u, slot + u_step + j)
                e_later = replay(lam, gam, e, x, on, bound)
                scalars = row_scalars(values, chunk + step + i, kind)
                d, _, p = back(w, lam, gam, e_later, y, load(dP, dp_at + row), scalars, post)
                if not later:
                    d, _, _ = back(w, lam, gam, e, x, p, row_scalars(values, chunk + i, kind), post)
                store(du, du_at + j, d + load(du, du_at + j))

    return outputs


outputs_of_later, outputs_of_earlier = _outputs(True, False), _outputs(False, False)
outputs_of_later_post, outputs_of_earlier_post = _outputs(True, True), _outputs(False, True)
