"""The keys that an experiment has beside its settings, translated and checked: stop, scheduler, checkpoint_config."""

import math
from typing import Any

from rllib_stpn import checks
from rllib_stpn.errors import UsageError, one_of, unknown
from rllib_stpn.experiments.experiment import Experiment, env_or_task
from rllib_stpn.experiments.old import keys as old_keys
from rllib_stpn.experiments.old import names as old_names
from rllib_stpn.experiments.values import in_words

CHECKPOINT_KEYS = {
    "checkpoint_frequency": int,
    "checkpoint_at_end": bool,
    "num_to_keep": int,
    "checkpoint_score_attribute": str,
    "checkpoint_score_order": str,
}
#: Arguments of schedulers that hold settings.
MUTATIONS = ("hyperparam_mutations", "hyperparam_bounds")
SCHEDULERS = ("fifo", "asha", "pbt", "pb2")
TRACKERS = ("wandb", "mlflow", "aim", "comet")
SEARCH_ALGORITHMS = ("optuna",)
#: Metrics at the top of a result; the others are paths, such as ``env_runners/episode_return_mean``.
TOP_METRICS = (
    "num_env_steps_sampled_lifetime",
    "num_env_steps_sampled_lifetime_throughput",
    "num_training_step_calls_per_iteration",
    "time_since_restore",
    "time_this_iter_s",
    "time_total_s",
    "training_iteration",
    "iterations_since_restore",
)
#: Where the paths of the others begin, on RLlib's new API stack and on its old one.
METRIC_ROOTS = (
    "env_runners",
    "evaluation",
    "learners",
    "timers",
    "env_runner_group",
    "fault_tolerance",
    "replay_buffer",
    "perf",
)
METRIC_ROOTS_OLD_STACK = ("env_runners", "evaluation", "info", "counters", "custom_metrics", "timers", "perf")
#: Metrics at the top of a result of the old stack alone.
TOP_METRICS_OLD_STACK = ("num_env_steps_trained", "timesteps_total", "agent_timesteps_total", "num_agent_steps_trained")
#: The same for supervised training, beside Tune's own. A criterion is met from below, so no loss is one; a run must
#: not stop by its test data.
SUPERVISED_METRICS = ("train_accuracy", "validation_accuracy", "num_sequences_trained_lifetime")
#: Those that trials and checkpoints may be compared by beside these.
SUPERVISED_SCORES = ("train_loss", "validation_loss", "train_perplexity", "validation_perplexity")


def scheduler(where: str, name: Any) -> tuple[str, list[str]]:
    """The scheduler of this name, and a note where Tune calls it otherwise."""
    today, notes = old_keys.scheduler(where, name)
    if today not in SCHEDULERS:
        raise one_of(where, name, SCHEDULERS)
    return today, notes


def search_alg(where: str, value: Any) -> str | None:
    """What draws the values of searches, by its name; None for random draws and grids."""
    if value not in (None, *SEARCH_ALGORITHMS):
        raise one_of(where, value, SEARCH_ALGORITHMS)
    return value


def track(where: str, value: Any) -> dict[str, dict[str, Any]]:
    """The services that get results, from a name, a list of names, or a mapping of names to options."""
    named = [value] if isinstance(value, str) else [] if value is None else value
    block = named if isinstance(named, dict) else dict.fromkeys(named, {}) if _texts(named) else None
    if block is None:
        raise UsageError(f"{where}: got {in_words(value)}, allowed is a name, a list of names, or a mapping of them")
    for service, options in block.items():
        if service not in TRACKERS:
            raise one_of(where, service, TRACKERS)
        if not isinstance(options, dict | None):
            raise UsageError(f"{where}: {service}: got {in_words(options)}, allowed is a mapping of options")
    return {service: dict(options or {}) for service, options in block.items()}


def _texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)


def name(where: str, value: Any) -> str:
    """An experiment's name, which can be a directory's, and no pattern: as one Tune looks for it when it resumes."""
    if not isinstance(value, str) or not value.strip() or value in (".", "..") or set(value) & set("/*?[]"):
        raise UsageError(f"{where}: got {value!r}, allowed is the name of a directory, without * ? [ ]")
    return value


