"""How many steps in front of a sequence may only bring the state up to it."""

from __future__ import annotations

from typing import Any

from rllib_stpn import checks
from rllib_stpn.errors import UsageError


def check_burn_in(where: str, steps: Any, length: int | None) -> int:
    """The number of steps, if a sequence has more: one without a step that counts teaches nothing, or never ends.

    Args:
        where: What they were given for.
        steps: What was given.
        length: That of sequences, ``max_seq_len``; None or 0 without memory.

    Raises:
        UsageError: No whole number of at least 0, or no less than ``length``.
    """
    checks.integer(where, steps, 0)
    if length and steps >= length:
        raise UsageError(f"{where}: got {steps}, allowed is less than max_seq_len, {length}")
    return steps
