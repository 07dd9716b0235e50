"""What stands where in a result of Tune."""

import math
from collections.abc import Mapping
from numbers import Number, Real
from typing import Any

from ray.tune.utils import flatten_dict

from rllib_stpn.rollouts.survival import SURVIVED as SURVIVED


def metric(result: Mapping[str, Any], path: str) -> Any:
    """The value at ``env_runners/episode_return_mean`` of a result, or None where there is none.

    Results are nested as trials report them, and flat, with such paths as keys, as Tune hands them to schedulers.
    """
    if path in result:
        return result[path]
    value: Any = result
    for key in path.split("/"):
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return value


def number(result: Mapping[str, Any], path: str) -> float | None:
    """The finite number at a path of a result, of Python or NumPy, or None where there is none."""
    value = metric(result, path)
    return float(value) if isinstance(value, Real) and math.isfinite(value) else None


def paths_of(result: Mapping[str, Any]) -> dict[str, Number]:
    """The numbers within a nested result by their paths, such as ``env_runners/episode_return_mean``."""
    nested = {key: value for key, value in result.items() if isinstance(value, dict) and key != "config"}
    return {path: value for path, value in flatten_dict(nested).items() if isinstance(value, Number)}