def stop(
    where: str, block: Any, run: str, new_stack: bool, own_metrics: bool = False
) -> tuple[dict[str, float], list[str]]:
    """Stop criteria by the paths of their metrics, and a note for each old name.

    Args:
        where: What holds them.
        block: As given: a mapping of metrics to numbers, or None.
        run: The algorithm.
        new_stack: Whether results are those of RLlib's new API stack.
        own_metrics: Whether callbacks of the user may add metrics, whose names are not known here.
    """
    if block is None:
        return {}, []
    if not isinstance(block, dict):
        raise UsageError(f"{where}: got {in_words(block)}, allowed is a mapping of metrics to numbers")
    block, notes = old_names.translate_stop(where, block, new_stack)
    criteria = {}
    for metric, value in block.items():
        check_metric(where, metric, run, new_stack, own_metrics)
        number = checks.as_number(value)
        if number is None or not math.isfinite(number):
            finite = "a number" if number is None else "a finite number"
            raise UsageError(f"{where}: {metric}: got {in_words(value)}, allowed is {finite}")
        if number <= 0 and metric in TOP_METRICS:
            raise UsageError(f"{where}: {metric}: got {value}, which the first result reaches, allowed are more than 0")
        if metric in ("train_accuracy", "validation_accuracy") and not 0 < number <= 1:
            raise UsageError(f"{where}: {metric}: got {value}, allowed is a number above 0 and up to 1")
        criteria[metric] = number
    return criteria, notes


def check_metric(
    where: str, metric: Any, run: str, new_stack: bool, own_metrics: bool = False, scores: bool = False
) -> None:
    """Refuses a metric that no result can have; for the arguments see :func:`stop`.

    With ``scores`` those of supervised training are allowed that are better the lower they are.
    """
    known: tuple[str, ...] = (*TOP_METRICS, *old_names.METRIC_SHORTHANDS, "env_runners/episode_len_mean")
    known += () if new_stack else TOP_METRICS_OLD_STACK
    if env_or_task(run) == "task":
        known = (
            *SUPERVISED_METRICS,
            *(SUPERVISED_SCORES if scores else ()),
            *(name for name in TOP_METRICS if not name.startswith("num_")),
        )
    elif isinstance(metric, str) and "/" in metric:
        root = metric.partition("/")[0]
        roots = METRIC_ROOTS if new_stack else METRIC_ROOTS_OLD_STACK
        if own_metrics or root in roots:
            return
        raise UsageError(f"{where}: got the path {metric!r}, allowed are those that begin with {', '.join(roots)}")
    if metric not in known and not (own_metrics and isinstance(metric, str)):
        raise unknown(where, "metric", metric, known)


def scheduler_config(experiment: Experiment) -> tuple[dict[str, Any], list[str]]:
    """A scheduler's arguments with the settings and metrics in them under today's names."""
    where = f"{experiment.where}: scheduler_config"
    arguments, notes = dict(experiment.scheduler_config), []
    for key in MUTATIONS:
        if isinstance(arguments.get(key), dict):
            inside = f"{where}: {key}"
            arguments[key], more = old_names.translate_config(
                inside, arguments[key], experiment.algorithm, experiment.new_stack
            )
            notes += more
    for key in ("metric", "time_attr"):
        if isinstance(arguments.get(key), str) and env_or_task(experiment.algorithm) == "task":
            check_metric(f"{where}: {key}", arguments[key], experiment.algorithm, True, scores=key == "metric")
        elif isinstance(arguments.get(key), str):
            named, more = old_names.translate_stop(f"{where}: {key}", {arguments[key]: 0}, experiment.new_stack)
            (arguments[key],) = named
            check_metric(f"{where}: {key}", arguments[key], experiment.algorithm, experiment.new_stack)
            notes += more
    return arguments, notes


def checkpoint(where: str, block: Any, run: str, new_stack: bool) -> dict[str, Any]:
    """The arguments of Tune's ``CheckpointConfig`` that are given, with the score as a metric's path."""
    if block is None:
        return {}
    if not isinstance(block, dict):
        raise UsageError(f"{where}: got {in_words(block)}, allowed is a mapping")
    for key, value in block.items():
        if key not in CHECKPOINT_KEYS:
            raise unknown(where, "key", key, CHECKPOINT_KEYS)
        if value is None:
            continue
        kind = CHECKPOINT_KEYS[key]
        if kind is int:
            checks.integer(f"{where}: {key}", value, at_least=1 if key == "num_to_keep" else 0)
        elif not isinstance(value, kind):
            expected = "true or false" if kind is bool else "a string"
            raise UsageError(f"{where}: {key}: got {in_words(value)}, allowed is {expected}")
    order = block.get("checkpoint_score_order")
    if order not in (None, "min", "max"):
        raise UsageError(f"{where}: checkpoint_score_order: got {order!r}, allowed are 'min', 'max'")
    block = {key: value for key, value in block.items() if value is not None}
    score = block.get("checkpoint_score_attribute")
    if score:
        if score.startswith("min-"):  # as Tune wrote it once
            score, block["checkpoint_score_order"] = score.removeprefix("min-"), "min"
        if env_or_task(run) == "env":
            (score,) = old_names.translate_stop(where, {score: 0.0}, new_stack)[0]
        check_metric(f"{where}: checkpoint_score_attribute", score, run, new_stack, scores=True)
        block["checkpoint_score_attribute"] = score
    return block
