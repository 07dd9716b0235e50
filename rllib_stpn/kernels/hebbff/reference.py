"""HebbFF in plain torch: any device, any float type, gradients by autograd."""

import torch

from rllib_stpn.kernels.batched import add_outer, matvec


def hebbff_step(x, drive, A, keep, rate):
    """One step of HebbFF's hidden layer.

    Tyulmankov, Yang, Abbott, "Meta-learning synaptic plasticity and memory addressing for continual familiarity
    detection" (Neuron 2022).

    Args:
        x: ``[B, I]`` input of this step.
        drive: ``[B, H]``, ``W x + b``.
        A: ``[B, H, I]`` plastic weights.
        keep: ``[1]``, retention of A.
        rate: ``[1]``, rate of the Hebbian update; below zero it is anti-Hebbian.

    Returns:
        Outputs ``[B, H]``, the next A ``[B, H, I]``.
    """
    h = torch.sigmoid(drive + matvec(A, x))
    return h, add_outer(keep * A, rate * h, x)
