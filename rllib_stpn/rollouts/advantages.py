"""Generalised advantage estimation over a fragment, all environments at once."""

from __future__ import annotations

import numpy as np


def generalized_advantages(
    rewards: np.ndarray,
    values: np.ndarray,
    next_values: np.ndarray,
    episode_ends: np.ndarray,
    gamma: float,
    lambda_: float,
) -> np.ndarray:
    """Returns the advantages ``[B, T]`` (Schulman et al. 2016, equation 16).

    Args:
        rewards: ``[B, T]``.
        values: ``[B, T]``, V(s_t).
        next_values: ``[B, T]``, V(s_{t+1}) as the return continues after step t: 0 after a termination, the value
            of the final observation after a truncation.
        episode_ends: ``[B, T]`` bool, True at an episode's last step: no later reward reaches back over it.
        gamma: Discount factor per step.
        lambda_: 1 gives Monte-Carlo returns with a bootstrap at the fragment's end, 0 one-step differences.
    """
    deltas = rewards + gamma * next_values - values
    decay = gamma * lambda_ * ~episode_ends
    advantages = np.empty_like(deltas)
    running = np.zeros_like(deltas[:, 0])
    for t in reversed(range(deltas.shape[1])):
        running = deltas[:, t] + decay[:, t] * running
        advantages[:, t] = running
    return advantages
