"""One step of each plastic rule in plain torch: any device, any float type, gradients by autograd.

``pre`` ``[B, H]`` are the outputs before the step, ``post`` ``[B, H]`` those after it, and A and E ``[B, H, H]`` the
plastic matrices, one row per postsynaptic unit. :class:`~rllib_stpn.kernels.plastic.Plasticity` has the equations, and
the layers the papers.
"""

import torch

from rllib_stpn.kernels.batched import add_outer


def additive(A, post, pre, rate, clamp=1.0):
    """The next A, bounded by ``clamp``; ``rate`` is ``[1]``, or where it is modulated ``[B, 1]`` or ``[B, H]``."""
    return add_outer(A, rate * post, pre).clamp(-clamp, clamp)


def decaying(A, post, pre, rate, keep):
    """The next A; ``keep`` is its retention, as ``rate`` a number or ``[1]``."""
    return add_outer(keep * A, rate * post, pre)


def oja(A, post, pre, rate):
    """The next A, whose rows Oja's rule keeps bounded."""
    moved = rate * post
    return add_outer((1 - (moved * post)[:, :, None]) * A, moved, pre)


def retroactive(A, E, post, pre, modulation, rate, keep, clamp=1.0):
    """The next A, which takes ``modulation`` ``[B, 1]`` or ``[B, H]`` times the old trace, and the next trace E."""
    return torch.addcmul(A, modulation[:, :, None], E).clamp(-clamp, clamp), decaying(E, post, pre, rate, keep)
