"""What became of an algorithm's env runners, told in its results.

RLlib's fault settings let a run go on where env runners fail, with a line in a log at most. Here each result says
what was survived since the one before, and how many steps and episodes were lost. A run that cannot go on ends with
the cause.
"""

from __future__ import annotations

import functools
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ray.exceptions import RayActorError
from ray.rllib.utils import force_list
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME

from rllib_stpn.errors import PROCESS_DIED, RolloutError
from rllib_stpn.learners import remote
from rllib_stpn.rollouts.arrival import let_states_arrive
from rllib_stpn.rollouts.episode_runner import EPISODES_DROPPED, STEPS_DROPPED, EpisodeEnvRunner
from rllib_stpn.rollouts.episode_runner import SURVIVED as NUM_SURVIVED
from rllib_stpn.rollouts.failure import left_by, sampled_before, told_by_restarted

SURVIVED = "survived"
"""Where a result has what was survived since the one before, a line each."""
_ENDS_IN_A_ROW = 3
_SECONDS_TO_ANSWER = 60.0
_GROUPS = {"env_runners": "env_runner_group", "evaluation/env_runners": "eval_env_runner_group"}

logger = logging.getLogger("ray.rllib")


def died_in_setup(error: RayActorError) -> RolloutError:
    """What a run ends with when a process was gone before it began; ``error`` is what Ray raised."""
    told = left_by(error.actor_id) if error.actor_id else None
    return RolloutError(told or f"an env runner or learner ended as it was made, before its first step: {PROCESS_DIED}")


def telling_failures(config: Any) -> Any:
    """Has the results of an algorithm say which failures it survived, and what was lost by them.

    Each result has ``num_env_steps_dropped_lifetime`` and ``num_episodes_dropped_lifetime`` and, where something
    happened, ``survived``: a list of lines, which are logged as well. An iteration that fails for want of an env runner
    or learner says why that ended. Env runners also act with a restored checkpoint's weights from their first sample
    on, and those of evaluation filter observations as training does (``arrival.py``). ``use_batched_rollouts`` does
    this by itself; call it for ``EpisodeEnvRunner`` in a config of your own. It uses the callbacks
    ``on_algorithm_init``, ``on_train_result`` and ``on_env_runners_recreated``: add yours to the lists that ``config``
    then has.

    Args:
        config: An ``AlgorithmConfig`` of the new API stack; changed in place.

    Returns:
        ``config``.
    """
    callbacks = {"on_algorithm_init": tell_why, "on_train_result": tell, "on_env_runners_recreated": renew}
    for name, function in callbacks.items():
        functions = force_list(getattr(config, f"callbacks_{name}"))
        if function not in functions:
            config.callbacks(**{name: [function, *functions]})
    return config


class _Told:
    """What an algorithm's results have told so far."""

    def __init__(self) -> None:
        self.sampled = 0
        self.begun = False
        self.down: set[int] = set()
        self.renewed: list[tuple[int, str]] = []
        self.ends: Counter[int] = Counter()  # of each env runner, without a sample in between
        self.timed_out = 0
        self.survived = dict.fromkeys(_GROUPS, 0.0)
        self.steps = self.episodes = 0  # lost with processes, or too late


def tell_why(*, algorithm: Any, **_: Any) -> None:
    """Has an algorithm's iterations and checkpoints raise why an env runner or learner ended, or what a learner raised.

    RLlib raises only that one ended, or, of learners that save or restore their part of a checkpoint, nothing: the
    checkpoint would lack that part, or the learner go on with its first weights. Nor is what a checkpoint restores
    lost on the way to remote env runners (``arrival.py``).
    """
    let_states_arrive(algorithm)
    for name in ("step", "save_to_path", "restore_from_path"):
        setattr(algorithm, name, _telling(algorithm, getattr(algorithm, name)))


