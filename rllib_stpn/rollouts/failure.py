"""What a remote env runner returns where it failed: the error, as data.

RLlib restarts a remote runner that raises, again and again, and logs what was raised on the runner's machine alone. So
nothing is raised there: a ``Failure`` stands where the episodes, or the spaces, should be, and raises its error once it
has reached another process, as soon as anything is done with it.
"""

from __future__ import annotations

import traceback
from typing import Any, NoReturn

from rllib_stpn.errors import RemoteTraceback, RolloutError, UsageError, in_words, place_of


def name_of(index: int | None, worker_index: int) -> str:
    """What an error calls an environment of an env runner; without an index, one of them."""
    return f"{'an environment' if index is None else f'environment {index}'} of env runner {worker_index}"


def rollout_error(error: BaseException, where: str) -> RolloutError:
    """The error that tells the user of another one.

    Args:
        error: What was raised; it becomes the cause.
        where: In words, such as which environment at which step.
    """
    place = place_of(error)
    told = RolloutError(f"{in_words(error)} ({where}{f'; {place}' if place else ''})")
    told.__cause__ = error
    return told


def as_error(error: Exception, worker_index: int) -> RolloutError | UsageError:
    """An error raised anywhere in an env runner, as one that the user can read."""
    if isinstance(error, RolloutError | UsageError):
        return error
    return rollout_error(error, f"env runner {worker_index}")


class Failure:
    """Stands for what an env runner could not return.

    In the runner's own process it counts as a number of steps that nothing can be added to.

    Args:
        error: Why. Its class takes one text.
        text: Its traceback, where it was raised in another process; else that of ``error``.
    """

    def __init__(self, error: RolloutError | UsageError, text: str | None = None) -> None:
        self._error = error
        self._text = text or "".join(traceback.format_exception(error))

    def __reduce__(self) -> tuple[Any, ...]:
        return _ArrivedFailure, (type(self._error)(str(self._error)), self._text)

    def env_steps(self) -> Failure:
        """Itself: RLlib adds up the steps of evaluation in the runner's own process."""
        return self

    agent_steps = env_steps

    def __radd__(self, other: Any) -> Failure:
        return self


class _ArrivedFailure(Failure):
    """A failure in another process: whatever is done with it raises."""

    def reraise(self) -> NoReturn:
        raise type(self._error)(str(self._error)) from RemoteTraceback(self._text)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self.reraise()

    def _use(self, *args: Any) -> Any:
        self.reraise()

    env_steps = agent_steps = __radd__ = __len__ = __iter__ = __getitem__ = _use  # type: ignore[assignment]


def leave(text: str) -> None:
    """Leaves with Ray why this process, that of a runner, is about to end."""
    import ray
    from ray.experimental.internal_kv import _internal_kv_put

    _internal_kv_put(_key(ray.get_runtime_context().get_actor_id()), text)


def left_by(actor: Any) -> str | None:
    """What a remote runner left."""
    from ray.experimental.internal_kv import _internal_kv_get

    text = _internal_kv_get(_key(actor._actor_id.hex()))
    return text.decode() if text else None


def _key(actor_id: str) -> str:
    return f"rllib_stpn/failure/{actor_id}"


def raise_if_failed(value: Any) -> None:
    """Raises the error of a failure that came from another process."""
    if isinstance(value, _ArrivedFailure):
        value.reraise()
