"""The result of one episode."""

import dataclasses


@dataclasses.dataclass
class Episode:
    """One episode: the seed of its reset, its return, its length in steps and the energy of choosing its actions."""

    seed: int
    reward: float = 0.0  # summed: the return
    length: int = 0
    energy: float = 0.0
