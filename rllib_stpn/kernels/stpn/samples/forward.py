"""The forward loop over samples; README.md has the derivation and the notation.

Rows of a small layer are a few vectors long, so that the loops over columns spend their time on what surrounds them.
Here lane ``l`` of every vector belongs to sample ``l`` of a group of sixteen: a row may have any length, and nothing is
added up across lanes. The mathematics and the names are the same.

Arrays are flat float32, laid out as in torch except for ``scratch``, ``saved`` and ``gradients``, which have the lanes
innermost. The last group of a batch may have lanes without a sample: these hold zeros.
"""

import numpy as np

from rllib_stpn.kernels.simd.compiling import compiled, compiled_part
from rllib_stpn.kernels.simd.copying import clear, episode_begins, gather, scatter
from rllib_stpn.kernels.simd.functions import bounded, tanh
from rllib_stpn.kernels.simd.vector import LANES, at_least, broadcast, load, splat, square_root, store, where_inside
from rllib_stpn.kernels.stpn.normalizations import NORM_OFFSET, POST, PRE
from rllib_stpn.kernels.stpn.row_sums import load_sums, store_sums


def _update(post, plain):
    # Compiled on its own for each choice, as are the loops in backward.py: inlined among others it would be slower.
    # `plain` is without clamp and without episodes that begin in the sequence.
    @compiled_part
    def update(W, L, M, scratch, before, now, h_at, k_at, sums_at, began_at, H, D, t, bound):
        # E := clamp(L k E + M h u_before), and the sums over the result for the coming step.
        zero, half, began = splat(0.0), splat(0.5), load(scratch, began_at)
        for i in range(H):
            k, h = load(scratch, k_at + i * LANES), load(scratch, h_at + i * LANES)
            gg, gu, wg, wu = zero, zero, zero, zero
            for j in range(D):
                at_w = i * D + j
                w, e = broadcast(W, at_w), load(scratch, at_w * LANES)
                if t > 0:
                    e = broadcast(L, at_w) * k * e + broadcast(M, at_w) * h * load(scratch, before + j * LANES)
                    if not plain:
                        e = bounded(e, bound)
                if not plain:
                    e = where_inside(began, half, e)
                store(scratch, at_w * LANES, e)
                y, v = w + e, load(scratch, now + j * LANES)
                gg, gu = y * y + gg, y * v + gu
                if post:
                    wg, wu = w * y + wg, w * v + wu
            to = sums_at + 4 * i * LANES
            store_sums(scratch, to, LANES, (gg, gu, wg, wu))

    return update


_update_full, _update_plain = _update(False, False), _update(False, True)
_update_post, _update_post_plain = _update(True, False), _update(True, True)


# fmt: off
@compiled("fbfffffffffffiiiiiiiis")
def run(
    x, first, h0, F0,
    W, L, M, bias, WW,
    F, out, saved, scratch,
    first_group, last_group, batch, steps, input_size, hidden_size, D, rule,
    clamp,
):
    # fmt: on
    """Runs the layer: writes outputs, the final F and, where ``saved`` is not empty, what backward needs.

    ``first`` [B, T], ``h0`` [B, H] and ``F0`` [B, H, D] may be empty; ``W``, ``L`` (Λ) and ``M``
    (Γ) are [H, D], ``WW`` [H] sums of W². ``saved`` [groups, T, 3 or 6, H, 16]. ``scratch`` holds (H D + 2 D + 8 H + 1)
    vectors: E, u now and before, per row h, k, q and the new h, where episodes begin, and per row four sums.
    """
    H = hidden_size
    bound, one, offset, half = splat(clamp), splat(1.0), splat(NORM_OFFSET), splat(0.5)
    post = rule == POST
    kinds = 6 if post else 3
    u_at = H * D * LANES
    h_at = u_at + 2 * D * LANES
    k_at, q_at, new_at = h_at + H * LANES, h_at + 2 * H * LANES, h_at + 3 * H * LANES
    began_at = h_at + 4 * H * LANES
    sums_at = began_at + LANES
    plain = first.size == 0 and clamp == np.inf
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
            part = (W, L, M, scratch, before, now, h_at, k_at, sums_at, began_at, H, D, t, bound)
            if post and plain:
                _update_post_plain(*part)
            elif post:
                _update_post(*part)
            elif plain:
                _update_plain(*part)
            else:
                _update_full(*part)
            for i in range(H):
                gg, gu, wg, wu = load_sums(scratch, sums_at + 4 * i * LANES, LANES)
                q, ue, ge, current = one, one, one, gu
                if post:
                    ww = broadcast(WW, i)
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
                    output = tanh(current * inv + broadcast(bias, i))
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
