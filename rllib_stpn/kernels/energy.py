"""Energy of a step on analog in-memory hardware."""

import torch


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
    magnitude, power = efficacy.detach().abs(), presynaptic.detach().square()
    if efficacy.dim() == 2:
        return power @ magnitude.T
    return torch.einsum("bhd,bd->bh", magnitude, power)