def _telling(algorithm: Any, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def told(*args: Any, **kwargs: Any) -> Any:
        try:
            with remote.errors_are_raised(algorithm):
                return method(*args, **kwargs)
        except Exception as error:
            raise_if_none_is_left(algorithm, error)
            remote.raise_if_one_died(algorithm, error)
            raise

    return told


def tell(*, algorithm: Any, result: dict[str, Any], **_: Any) -> None:
    """Puts into a result what its algorithm has survived since the one before.

    Raises:
        RolloutError: No env runner is left, one of them ends again and again without a sample in between, or a
            remote learner is gone.
    """
    told = _told_by(algorithm)
    raise_if_none_is_left(algorithm)
    remote.raise_if_one_died(algorithm)
    lines = [*_made_again(told, algorithm), *_renewed(told, algorithm), *_lost(told, algorithm)]
    lines += [*_timed_out(told, algorithm), *_survived(told, algorithm, result)]
    if lines:
        result[SURVIVED] = lines
        for line in lines if algorithm.config.num_env_runners else ():  # a local one has logged them
            logger.warning(line)
    if algorithm.config.num_env_runners:  # RLlib leaves it out where nothing was sampled
        result.setdefault(ENV_RUNNER_RESULTS, {})
    of_runners = result.get(ENV_RUNNER_RESULTS) or {}
    result[STEPS_DROPPED] = told.steps + int(of_runners.get(STEPS_DROPPED) or 0)
    result[EPISODES_DROPPED] = told.episodes + int(of_runners.get(EPISODES_DROPPED) or 0)
    counted = result if NUM_ENV_STEPS_SAMPLED_LIFETIME in result else of_runners  # the old API stack's, the new one's
    sampled = counted.get(NUM_ENV_STEPS_SAMPLED_LIFETIME) or 0
    if sampled == told.sampled and algorithm.config.num_env_runners and not algorithm.config.is_offline:
        _wait_for_env_runners(algorithm)
    told.sampled = sampled


def renew(*, algorithm: Any, env_runner_group: Any, env_runner_indices: Sequence[int], **_: Any) -> None:
    """Gives env runners that RLlib has restarted the present weights and the count of steps.

    RLlib gives them those of the local env runner; for IMPALA and APPO these are the first ones.

    Raises:
        RolloutError: One of them ended again and again without a sample in between.
    """
    if env_runner_group is not algorithm.env_runner_group:
        return
    env_runner_group.sync_weights(
        from_worker_or_learner_group=algorithm.learner_group,
        to_worker_indices=list(env_runner_indices),
        inference_only=True,
    )
    steps = algorithm.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0)
    env_runner_group.foreach_env_runner(
        functools.partial(_set_state, {NUM_ENV_STEPS_SAMPLED_LIFETIME: int(steps)}),
        local_env_runner=False,
        remote_worker_ids=list(env_runner_indices),
        timeout_seconds=algorithm.config.env_runner_restore_timeout_s,
    )
    told = _told_by(algorithm)
    actors = env_runner_group._worker_manager.actors()
    for index in env_runner_indices:
        reason = left_by(actors[index])
        told.ends[index] = 1 if sampled_before(actors[index]) else told.ends[index] + 1
        told.renewed.append((index, reason or ""))
        if told.ends[index] >= _ENDS_IN_A_ROW:
            raise RolloutError(
                f"env runner {index} has ended {told.ends[index]} times without a sample in between: "
                f"{reason or PROCESS_DIED}"
            )


def _set_state(state: dict[str, Any], runner: Any) -> None:
    runner.set_state(state)


def raise_if_none_is_left(algorithm: Any, error: Exception | None = None) -> None:
    """Raises where the fault settings leave an algorithm without an env runner.

    Args:
        algorithm: The algorithm.
        error: What RLlib raised, which says less.

    Raises:
        RolloutError: None is left, or RLlib raised since one ended.
    """
    down = _down(algorithm)
    if not down or algorithm.config.restart_failed_env_runners:
        return
    if len(down) == algorithm.config.num_env_runners:
        told = "; ".join(dict.fromkeys(filter(None, down.values())))
        raise RolloutError(f"no env runner is left: {told or PROCESS_DIED}") from error
    if error is not None and not algorithm.config.ignore_env_runner_failures:
        (index, reason), *_ = down.items()
        raise RolloutError(
            f"env runner {index} ended: {reason or PROCESS_DIED} (restart_failed_env_runners is off)"
        ) from error


def _told_by(algorithm: Any) -> _Told:
    return algorithm.__dict__.setdefault("_told_failures", _Told())


