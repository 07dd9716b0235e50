"""Other random numbers for the same tests: what holds with one seed only is luck."""

import numpy as np
import torch


def shift_seeds(by: int) -> None:
    """Adds ``by`` to every whole number that seeds torch, numpy or an environment in this process."""
    Shifted.by = by
    default_rng, manual_seed = np.random.default_rng, torch.manual_seed
    np.random.SeedSequence = SeedSequence  # also what gymnasium seeds environments with
    np.random.default_rng = lambda seed=None: default_rng(shifted(seed))
    torch.Generator = Generator
    torch.manual_seed = lambda seed: manual_seed(shifted(seed))


class Shifted(int):
    """A seed that is shifted already: a sequence hands its own to those that it spawns."""

    by = 0


def shifted(seed):
    return Shifted(seed + Shifted.by) if type(seed) is int else seed


class SeedSequence(np.random.SeedSequence):
    def __init__(self, entropy=None, **options):
        super().__init__(shifted(entropy), **options)


class Generator(torch.Generator):
    def manual_seed(self, seed):
        return super().manual_seed(shifted(seed))
