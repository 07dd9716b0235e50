"""Energy of a step on analog in-memory hardware."""

import contextlib
import threading
from collections.abc import Iterator

import torch

_wanted = threading.local()


@contextlib.contextmanager
def only_sums() -> Iterator[None]:
    """Within, :func:`energy` is right in its sum over units alone, which spares a product with a shared efficacy.

    Every unit then has the mean. Holds for the current thread.
    """
    before = getattr(_wanted, "only_sums", False)
    _wanted.only_sums = True
    try:
        yield
    finally:
        _wanted.only_sums = before


def energy(efficacy: torch.Tensor, presynaptic: torch.Tensor) -> torch.Tensor:
    """Energy per unit of driving ``efficacy`` with the activations ``presynaptic``.

    Input activation is a voltage and synaptic efficacy a conductance, so a synapse spends ``V² |G|`` and unit ``i``
    the sum of that over its row: ``Σ_j |G_ij| u_j²`` (Garcia Rodriguez, Guo, Moraitis, "Short-Term Plasticity
    Neurons Learning to Learn and Forget", ICML 2022, section on energy). Biases and the plasticity update are not
    counted. It is a measurement: no gradient flows through it.

    Args:
        efficacy: ``[units, D]``, or ``[B, units, D]`` where each sample has its own.
        presynaptic: ``[..., D]`` for a shared efficacy, ``[B, D]`` for one per sample.

    Returns:
        ``[..., units]``.
    """
    efficacy, power = efficacy.detach(), presynaptic.detach().square()
    if efficacy.dim() == 3:
        return torch.einsum("bhd,bd->bh", efficacy.abs(), power)
    if getattr(_wanted, "only_sums", False):
        mean = power @ efficacy.abs().sum(0) / len(efficacy)
        return mean[..., None].expand(*mean.shape, len(efficacy))
    return power @ efficacy.abs().T