def _down(algorithm: Any) -> dict[int, str | None]:
    """The remote env runners that are down, and what they left."""
    if algorithm.env_runner_group is None or not algorithm.config.num_env_runners:
        return {}
    manager = algorithm.env_runner_group._worker_manager
    return {i: left_by(actor) for i, actor in manager.actors().items() if not manager.is_actor_healthy(i)}


def _made_again(told: _Told, algorithm: Any) -> Iterator[str]:
    """Env runners that ended as they were made, at first or when they were restarted."""
    if algorithm.env_runner_group is None:
        return
    actors = algorithm.env_runner_group._worker_manager.actors()
    for index in [index for index, _ in told.renewed] if told.begun else actors:
        yield from told_by_restarted(actors[index])
    told.begun = True


def _renewed(told: _Told, algorithm: Any) -> Iterator[str]:
    for index, reason in told.renewed:
        if index in told.down:
            yield f"env runner {index} is back, with the present weights"
        else:
            lost = _lose_sample(told, algorithm, index, reason)
            yield f"env runner {index} ended and began anew, with the present weights: {reason or PROCESS_DIED}; {lost}"
    told.renewed.clear()


def _lost(told: _Told, algorithm: Any) -> Iterator[str]:
    down = _down(algorithm)
    goes_on = "RLlib restarts it" if algorithm.config.restart_failed_env_runners else "the run goes on without it"
    for index in sorted(set(down) - told.down):
        lost = _lose_sample(told, algorithm, index, down[index])
        yield f"env runner {index} is down: {down[index] or PROCESS_DIED}; {goes_on}; {lost}"
    told.down = set(down)


def _lose_sample(told: _Told, algorithm: Any, index: int, reason: str | None) -> str:
    """Counts what was lost with a process, and says it."""
    config = algorithm.config
    steps = 0 if reason else config.get_rollout_fragment_length(index) * config.num_envs_per_env_runner
    told.steps += steps
    told.episodes += config.num_envs_per_env_runner
    return f"dropped: up to {steps} steps, {config.num_envs_per_env_runner} episodes under way"


def _timed_out(told: _Told, algorithm: Any) -> Iterator[str]:
    """Samples that came later than ``sample_timeout_s``, which RLlib leaves out."""
    group, config = algorithm.env_runner_group, algorithm.config
    count = group.num_env_runners_dropped_lifetime() if group is not None else 0
    if new := count - told.timed_out:
        steps = new * config.get_rollout_fragment_length(1) * config.num_envs_per_env_runner
        told.steps += steps
        yield f"{new} samples took longer than sample_timeout_s ({config.sample_timeout_s:g} s); dropped: {steps} steps"
    told.timed_out = count


def _survived(told: _Told, algorithm: Any, result: dict[str, Any]) -> Iterator[str]:
    """What env runners have survived in their own process."""
    for path, name in _GROUPS.items():
        group: Any = getattr(algorithm, name)
        of_group: Any = result
        for key in path.split("/"):
            of_group = of_group.get(key) or {}
        count = of_group.get(NUM_SURVIVED) or 0
        if count > told.survived[path]:
            for of_runner in group.foreach_env_runner(lambda runner: runner.take_survived()):
                yield from of_runner[-1:]
                if len(of_runner) > 1:
                    yield f"and {len(of_runner) - 1} more"
        told.survived[path] = count


def _wait_for_env_runners(algorithm: Any) -> None:
    """Waits until those that restart are there, for want of which there was no sample.

    Raises:
        RayTaskError: What was raised in a runner of the old API stack, or of several agents: RLlib restarts these for
            ever, and only logs why.
    """
    import ray

    ours = issubclass(algorithm.config.env_runner_cls or object, EpisodeEnvRunner)
    deadline = time.monotonic() + _SECONDS_TO_ANSWER
    for runner in algorithm.env_runner_group._worker_manager.actors().values():
        while (left := deadline - time.monotonic()) > 0:
            try:
                ray.get((runner.ping if ours else runner.sample).remote(), timeout=left)
                break
            except ray.exceptions.GetTimeoutError:
                break
            except ray.exceptions.RayActorError:  # It restarts.
                time.sleep(1)
