"""Callbacks of the user's own: whether RLlib can call them."""

import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from rllib_stpn.errors import UsageError

if TYPE_CHECKING:
    from ray.rllib.algorithms import AlgorithmConfig

#: Arguments that only the old API stack passes.
_OLD_ARGUMENTS = {"worker", "base_env", "policies"}
_OLD_METHODS = {
    "on_create_policy",
    "on_learn_on_batch",
    "on_postprocess_trajectory",
    "on_sub_environment_created",
    "on_workers_recreated",
}


def check(config: "AlgorithmConfig") -> list[str]:
    """Checks what the callbacks of a configuration of the new API stack take.

    Returns:
        A note for each method that is never called.

    Raises:
        UsageError: One needs an argument that is not passed, or does not take one that is.
    """
    from ray.rllib.callbacks.callbacks import RLlibCallback

    notes = []
    for name, event, function in _functions(config):
        if event in _OLD_METHODS:
            notes.append(f"callbacks: {name} is never called: it is of the old API stack")
            continue
        passed = inspect.signature(getattr(RLlibCallback, event)).parameters.values()
        named = [each.name for each in passed if each.kind is each.KEYWORD_ONLY and each.name not in _OLD_ARGUMENTS]
        try:
            inspect.signature(function).bind(**dict.fromkeys(named))
        except TypeError as error:
            raise UsageError(f"callbacks: {name}: {error}; passed are {', '.join(named)}: take **kwargs, too") from None
    return notes


def _functions(config: "AlgorithmConfig") -> Iterator[tuple[str, str, Callable]]:
    """What the user has defined: its name in words, the event it is called for, and what is called."""
    from ray.rllib.callbacks.callbacks import RLlibCallback
    from ray.rllib.utils import force_list

    events = [name for name in vars(RLlibCallback) if name.startswith("on_")]
    evaluation = config.evaluation_config if isinstance(config.evaluation_config, dict) else {}
    given: list[Any] = [*force_list(config.callbacks_class), *force_list(evaluation.get("callbacks_class"))]
    for kind in (getattr(each, "func", each) for each in given):  # options come with functools.partial
        ours = getattr(kind, "__module__", "").startswith("rllib_stpn.")  # for both API stacks
        for event in events if isinstance(kind, type) and issubclass(kind, RLlibCallback) and not ours else ():
            method = getattr(kind, event)
            if method is not getattr(RLlibCallback, event):
                yield f"{kind.__name__}.{event}", event, method.__get__(kind)
    for event in events:
        for function in force_list(getattr(config, f"callbacks_{event}", None)):
            yield f"{event}={getattr(function, '__name__', function)}", event, function
