"""Random actions of any space that the environments here have."""

from gymnasium import spaces


def some_actions(space, rng, count):
    """Return `count` actions in an array ``[count, ...]``."""
    if isinstance(space, spaces.Box):
        return rng.uniform(space.low, space.high, (count, *space.shape)).astype(space.dtype)
    if isinstance(space, spaces.MultiDiscrete):
        return rng.integers(space.nvec, size=(count, *space.shape))
    return rng.integers(space.n, size=count)
