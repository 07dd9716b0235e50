"""The ranges outside which a setting makes no sense, where RLlib itself takes any number."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from rllib_stpn import checks
from rllib_stpn.errors import UsageError, did_you_mean, unknown

#: Factors of discounting and averaging: from 0 to 1.
_SHARES = {"gamma", "lambda_", "gae_lambda", "tau", "decay", "momentum", "expectile"}
_ABOVE_ZERO = {"clip_param", "kl_target", "adam_epsilon"}
_FROM_ZERO = {"lr", "beta", "epsilon", "entropy_scale", "grad_clip", "initial_alpha", "vf_clip_param"}
_FROM_ZERO_BY_ENDING = ("_lr", "_coeff", "_s")
#: Settings that ``.inf`` switches off.
_MAY_BE_INFINITE = ("clip", "threshold", "_s")
#: Settings of which RLlib takes schedules.
_SCHEDULES = ("lr", "entropy_coeff", "epsilon", "beta")


def check_number(where: str, key: str, number: float) -> None:
    """Checks one value of a setting, or of its schedule.

    Raises:
        UsageError: It is not finite, or outside the setting's range.
    """
    low, high = -math.inf, math.inf
    if key in _SHARES:
        low, high = 0.0, 1.0
    elif key in _FROM_ZERO or key in _ABOVE_ZERO or key.endswith(_FROM_ZERO_BY_ENDING):
        low = 0.0
    above = key in _ABOVE_ZERO
    if math.isnan(number) or number < low or number > high or (above and number == 0):
        allowed = "numbers from 0 to 1" if high == 1 else f"numbers {'above' if above else 'from'} 0"
        raise UsageError(f"{where}: got {number}, allowed are {allowed if low == 0 else 'numbers'}")
    if math.isinf(number) and not any(word in key for word in _MAY_BE_INFINITE):
        raise UsageError(f"{where}: got {number}, allowed are finite numbers")


def check_schedule(where: str, key: str, pairs: list[list[Any]]) -> None:
    """Checks ``[[step, value], ...]`` in place of a number.

    Raises:
        UsageError: The setting has no schedule; a step or a value that is no number.
    """
    if not pairs or not key.endswith(_SCHEDULES):
        allowed = "a number" if not key.endswith(_SCHEDULES) else "a number or a schedule [[step, value], ...]"
        raise UsageError(f"{where}: got {pairs}, allowed is {allowed}")
    for step, value in pairs:
        for name, number in (("step", step), ("value", value)):
            if checks.as_number(number) is None:
                raise UsageError(f"{where}: got {number!r} as a {name} of the schedule, allowed are numbers")
        check_number(f"{where}: schedule", "", step)
        check_number(f"{where}: schedule", key, value)


def check_block(where: str, block: Mapping[str, Any], known: Iterable[str]) -> None:
    """Checks the keys of a block that RLlib hands on unread, where a misspelt one would have no effect.

    Raises:
        UsageError: A key that is not among RLlib's own, and nearly one of them.
    """
    known = list(known)
    for name in block:
        if did_you_mean(name, known, likeness=0.75):
            raise unknown(where, "key", name, known, "RLlib")
