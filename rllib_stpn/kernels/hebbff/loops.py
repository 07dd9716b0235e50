"""The loops of HebbFF's attention to its outputs, for CPUs: sixteen samples side by side in one vector.

Step t recalls output s by the weight ``w_ts = ages_ts x_t·x_s``, with s < t and no reset since.
"""

from rllib_stpn.kernels.simd.compiling import compiled, inline
from rllib_stpn.kernels.simd.copying import add_to, episode_begins, fill, gather, scatter
from rllib_stpn.kernels.simd.functions import sigmoid
from rllib_stpn.kernels.simd.vector import LANES, broadcast, load, splat, store, sum_each, where_inside


def forward_vectors(steps: int, D: int, H: int) -> int:
    """Vectors of scratch memory: x, h at all steps; where episodes begin."""
    return steps * (D + H) + 1


def backward_vectors(steps: int, D: int, H: int) -> int:
    """Vectors of scratch memory: x, h and the gradients of both at all steps; where episodes begin; sums for ages."""
    return 2 * steps * (D + H) + 1 + gradients(steps)


def gradients(steps: int) -> int:
    """Elements of the gradient of ages, filled up to whole vectors."""
    return -(-(steps + 1) * steps // LANES) * LANES


@inline
def _product(lanes, a, b, n):
    total = splat(0.0)
    for j in range(0, n * LANES, LANES):
        total = load(lanes, a + j) * load(lanes, b + j) + total
    return total


@compiled("fbfff" "f" "iiiiii")  # fmt: skip
def forward(x, first, drive, ages, out, scratch, first_group, last_group, batch, steps, D, H):
    """Writes the outputs of groups ``first_group`` to ``last_group``."""
    half, row, line = splat(0.5), H * LANES, D * LANES
    h_at = steps * line
    began_at = h_at + steps * row
    for g in range(first_group, last_group):
        sample = g * LANES
        count = min(LANES, batch - sample)
        fill(scratch, 0, began_at // LANES + 1, splat(0.0))
        for t in range(steps):
            gather(scratch, t * line, D, x, (sample * steps + t) * D, steps * D, count)
            gather(scratch, h_at + t * row, H, drive, (sample * steps + t) * H, steps * H, count)
        for t in range(steps):
            to = h_at + t * row
            began = splat(0.0)
            for s in range(t - 1, -1, -1):
                began = began + episode_begins(scratch, began_at, first, sample, steps, s + 1, count)
                w = broadcast(ages, t * steps + s) * _product(scratch, t * line, s * line, D)
                for i in range(0, row, LANES):
                    add_to(scratch, to + i, where_inside(began, half, w * load(scratch, h_at + s * row + i)))
            for i in range(0, row, LANES):
                store(scratch, to + i, sigmoid(load(scratch, to + i)))
            scatter(out, (sample * steps + t) * H, steps * H, count, scratch, to, H)


@compiled("fbfff" "ffff" "iiiiii")  # fmt: skip
def backward(
    x, first, ages, out, dout, dx, ddrive, dages, scratch, first_group, last_group, batch, steps, D, H
):  # fmt: skip
    """Writes the gradients of x and drive, and the sums over its groups of those of ages."""
    zero, one, half, row, line = splat(0.0), splat(1.0), splat(0.5), H * LANES, D * LANES
    h_at = steps * line
    dx_at = h_at + steps * row
    dh_at = dx_at + steps * line
    began_at = dh_at + steps * row
    sums_at = began_at + LANES
    fill(scratch, sums_at, dages.size, zero)
    for g in range(first_group, last_group):
        sample = g * LANES
        count = min(LANES, batch - sample)
        fill(scratch, 0, sums_at // LANES, zero)
        for t in range(steps):
            at = sample * steps + t
            gather(scratch, t * line, D, x, at * D, steps * D, count)
            gather(scratch, h_at + t * row, H, out, at * H, steps * H, count)
            gather(scratch, dh_at + t * row, H, dout, at * H, steps * H, count)
        for t in range(steps - 1, -1, -1):
            to = dh_at + t * row
            for i in range(0, row, LANES):
                h = load(scratch, h_at + t * row + i)
                store(scratch, to + i, load(scratch, to + i) * (h * (one - h)))
            scatter(ddrive, (sample * steps + t) * H, steps * H, count, scratch, to, H)
            began = zero
            for s in range(t - 1, -1, -1):
                began = began + episode_begins(scratch, began_at, first, sample, steps, s + 1, count)
                age, product = broadcast(ages, t * steps + s), _product(scratch, t * line, s * line, D)
                w = where_inside(began, half, age * product)
                dw = where_inside(began, half, _product(scratch, to, h_at + s * row, H))
                add_to(scratch, sums_at + (t * steps + s) * LANES, dw * product)
                for i in range(0, row, LANES):
                    add_to(scratch, dh_at + s * row + i, w * load(scratch, to + i))
                dw = age * dw
                for j in range(0, line, LANES):
                    add_to(scratch, dx_at + t * line + j, dw * load(scratch, s * line + j))
                    add_to(scratch, dx_at + s * line + j, dw * load(scratch, t * line + j))
        for t in range(steps):
            scatter(dx, (sample * steps + t) * D, steps * D, count, scratch, dx_at + t * line, D)
    for i in range(0, dages.size, LANES):
        store(dages, i, sum_each(scratch, sums_at + i * LANES))
