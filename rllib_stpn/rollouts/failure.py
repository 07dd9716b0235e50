"""Errors of env runners in words, and as data that a remote runner can return.

RLlib restarts a remote runner that raises, again and again, and logs the error on the runner's machine only. So a
remote runner raises nothing: it returns a ``Failure`` in place of the episodes or the spaces. In another process, the
first use of that ``Failure`` raises its error.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from typing import Any, NoReturn

from rllib_stpn.errors import PROCESS_DIED, RemoteTraceback, RolloutError, UsageError, in_words, place_of

_BEGUN = "/begun"
_MOST_ENDS = 2  # of a runner that is being made; it would end for ever


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


@contextlib.contextmanager
def telling(where: str, passes: tuple[type[Exception], ...] = (UsageError,)) -> Iterator[None]:
    """Within, what the user's environment raises is raised as a ``RolloutError`` that says where.

    Args:
        where: In words, such as which environment at which step.
        passes: What is raised as it is.
    """
    try:
        yield
    except passes:
        raise
    except Exception as error:
        raise rollout_error(error, where) from error


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
    """Why a remote runner ended, as it stored it with :func:`leave`; None where it stored nothing.

    Args:
        actor: Its handle, or the hexadecimal text of its id.
    """
    return _stored(_key(actor if isinstance(actor, str) else actor._actor_id.hex()))


def begin_again(worker_index: int) -> None:
    """Called as a remote runner begins to be made; :func:`note_made` says that it came to the end.

    Ray restarts an actor whose process ends meanwhile, up to ``max_num_env_runner_restarts`` times, a thousand by
    default, and whoever made the actor waits for that, in silence. The first time a line is stored that
    :func:`told_by_restarted` and :func:`told_in_job` give.

    Raises:
        RolloutError: It ended twice before.
    """
    from ray.experimental.internal_kv import _internal_kv_put

    if (actor := _actor_id()) is None:
        return
    key = _key(actor)
    ended = int(_stored(key + _BEGUN) or 0)
    if ended:
        why = _stored(key) or PROCESS_DIED
        if ended >= _MOST_ENDS:
            raise RolloutError(f"env runner {worker_index} ended {ended} times as it was made: {why}")
        told = f"env runner {worker_index} ended as it was made, and begins anew (restart_failed_env_runners): {why}"
        _internal_kv_put(_restart_of(actor), told)
    _internal_kv_put(key + _BEGUN, str(ended + 1))


def note_made() -> None:
    """Stores with Ray that this actor was made, see :func:`begin_again`."""
    from ray.experimental.internal_kv import _internal_kv_del

    if (actor := _actor_id()) is not None:
        _internal_kv_del(_key(actor) + _BEGUN)


def told_in_job() -> list[str]:
    """What this job's env runners told that ended as they were made, and began anew; each line once."""
    import ray
    from ray.experimental.internal_kv import _internal_kv_list

    keys = _internal_kv_list(_restarts_in(ray.get_runtime_context().get_job_id()))
    return [told for key in keys for told in _take(key)]


def told_by_restarted(actor: Any) -> list[str]:
    """The same of one remote runner."""
    return _take(_restart_of(actor._actor_id.hex()))


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


def _restart_of(actor_id: str) -> str:
    return _restarts_in(actor_id[-8:]) + actor_id  # an id ends with its job's


def _restarts_in(job_id: str) -> str:
    return f"rllib_stpn/restarts/{job_id}/"


def _take(key: str | bytes) -> list[str]:
    from ray.experimental.internal_kv import _internal_kv_del

    if (told := _stored(key)) is None:
        return []
    _internal_kv_del(key)
    return [told]


def _stored(key: str | bytes) -> str | None:
    from ray.experimental.internal_kv import _internal_kv_get

    text = _internal_kv_get(key)
    return text.decode() if text else None


def raise_if_failed(value: Any) -> None:
    """Raises the error of a failure that came from another process."""
    if isinstance(value, _ArrivedFailure):
        value.reraise()
