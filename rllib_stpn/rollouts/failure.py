"""Errors of env runners in words, and as data that a remote runner can return.

RLlib restarts a remote runner that raises, again and again, and logs the error on the runner's machine only. So a
remote runner raises nothing: it returns a ``Failure`` in place of the episodes or the spaces. In another process, the
first use of that ``Failure`` raises its error.
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
    """Returned in place of what an env runner could not give.

    In the runner's own process, where RLlib adds up steps, it absorbs the sum: a number plus a failure is the failure.

    Args:
        error: What is to be raised. Its class takes one text.
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
    """Stores with Ray why this actor is about to end, for :func:`left_by`."""
    from ray.experimental.internal_kv import _internal_kv_put

    if (actor := _actor_id()) is not None:
        _internal_kv_put(_key(actor), text)


def left_by(actor: Any) -> str | None:
    """Why a remote runner ended, as it stored it with :func:`leave`; None where it stored nothing."""
    from ray.experimental.internal_kv import _internal_kv_get

    text = _internal_kv_get(_key(actor._actor_id.hex()))
    return text.decode() if text else None


def note_sample() -> None:
    """Stores with Ray that this actor gave a sample since it began."""
    from ray.experimental.internal_kv import _internal_kv_put

    if (actor := _actor_id()) is not None:
        _internal_kv_put(_key(actor) + "/sampled", "yes")


def sampled_before(actor: Any) -> bool:
    """Whether a remote runner that ended had given a sample since it began; what it stored is forgotten."""
    from ray.experimental.internal_kv import _internal_kv_del

    key = _key(actor._actor_id.hex())
    _internal_kv_del(key)
    return bool(_internal_kv_del(key + "/sampled"))


def is_actor() -> bool:
    """Whether this process is that of an actor of Ray."""
    return _actor_id() is not None


def _actor_id() -> str | None:
    """That of the actor whose process this is; None in other processes."""
    import ray

    return ray.get_runtime_context().get_actor_id() if ray.is_initialized() else None


def _key(actor_id: str) -> str:
    return f"rllib_stpn/failure/{actor_id}"


def raise_if_failed(value: Any) -> None:
    """Raises the error of a failure that came from another process."""
    if isinstance(value, _ArrivedFailure):
        value.reraise()
