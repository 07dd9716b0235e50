"""Energy of a step on analog in-memory hardware."""

import contextlib
import functools
import threading
import weakref
from collections.abc import Iterator

import numpy as np
import torch

_wanted = threading.local()


@contextlib.contextmanager
def only_sums() -> Iterator[None]:
    """Within, :func:`synaptic_energy` gives every unit the mean over the units, so that only their sum is right.

    This spares a product with a shared efficacy. Holds for the current thread.
    """
    before = getattr(_wanted, "only_sums", False)
    _wanted.only_sums = True
    try:
        yield
    finally:
        _wanted.only_sums = before


def synaptic_energy(efficacy: torch.Tensor, presynaptic: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
    """Energy per unit of driving ``efficacy`` with the activations ``presynaptic``.

    Input activation is a voltage and synaptic efficacy a conductance, so a synapse spends ``V² |G|`` and unit ``i``
    the sum of that over its row: ``Σ_j |G_ij| u_j²`` (Garcia Rodriguez, Guo, Moraitis, "Short-Term Plasticity
    Neurons Learning to Learn and Forget", ICML 2022, section on energy). Biases and the plasticity update are not
    counted. It is a measurement: no gradient flows through it.

    Args:
        efficacy: ``[units, D]``, or ``[B, units, D]`` where each sample has its own.
        presynaptic: ``[..., D]`` for a shared efficacy, ``[B, D]`` for one per sample.
        more: Shared efficacies of the same units and what drives them, in turn.

    Returns:
        ``[..., units]``.
    """
    if efficacy.dim() == 3:
        return torch.einsum("bhd,bd->bh", efficacy.detach().abs(), presynaptic.detach().square())
    pairs = zip((efficacy, *more[::2]), (presynaptic, *more[1::2]), strict=True)
    if getattr(_wanted, "only_sums", False):
        mean = functools.reduce(np.add, (_squared(u) @ _mean_row(G) for G, u in pairs))
        shape = presynaptic.shape[:-1]
        return torch.from_numpy(mean).to(efficacy.device).view(*shape, 1).expand(*shape, len(efficacy))
    return functools.reduce(torch.add, (u.detach().square() @ G.detach().abs().T for G, u in pairs))


def _squared(presynaptic: torch.Tensor) -> np.ndarray:
    # In numpy, whose calls take less time than torch's: that is all that products of this size cost.
    u = presynaptic.numpy(force=True).reshape(-1, presynaptic.shape[-1])
    return u * u


# By the id of a tensor: itself, its contents' version and place, the mean.
_mean_rows: dict[int, tuple[weakref.ref, tuple[int, int], np.ndarray]] = {}


def _mean_row(efficacy: torch.Tensor) -> np.ndarray:
    """The mean of ``|efficacy|`` over units, computed again only where it has changed, as weights seldom do."""
    key = id(efficacy)
    kept = _mean_rows.get(key)
    state = efficacy._version, efficacy.data_ptr()
    if kept is None or kept[0]() is not efficacy or kept[1] != state:
        row = efficacy.detach().abs().mean(0).numpy(force=True)
        kept = _mean_rows[key] = weakref.ref(efficacy, lambda _: _mean_rows.pop(key, None)), state, row
    return kept[2]
