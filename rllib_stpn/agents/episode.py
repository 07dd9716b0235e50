"""The result of one episode."""

import dataclasses
from typing import Any


@dataclasses.dataclass
class Episode:
    """One episode: the seed of its reset, its return, its length in steps and the energy of choosing its actions."""

    seed: int
    reward: float = 0.0  # summed: the return
    length: int = 0
    energy: float = 0.0

    def as_dict(self, energy: bool) -> dict[str, Any]:
        """As it stands in the JSON file."""
        told = {"seed": self.seed, "return": self.reward, "length": self.length}
        return told | ({"energy": self.energy} if energy else {})
