"""What RLlib sends to remote env runners when it restores and evaluates: with this, all of it arrives.

RLlib sends an env runner no state while an earlier one is on its way (``max_requests_in_flight_per_env_runner``), and
says nothing. Between samples that does no harm. But the weights of a checkpoint are dropped for the fresh ones of the
build, and before an evaluation the statistics of filters are dropped for the weights. And env runners and learners pass
over weights with a lower number than their own, as those of an earlier checkpoint have.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from ray.rllib.core import COMPONENT_ENV_TO_MODULE_CONNECTOR, COMPONENT_MODULE_TO_ENV_CONNECTOR
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO

_SET_STATE = "set_state"
"""RLlib's tag of requests that carry weights, connectors' states and counts."""


def let_states_arrive(algorithm: Any) -> None:
    """Has env runners act with what was restored, and those of evaluation with training's statistics of filters."""
    for name, during in {"restore_from_path": _restoring, "set_state": _restoring, "evaluate": _evaluating}.items():
        setattr(algorithm, name, _within(during, algorithm, getattr(algorithm, name)))


def _within(during: Callable[[Any], Any], algorithm: Any, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def within(*args: Any, **kwargs: Any) -> Any:
        with during(algorithm):
            return method(*args, **kwargs)

    return within


@contextlib.contextmanager
def _restoring(algorithm: Any) -> Iterator[None]:
    config, seconds = algorithm.config, algorithm.config.env_runner_restore_timeout_s
    if not config.enable_env_runner_and_connector_v2:  # whose weights have no numbers, and are not dropped
        yield
        return
    _forget_in_server(algorithm, seconds)
    if algorithm.learner_group is not None:
        algorithm.learner_group.foreach_learner(_forget_number)
    with contextlib.ExitStack() as within_all:
        for group in filter(None, (algorithm.env_runner_group, algorithm.eval_env_runner_group)):
            group.foreach_env_runner(_forget_number, timeout_seconds=seconds)
            within_all.enter_context(_none_is_dropped(group, seconds))
        yield


def _forget_number(runner_or_learner: Any) -> None:
    runner_or_learner._weights_seq_no = 0


def _forget_in_server(algorithm: Any, seconds: float) -> None:
    """Leaves nothing of before in the actor that IMPALA's env runners ask for newer weights."""
    server = getattr(algorithm, "_env_runner_state_server", None)
    if server is not None:
        import ray

        ray.wait([server.push.remote({WEIGHTS_SEQ_NO: -1})], timeout=seconds)


@contextlib.contextmanager
def _evaluating(algorithm: Any) -> Iterator[None]:
    group = algorithm.eval_env_runner_group
    if group is None or not algorithm.config.enable_env_runner_and_connector_v2:
        yield
        return
    _merge_statistics(algorithm)
    local, of_training = algorithm.eval_env_runner, algorithm.env_runner
    if local is not None and of_training is not None:  # RLlib sends them to remote ones alone
        components = [COMPONENT_ENV_TO_MODULE_CONNECTOR, COMPONENT_MODULE_TO_ENV_CONNECTOR]
        local.set_state(of_training.get_state(components=components))
    with _none_is_dropped(group, algorithm.config.evaluation_sample_timeout_s):
        yield


def _merge_statistics(algorithm: Any) -> None:
    """Merges what training's remote env runners have seen, as RLlib does at the end of an iteration, after evaluation.

    Not beside a training under way, nor for IMPALA and APPO, which merge with each sample.
    """
    group, config = algorithm.env_runner_group, algorithm.config
    if config.evaluation_parallel_to_training or config._dont_auto_sync_env_runner_states:
        return
    if group is None or not group.num_healthy_remote_env_runners():
        return
    # A merged state that was dropped would be counted again with the next.
    with _none_is_dropped(group, config.env_runner_restore_timeout_s):
        group.sync_env_runner_states(
            config=config,
            env_to_module=algorithm.env_to_module_connector,
            module_to_env=algorithm.module_to_env_connector,
        )


@contextlib.contextmanager
def _none_is_dropped(group: Any, seconds: float) -> Iterator[None]:
    """Within, a state is sent when the one before has arrived, or after so many seconds.

    The env runner has it before it samples: it does one thing after the other.
    """
    send = group.foreach_env_runner_async_fetch_ready

    def send_after_the_one_before(*args: Any, tag: str | None = None, **kwargs: Any) -> Any:
        if tag == _SET_STATE:
            group.fetch_ready_async_reqs(tags=tag, timeout_seconds=seconds)
        return send(*args, tag=tag, **kwargs)

    group.foreach_env_runner_async_fetch_ready = send_after_the_one_before
    try:
        yield
    finally:
        group.foreach_env_runner_async_fetch_ready = send
