"""Learners in processes of their own: their errors, which RLlib drops in places, or waits for in vain."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rllib_stpn.errors import PROCESS_DIED, RolloutError

_SECONDS_TO_ANSWER = 10.0


@contextlib.contextmanager
def errors_are_raised(algorithm: Any) -> Iterator[None]:
    """Within, an error of a remote learner is raised, and at once.

    RLlib waits for all learners, of which those without an error may wait for the gradients of the one with it; and
    where they save or restore a checkpoint, it looks at no error.
    """
    manager = _manager_of(algorithm)
    if manager is None:
        yield
        return
    ask, fetch = manager.foreach_actor, manager._fetch_result

    def foreach_actor(*args: Any, **kwargs: Any) -> Any:
        results = ask(*args, **kwargs)
        for result in results:
            if not result.ok:
                raise result.get()
        return results

    def fetch_result(*, remote_calls: Any, timeout_seconds: float | None = None, **kwargs: Any) -> Any:
        if timeout_seconds is None and len(remote_calls) > 1 and _one_fails(remote_calls):
            timeout_seconds = 0.0
        return fetch(remote_calls=remote_calls, timeout_seconds=timeout_seconds, **kwargs)

    manager.foreach_actor, manager._fetch_result = foreach_actor, fetch_result
    try:
        yield
    finally:
        manager.foreach_actor, manager._fetch_result = ask, fetch


def raise_if_one_died(algorithm: Any, error: Exception | None = None) -> None:
    """Raises where a remote learner is gone: RLlib restarts none, and would go on without, or fail elsewhere.

    Args:
        algorithm: The algorithm.
        error: What its iteration raised.

    Raises:
        RolloutError: A learner's process died; or it failed, and there is no error that tells.
    """
    manager = _manager_of(algorithm)
    if manager is None or manager.num_healthy_actors() == manager.num_actors():
        return
    if _one_is_dead(manager.actors().values()):
        raise RolloutError(f"a learner ended: {PROCESS_DIED}") from error
    if error is None:
        raise RolloutError("a learner failed, and RLlib would go on without it (the logs of its process tell why)")


def _manager_of(algorithm: Any) -> Any:
    """The manager of an algorithm's remote learners; None where the learner is a local one."""
    return getattr(getattr(algorithm, "learner_group", None), "_worker_manager", None)


def _one_is_dead(actors: Iterable[Any]) -> bool:
    """Whether an actor's process is gone; RLlib takes those that raised an error for dead as well."""
    import ray

    calls = [actor.__ray_ready__.remote() for actor in actors]
    answered, _ = ray.wait(calls, num_returns=len(calls), timeout=_SECONDS_TO_ANSWER)  # others may wait for one another
    try:
        ray.get(answered)
    except ray.exceptions.RayActorError:
        return True
    return False


def _one_fails(calls: Sequence[Any]) -> bool:
    """Waits until an actor fails, or all have answered."""
    import ray

    waiting = list(calls)
    while waiting:
        answered, waiting = ray.wait(waiting, num_returns=1)
        try:
            ray.get(answered)
        except ray.exceptions.RayError:
            return True
    return False
