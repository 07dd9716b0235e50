"""What stands where in a result of Tune."""

from collections.abc import Mapping
from typing import Any

#: Where a result has what its trial survived, as RLlib's fault settings say: one line each.
SURVIVED = "survived"


def metric(result: Mapping[str, Any], path: str) -> Any:
    """The value at ``env_runners/episode_return_mean`` of a nested result, or None where there is none."""
    value: Any = result
    for key in path.split("/"):
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return value
